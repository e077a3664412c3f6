//! Accuracies over several seeds as a picture: a row a network, with a ring a seed, a bar for the mean and a line for its
//! 95 % interval.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::several::{EntryReport, NetworkReport, percent, range};
use super::{Drawn, INK, colour, described};
use crate::error::{Failure, Result};
use crate::statistics::Summary;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Its width, and the height of a row, in pixels.
const WIDTH: i32 = 900;
const ROW: i32 = 30;
/// Above the rows, for the title; below them, for the axis and what the marks are.
const ABOVE: i32 = 48;
const BELOW: i32 = 84;
/// At the left, for the names; at the right, for the numbers.
const LEFT: i32 = 150;
const RIGHT: i32 = 190;

/// Draws the networks of the entries below each other, as SVG.
///
/// # Errors
/// If it cannot be drawn.
pub fn picture(entries: &[EntryReport]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, entries).map_err(|error| Failure::work(format!("cannot draw the accuracies: {error}")))?;
    let told: String = entries.iter().map(in_words).collect();
    Ok(described(svg, &title(entries), &told))
}

fn title(entries: &[EntryReport]) -> String {
    match entries {
        [entry] => format!("Held-out accuracy of {}, by seed", entry.name),
        _ => "Held-out accuracy, by seed".to_owned(),
    }
}

// The picture for those who cannot see it.
fn in_words(entry: &EntryReport) -> String {
    let network = |found: &NetworkReport| {
        let interval = found.summary.interval.map(|_| format!(", 95 % interval {}", range(found.summary.interval)));
        let (name, mean, seeds) = (found.network.name(), percent(found.summary.mean), found.summary.count);
        let of = if seeds == 1 { "1 seed".to_owned() } else { format!("{seeds} seeds") };
        format!("{}, {name}: {mean} over {of}{}. ", entry.name, interval.unwrap_or_default())
    };
    entry.networks.iter().map(network).collect()
}

// A round step that parts `span` into about five.
fn step(span: f64) -> f64 {
    let raw = span / 5.0;
    let scale = 10.0_f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * scale).find(|step| *step >= raw).unwrap_or(10.0 * scale)
}

/// From where to where an axis of percentages goes, and the step of its ticks.
pub(super) struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Scale {
    /// That of all that is shown of these: every value, and every interval as far as it is a percentage.
    pub fn of<'a>(summaries: impl Iterator<Item = &'a Summary>) -> Self {
        let (mut low, mut high) = (100.0_f64, 0.0_f64);
        for found in summaries {
            let ends = found.interval.map(|interval| [interval.low, interval.high]);
            for value in [found.least, found.greatest].into_iter().chain(ends.into_iter().flatten()) {
                let value = (100.0 * value).clamp(0.0, 100.0);
                (low, high) = (low.min(value), high.max(value));
            }
        }
        let step = step((high - low).max(1.0));
        let low = (low / step).floor() * step;
        Self { low, high: ((high / step).ceil() * step).max(low + step), step }
    }

    /// Where a fraction stands on it, from 0 to 1.
    pub fn share(&self, value: f64) -> f64 {
        ((100.0 * value).clamp(self.low, self.high) - self.low) / (self.high - self.low)
    }

    /// The fraction and the name of each tick.
    pub fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(move |tick| {
            let value = self.low + tick as f64 * self.step;
            (value / 100.0, if self.step < 1.0 { format!("{value:.1}") } else { format!("{value:.0}") })
        })
    }
}

fn text(pixels: i32, colour: RGBColor, at: HPos) -> TextStyle<'static> {
    ("sans-serif", pixels).into_font().color(&colour).pos(Pos::new(at, VPos::Center))
}

// A name that has room at the left.
fn short(name: &str) -> String {
    let longest = 20;
    if name.chars().count() <= longest {
        return name.to_owned();
    }
    name.chars().take(longest - 1).chain(['…']).collect()
}

fn draw(svg: &mut String, entries: &[EntryReport]) -> Drawn {
    let many = entries.len() > 1;
    let networks: usize = entries.iter().map(|entry| entry.networks.len()).sum();
    let rows = networks + if many { entries.len() } else { 0 };
    let bottom = ABOVE + rows as i32 * ROW;
    let root = SVGBackend::with_string(svg, (WIDTH as u32, (bottom + BELOW) as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(title(entries), (WIDTH / 2, 22), text(16, INK, HPos::Center)))?;
    let scale = Scale::of(entries.iter().flat_map(|entry| &entry.networks).map(|network| &network.summary));
    let x = |value: f64| LEFT + (scale.share(value) * f64::from(WIDTH - LEFT - RIGHT)).round() as i32;
    for (value, label) in scale.ticks() {
        let at = x(value);
        root.draw(&PathElement::new([(at, ABOVE), (at, bottom)], RGBColor(225, 225, 225)))?;
        root.draw(&Text::new(label, (at, bottom + 12), text(13, INK, HPos::Center)))?;
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2;
    root.draw(&Text::new("held-out samples that are right (%)", (middle, bottom + 34), text(13, INK, HPos::Center)))?;
    let key = "ring: a seed · bar: their mean · line: its 95 % interval";
    root.draw(&Text::new(key, (middle, bottom + 60), text(12, INK, HPos::Center)))?;
    let mut y = ABOVE + ROW / 2;
    for entry in entries {
        if many {
            root.draw(&Text::new(entry.name.clone(), (12, y), text(14, INK, HPos::Left)))?;
            y += ROW;
        }
        for network in &entry.networks {
            row(&root, network, y, &x)?;
            y += ROW;
        }
    }
    root.present()?;
    Ok(())
}

fn row(root: &Area<'_>, network: &NetworkReport, y: i32, x: &dyn Fn(f64) -> i32) -> Drawn {
    let (found, own) = (&network.summary, colour(network.network));
    root.draw(&Text::new(short(network.network.name()), (LEFT - 12, y), text(13, own, HPos::Right)))?;
    if let Some(interval) = found.interval {
        let style = ShapeStyle { color: own.to_rgba(), filled: true, stroke_width: 2 };
        root.draw(&PathElement::new([(x(interval.low), y), (x(interval.high), y)], style))?;
    }
    for accuracy in &network.accuracies {
        let style = ShapeStyle { color: own.to_rgba(), filled: false, stroke_width: 1 };
        root.draw(&Circle::new((x(*accuracy), y), 4, style))?;
    }
    let mean = x(found.mean);
    root.draw(&Rectangle::new([(mean - 1, y - 9), (mean + 1, y + 9)], own.filled()))?;
    let spread = found.interval.map(|interval| format!(" ± {:.2}", 50.0 * (interval.high - interval.low)));
    let numbers = format!("{}{}", percent(found.mean), spread.unwrap_or_default());
    root.draw(&Text::new(numbers, (WIDTH - RIGHT + 14, y), text(13, INK, HPos::Left)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::several::tests::entry;
    use super::*;

    #[test]
    fn every_network_has_a_row_and_a_sentence() {
        let entries: Vec<EntryReport> = ["one", "<two>"].iter().filter_map(|name| entry(name).report()).collect();
        let svg = picture(&entries).expect("draws");
        // Of each entry a teacher of one seed, and two networks of three.
        assert_eq!(svg.matches("<circle").count(), 2 * (1 + 3 + 3));
        assert!(svg.contains("&lt;two&gt;") && !svg.contains("<two>"));
        assert!(svg.contains("one, teacher: 98.00 % over 1 seed. "), "{svg}");
        assert!(svg.contains("one, student: 97.50 % over 3 seeds, 95 % interval 96.26 to 98.74. "), "{svg}");
    }

    #[test]
    fn the_axis_ends_at_round_numbers_around_all_of_it() {
        for (span, expected) in [(1.0, 0.2), (4.0, 1.0), (12.0, 5.0), (100.0, 20.0), (0.3, 0.1)] {
            assert!((step(span) - expected).abs() < 1e-12, "{span}: {}", step(span));
        }
        let entries: Vec<EntryReport> = entry("one").report().into_iter().collect();
        let networks = entries.iter().flat_map(|entry| &entry.networks);
        let Scale { low, high, step } = Scale::of(networks.map(|network| &network.summary));
        assert_eq!((low, high, step), (75.0, 100.0, 5.0));
    }
}

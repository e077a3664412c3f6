//! A sweep as a picture: a heat map of two varied keys, a line of one.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::several::{percent, range};
use super::{Drawn, INK, described};
use crate::error::{Failure, Result};
use crate::statistics::Summary;
use crate::sweep::{Axis, SweepReport};

const TITLE: &str = "Accuracy on the validation split";
/// Room around what is drawn, in pixels.
const LEFT: i32 = 130;
const ABOVE: i32 = 64;
const BELOW: i32 = 64;
const MARGIN: i32 = 24;
/// Okabe and Ito's blue: the darkest of the heat map, and the line.
const BLUE: RGBColor = RGBColor(0, 90, 150);

/// The picture of a sweep that varies one key or two; there is none of more.
///
/// # Errors
/// If it cannot be drawn.
pub fn sweep(axes: &[Axis], report: &SweepReport) -> Result<Option<String>> {
    let mut svg = String::new();
    let drawn = match axes {
        [across] => line(&mut svg, across, report),
        [down, across] => heat(&mut svg, down, across, report),
        _ => return Ok(None),
    };
    drawn.map_err(|error| Failure::work(format!("cannot draw the sweep: {error}")))?;
    let cells = report.cells.iter().map(|cell| {
        let interval = cell.validation.interval.map(|_| format!(", 95 % interval {}", range(cell.validation.interval)));
        format!("{}: {}{}. ", named(axes, &cell.values), percent(cell.validation.mean), interval.unwrap_or_default())
    });
    let chosen = format!("Chosen: {}. ", named(axes, &report.chosen.values));
    Ok(Some(described(svg, TITLE, &[chosen].into_iter().chain(cells).collect::<String>())))
}

fn named(axes: &[Axis], values: &[String]) -> String {
    let named = axes.iter().zip(values).map(|(axis, value)| format!("{} {value}", axis.key));
    named.collect::<Vec<_>>().join(", ")
}

fn at<'a>(report: &'a SweepReport, values: &[&String]) -> Option<&'a Summary> {
    let found = report.cells.iter().find(|cell| cell.values.iter().eq(values.iter().copied()));
    found.map(|cell| &cell.validation)
}

fn text(pixels: i32, colour: RGBColor, across: HPos) -> TextStyle<'static> {
    ("sans-serif", pixels).into_font().color(&colour).pos(Pos::new(across, VPos::Center))
}

fn short(value: &str) -> String {
    let longest = 14;
    match value.chars().count() > longest {
        true => value.chars().take(longest - 1).chain(['…']).collect(),
        false => value.to_owned(),
    }
}

fn half(found: &Summary) -> String {
    found.interval.map(|interval| format!("± {:.2}", 50.0 * (interval.high - interval.low))).unwrap_or_default()
}

fn heat(svg: &mut String, down: &Axis, across: &Axis, report: &SweepReport) -> Drawn {
    const CELL: (i32, i32) = (96, 56);
    let (width, height) = (CELL.0 * across.values.len() as i32, CELL.1 * down.values.len() as i32);
    let whole = (LEFT + width.max(320) + MARGIN, ABOVE + height + BELOW);
    let root = SVGBackend::with_string(svg, (whole.0 as u32, whole.1 as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(TITLE, (whole.0 / 2, 20), text(16, INK, HPos::Center)))?;
    let key = "darker: more is right · outlined: chosen";
    root.draw(&Text::new(key, (whole.0 / 2, 42), text(12, INK, HPos::Center)))?;
    let means = || report.cells.iter().map(|cell| cell.validation.mean);
    let (least, most) = (means().fold(f64::INFINITY, f64::min), means().fold(f64::NEG_INFINITY, f64::max));
    let corner = |row: usize, column: usize| (LEFT + column as i32 * CELL.0, ABOVE + row as i32 * CELL.1);
    let mut outline = None;
    for (row, first) in down.values.iter().enumerate() {
        let y = ABOVE + row as i32 * CELL.1 + CELL.1 / 2;
        root.draw(&Text::new(short(first), (LEFT - 8, y), text(13, INK, HPos::Right)))?;
        for (column, second) in across.values.iter().enumerate() {
            let Some(found) = at(report, &[first, second]) else { continue };
            let share = if most > least { (found.mean - least) / (most - least) } else { 0.0 };
            // Lightness alone tells it, so that it needs no colour vision; the numbers stand in it.
            let mix = |full: u8| (255.0 + (f64::from(full) - 255.0) * (0.1 + 0.9 * share)).round() as u8;
            let (x, top) = corner(row, column);
            let fill = RGBColor(mix(BLUE.0), mix(BLUE.1), mix(BLUE.2));
            root.draw(&Rectangle::new([(x, top), (x + CELL.0 - 2, top + CELL.1 - 2)], fill.filled()))?;
            let (ink, middle) = (if share > 0.5 { WHITE } else { INK }, x + CELL.0 / 2 - 1);
            root.draw(&Text::new(percent(found.mean), (middle, top + 20), text(14, ink, HPos::Center)))?;
            root.draw(&Text::new(half(found), (middle, top + 38), text(12, ink, HPos::Center)))?;
            if report.chosen.values.iter().eq([first, second]) {
                outline = Some((x, top));
            }
        }
    }
    if let Some((x, top)) = outline {
        let (right, bottom) = (x + CELL.0 - 2, top + CELL.1 - 2);
        let around = [(x, top), (right, top), (right, bottom), (x, bottom), (x, top)];
        root.draw(&PathElement::new(around, INK.stroke_width(3)))?;
    }
    for (column, second) in across.values.iter().enumerate() {
        let x = LEFT + column as i32 * CELL.0 + CELL.0 / 2;
        root.draw(&Text::new(short(second), (x, ABOVE + height + 14), text(13, INK, HPos::Center)))?;
    }
    root.draw(&Text::new(across.key.clone(), (LEFT + width / 2, ABOVE + height + 40), text(13, INK, HPos::Center)))?;
    let turned = text(13, INK, HPos::Center).transform(FontTransform::Rotate270);
    root.draw(&Text::new(down.key.clone(), (16, ABOVE + height / 2), turned))?;
    root.present()?;
    Ok(())
}

// The values stand evenly spaced, in their order: they need not be numbers.
fn line(svg: &mut String, across: &Axis, report: &SweepReport) -> Drawn {
    const HEIGHT: i32 = 280;
    let room = 96;
    let width = (room * across.values.len() as i32).max(320);
    let whole = (LEFT + width + MARGIN, ABOVE + HEIGHT + BELOW);
    let root = SVGBackend::with_string(svg, (whole.0 as u32, whole.1 as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(TITLE, (whole.0 / 2, 20), text(16, INK, HPos::Center)))?;
    let key = "ring: a seed · line: the mean, with its 95 % interval · disc: chosen";
    root.draw(&Text::new(key, (whole.0 / 2, 42), text(12, INK, HPos::Center)))?;
    let scale = super::accuracies::Scale::of(report.cells.iter().map(|cell| &cell.validation));
    let y = |value: f64| ABOVE + ((1.0 - scale.share(value)) * f64::from(HEIGHT)).round() as i32;
    for (value, label) in scale.ticks() {
        let height = y(value);
        root.draw(&PathElement::new([(LEFT, height), (LEFT + width, height)], RGBColor(225, 225, 225)))?;
        root.draw(&Text::new(format!("{label} %"), (LEFT - 8, height), text(13, INK, HPos::Right)))?;
    }
    let x = |place: usize| LEFT + (2 * place as i32 + 1) * width / (2 * across.values.len() as i32);
    let mut points = Vec::new();
    for (place, value) in across.values.iter().enumerate() {
        root.draw(&Text::new(short(value), (x(place), ABOVE + HEIGHT + 14), text(13, INK, HPos::Center)))?;
        let Some(cell) = report.cells.iter().find(|cell| cell.values.iter().eq([value])) else { continue };
        let point = (x(place), y(cell.validation.mean));
        points.push(point);
        if let Some(interval) = cell.validation.interval {
            root.draw(&PathElement::new([(x(place), y(interval.low)), (x(place), y(interval.high))], BLUE))?;
        }
        for accuracy in &cell.accuracies {
            root.draw(&Circle::new((x(place), y(*accuracy)), 4, ShapeStyle::from(BLUE)))?;
        }
        if report.chosen.values.iter().eq([value]) {
            root.draw(&Circle::new(point, 7, BLUE.filled()))?;
        }
    }
    root.draw(&PathElement::new(points, BLUE.stroke_width(2)))?;
    root.draw(&Text::new(across.key.clone(), (LEFT + width / 2, ABOVE + HEIGHT + 40), text(13, INK, HPos::Center)))?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Role;
    use crate::sweep::{Cell, Chosen};

    fn report(axes: &[Axis]) -> SweepReport {
        let values = crate::sweep::grid(axes, 1).expect("a grid");
        let cell = |(place, values): (usize, Vec<String>)| {
            let accuracies = vec![0.9 - 0.01 * place as f64, 0.92 - 0.01 * place as f64];
            let validation = Summary::of(&accuracies).expect("two");
            Cell { folder: format!("cell-{place}"), values, accuracies, validation }
        };
        let cells: Vec<Cell> = values.into_iter().enumerate().map(cell).collect();
        let (values, held_out) = (cells[0].values.clone(), cells[0].validation);
        let chosen = Chosen { values, ahead: None, held_out, command: String::new() };
        SweepReport { network: Role::Student, validation_samples: 10, cells, chosen }
    }

    #[test]
    fn two_keys_are_a_map_one_a_line_and_three_nothing() {
        let axes: Vec<Axis> = ["t=1,2,4", "a=0.5,<b>", "c=1"].map(|text| text.parse().expect(text)).to_vec();
        let map = sweep(&axes[..2], &report(&axes[..2])).expect("draws").expect("a map");
        // A background and six cells; the outline of the chosen one.
        assert_eq!((map.matches("<rect").count(), map.matches("<polyline").count()), (7, 1));
        assert!(map.contains("Chosen: t 1, a 0.5. t 1, a 0.5: 91.00 %, 95 % interval"), "{map}");
        assert!(map.contains("&lt;b&gt;") && !map.contains("<b>"));
        let line = sweep(&axes[..1], &report(&axes[..1])).expect("draws").expect("a line");
        // A ring a seed, and the chosen one's disc.
        assert_eq!(line.matches("<circle").count(), 2 * 3 + 1);
        assert_eq!(sweep(&axes, &report(&axes)).expect("draws"), None);
        assert_eq!(sweep(&[], &report(&axes[..1])).expect("draws"), None);
    }
}

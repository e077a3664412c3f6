//! What a network takes the samples of each class for, as a picture or as numbers.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use potstill_core::train::Evaluation;

use crate::error::{Failure, Result};
use crate::folder::write_whole;
use crate::report::{Drawn, INK, described};

/// Most classes of a picture: beyond, a cell is a pixel or two.
const MOST_DRAWN: usize = 128;
/// Most classes whose names and counts have room.
const MOST_NAMED: usize = 20;
/// Side of the square of cells, in pixels.
const SIDE: usize = 640;
/// Room at the left and below for the names.
const MARGIN: i32 = 110;

/// How a matrix is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A picture.
    Svg,
    /// A row a label, a column a prediction, with the classes' names.
    Csv,
}

impl Format {
    /// The format that a file's name asks for.
    ///
    /// # Errors
    /// Exit code 2 for another name.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Ok(Self::Svg),
            Some("csv") => Ok(Self::Csv),
            _ => Err(Failure::usage(format!("--confusion takes a .svg or a .csv file, not {}", path.display()))),
        }
    }

    /// Whether it has room for so many classes.
    ///
    /// # Errors
    /// Exit code 2 for a picture of too many.
    pub fn takes(self, classes: usize) -> Result<()> {
        if self == Self::Svg && classes > MOST_DRAWN {
            return Err(Failure::usage(format!(
                "a picture shows at most {MOST_DRAWN} classes and there are {classes}; name a .csv file"
            )));
        }
        Ok(())
    }
}

/// Writes the counts by label and prediction; nothing is left half-written.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, format: Format, evaluation: &Evaluation, names: &[String], title: &str) -> Result<()> {
    let text = match format {
        Format::Csv => csv(evaluation.confusion(), names),
        Format::Svg => {
            let mut svg = String::new();
            draw(&mut svg, evaluation.confusion(), names, title)
                .map_err(|error| Failure::work(format!("cannot draw the confusion matrix: {error}")))?;
            described(svg, title, &worst(evaluation.confusion(), names))
        }
    };
    write_whole(path, text.as_bytes())
}

fn csv(counts: &[u64], names: &[String]) -> String {
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let header: Vec<String> = names.iter().map(quoted).collect();
    let mut text = format!("\"label \\ prediction\",{}\n", header.join(","));
    for (name, row) in header.iter().zip(counts.chunks(names.len())) {
        let row: Vec<String> = row.iter().map(u64::to_string).collect();
        text += &format!("{name},{}\n", row.join(","));
    }
    text
}

// The matrix for those who cannot see it: how many are right, and the commonest mistakes.
fn worst(counts: &[u64], names: &[String]) -> String {
    let classes = names.len();
    let right: u64 = (0..classes).map(|class| counts[class * classes + class]).sum();
    let mut mistakes: Vec<usize> = (0..counts.len()).filter(|i| i / classes != i % classes && counts[*i] > 0).collect();
    mistakes.sort_by_key(|&i| std::cmp::Reverse(counts[i]));
    let told = mistakes
        .iter()
        .take(5)
        .map(|&i| format!(" {} of {} taken for {}.", counts[i], names[i / classes], names[i % classes]));
    format!("{right} of {} right.{}", counts.iter().sum::<u64>(), told.collect::<String>())
}

fn draw(svg: &mut String, counts: &[u64], names: &[String], title: &str) -> Drawn {
    let classes = names.len();
    let cell = (SIDE / classes).max(4) as i32;
    let (side, top) = (cell * classes as i32, 40);
    let size = ((MARGIN + side + 16) as u32, (top + side + MARGIN) as u32);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let font = |pixels: i32, colour: &RGBColor, at: (HPos, VPos)| {
        ("sans-serif", pixels).into_font().color(colour).pos(Pos::new(at.0, at.1))
    };
    let middle = MARGIN + side / 2;
    root.draw(&Text::new(title.to_owned(), (middle, 20), font(16, &INK, (HPos::Center, VPos::Center))))?;
    let name = font((cell / 2).clamp(8, 13), &INK, (HPos::Right, VPos::Center));
    for (label, row) in counts.chunks(classes).enumerate() {
        let samples = row.iter().sum::<u64>().max(1);
        let y = top + label as i32 * cell;
        for (prediction, &count) in row.iter().enumerate() {
            let x = MARGIN + prediction as i32 * cell;
            let share = count as f64 / samples as f64;
            // From white to Okabe and Ito's blue, darker where more: lightness alone tells it.
            let mix = |full: f64| (255.0 + (full - 255.0) * share).round() as u8;
            let colour = RGBColor(mix(0.0), mix(90.0), mix(150.0));
            root.draw(&Rectangle::new([(x, y), (x + cell - 1, y + cell - 1)], colour.filled()))?;
            if classes <= MOST_NAMED && count > 0 {
                let ink = if share > 0.5 { WHITE } else { INK };
                let style = font((cell / 3).clamp(8, 14), &ink, (HPos::Center, VPos::Center));
                root.draw(&Text::new(count.to_string(), (x + cell / 2, y + cell / 2), style))?;
            }
        }
        if classes <= MOST_NAMED {
            let short: String = names[label].chars().take(14).collect();
            root.draw(&Text::new(short.clone(), (MARGIN - 6, y + cell / 2), name.clone()))?;
            let across = name.clone().transform(FontTransform::Rotate270);
            root.draw(&Text::new(short, (MARGIN + label as i32 * cell + cell / 2, top + side + 6), across))?;
        }
    }
    let outline = [(MARGIN, top), (MARGIN + side, top + side)];
    root.draw(&Rectangle::new(outline, ShapeStyle { color: INK.to_rgba(), filled: false, stroke_width: 1 }))?;
    let below = top + side + MARGIN - 12;
    root.draw(&Text::new("prediction", (middle, below), font(13, &INK, (HPos::Center, VPos::Center))))?;
    let turned = font(13, &INK, (HPos::Center, VPos::Center)).transform(FontTransform::Rotate270);
    root.draw(&Text::new("label", (12, top + side / 2), turned))?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["cat", "a \"dog\"", "<bird>"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_name_says_the_format() {
        let of = |name: &str| Format::of(Path::new(name)).map_err(|failure| failure.code());
        assert_eq!((of("a.svg"), of("a.csv")), (Ok(Format::Svg), Ok(Format::Csv)));
        assert_eq!((of("a.png"), of("a")), (Err(2), Err(2)));
        assert!(Format::Svg.takes(128).is_ok() && Format::Svg.takes(129).is_err() && Format::Csv.takes(1000).is_ok());
    }

    #[test]
    fn numbers_and_names_are_those_of_the_counts() {
        let counts = [5, 1, 0, 0, 7, 3, 0, 0, 9];
        let lines: Vec<String> = csv(&counts, &names()).lines().map(str::to_owned).collect();
        assert_eq!(lines[1..], ["\"cat\",5,1,0", "\"a \"\"dog\"\"\",0,7,3", "\"<bird>\",0,0,9"]);
        assert_eq!(
            worst(&counts, &names()),
            "21 of 25 right. 3 of a \"dog\" taken for <bird>. 1 of cat taken for a \"dog\"."
        );
        let mut svg = String::new();
        draw(&mut svg, &counts, &names(), "title").expect("draws");
        // Three names twice, five counts, the title and two axes.
        assert_eq!(svg.matches("<text").count(), 6 + 5 + 3);
        assert!(svg.contains("&lt;bird&gt;") && !svg.contains("<bird>"));
    }
}

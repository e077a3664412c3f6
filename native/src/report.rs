//! What a finished run says of itself: `result.json`, a table and a picture of its curves.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use potstill_core::method::Preset;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::device::DeviceInfo;
use crate::error::{Context, Failure, Result};
use crate::run::Role;
use crate::train::LogLine;

/// `result.json`.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// Potstill's version.
    pub version: String,
    /// The commit it was built from, where that is known.
    pub commit: Option<&'static str>,
    /// The command's arguments: those of the resuming command in a run that was resumed.
    pub command: Vec<String>,
    /// When it finished, in seconds since 1970.
    pub finished: u64,
    /// What was trained: the goal, and what the student was taught.
    pub objective: ObjectiveReport,
    /// The file of a teacher that was not trained here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_teacher: Option<FileReport>,
    /// What the run computed on.
    pub device: DeviceInfo,
    /// What it learnt from.
    pub dataset: DatasetReport,
    /// Its seed.
    pub seed: u64,
    /// Its networks.
    pub models: BTreeMap<Role, ModelReport>,
}

/// What a run was to learn.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectiveReport {
    /// teacher, student or distillation.
    pub goal: &'static str,
    /// The student's terms with their weights, as the recipe has them; absent without a distillation.
    pub distillation: Option<Preset>,
    /// The row of a published table that the recipe stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
}

/// A file that a result depends on.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Where it was.
    pub path: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

impl FileReport {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let mut hash = Sha256::new();
        let file = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hash));
        file.context(format_args!("cannot read {}", path.display()))?;
        Ok(Self { path: path.display().to_string(), sha256: hex(&hash.finalize()) })
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A data set's name and sizes.
#[derive(Clone, Debug, Serialize)]
pub struct DatasetReport {
    /// As the recipe names it.
    pub name: String,
    /// Training samples.
    pub train: usize,
    /// Held-out samples.
    pub test: usize,
    /// Images without a class among the student's samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub unlabelled: usize,
    /// The classes that the student's training leaves out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// One network's figures.
#[derive(Clone, Debug, Serialize)]
pub struct ModelReport {
    /// Its name.
    pub model: String,
    /// Training images that it saw; absent if it was not trained here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// How many of them with a label; likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<usize>,
    /// How many of those labels are wrong on purpose.
    #[serde(skip_serializing_if = "is_zero")]
    pub wrong_labels: usize,
    /// The classes of which it saw no image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// Trainable values.
    pub parameters: u64,
    /// Size of its weights file.
    pub bytes: u64,
    /// Fraction of all held-out samples that are right.
    pub accuracy: f64,
    /// The same of the exponential mean of its parameters, where one was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_accuracy: Option<f64>,
    /// How it does on the classes that the student's training leaves out; absent where it leaves out none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted: Option<OmittedReport>,
    /// Fraction of them on which it says what the teacher says; absent without a teacher.
    pub agreement: Option<f64>,
    /// Seconds of training; absent if it was not trained here.
    pub seconds: Option<f64>,
    /// Images a second in training; likewise.
    pub images_per_second: Option<f64>,
    /// Images a second that the loader read by itself; likewise.
    pub loader_images_per_second: Option<f64>,
    /// Images a second of the steps without what they waited for the loader; likewise.
    pub step_images_per_second: Option<f64>,
    /// Training images that its teacher was asked about; likewise.
    pub teacher_images: Option<u64>,
    /// Seconds that the teacher's logits took beside the steps; likewise.
    pub recall_seconds: Option<f64>,
}

/// A network on the classes that the student's training leaves out.
#[derive(Clone, Debug, Serialize)]
pub struct OmittedReport {
    /// Fraction of the held-out samples of these classes that are right; null if there are none.
    pub accuracy: Option<f64>,
    /// The same network with these classes' biases corrected, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected: Option<CorrectedReport>,
}

/// A network whose biases of left-out classes are set by how often each class should be predicted.
#[derive(Clone, Debug, Serialize)]
pub struct CorrectedReport {
    /// Fraction of all held-out samples that are right.
    pub accuracy: f64,
    /// Fraction of the held-out samples of the left-out classes that are right; null if there are none.
    pub omitted_accuracy: Option<f64>,
    /// What is added to the logit of each left-out class.
    pub added: BTreeMap<String, f32>,
    /// The share of the training images that is then predicted as each left-out class.
    pub predicted: BTreeMap<String, f64>,
    /// The weights file; absent where the correction cannot be written as biases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

impl RunReport {
    /// The figures as a table for people.
    pub fn table(&self) -> String {
        let labels = |model: &ModelReport| match (model.labels, model.wrong_labels) {
            (None, _) => "given".to_owned(),
            (Some(count), 0) => count.to_string(),
            (Some(count), wrong) => format!("{count} ({wrong} wrong)"),
        };
        let wide = self.models.values().map(|model| labels(model).len()).max().unwrap_or(0).max(8);
        let mut text = format!(
            "{:<11} {:<16} {:>9} {:>10} {:>8} {:>wide$} {:>10} {:>10} {:>8} {:>9}\n",
            "", "model", "accuracy", "agreement", "images", "labels", "parameters", "bytes", "seconds", "images/s"
        );
        let percent = |value: f64| format!("{:.2} %", 100.0 * value);
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        for (role, model) in &self.models {
            let line = writeln!(
                text,
                "{:<11} {:<16} {:>9} {:>10} {:>8} {:>wide$} {:>10} {:>10} {:>8} {:>9}",
                role.name(),
                model.model,
                percent(model.accuracy),
                or_dash(model.agreement.map(percent)),
                model.images.map_or("given".to_owned(), |count| count.to_string()),
                labels(model),
                model.parameters,
                model.bytes,
                or_dash(model.seconds.map(|s| format!("{s:.1}"))),
                or_dash(model.images_per_second.map(|r| format!("{r:.0}")))
            );
            debug_assert!(line.is_ok(), "writing to a string cannot fail");
        }
        text + &self.omitted_table()
    }

    // The left-out classes in a table of their own; nothing where there are none.
    fn omitted_table(&self) -> String {
        let named = match self.dataset.omitted.as_slice() {
            [] => return String::new(),
            [one] => format!("the class {one}"),
            several => format!("the classes {}", several.join(", ")),
        };
        let mut text = format!(
            "\nWithout {named} in the student's training:\n{:<11} {:>9} {:>9} {:>9} {:>9}\n",
            "", "accuracy", "of these", "corrected", "of these"
        );
        let percent = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{:.2} %", 100.0 * value));
        for (role, model) in &self.models {
            let Some(omitted) = &model.omitted else { continue };
            let corrected = omitted.corrected.as_ref();
            let line = writeln!(
                text,
                "{:<11} {:>9} {:>9} {:>9} {:>9}",
                role.name(),
                percent(Some(model.accuracy)),
                percent(omitted.accuracy),
                percent(corrected.map(|corrected| corrected.accuracy)),
                percent(corrected.and_then(|corrected| corrected.omitted_accuracy)),
            );
            debug_assert!(line.is_ok(), "writing to a string cannot fail");
        }
        text
    }
}

// Okabe and Ito's colours: apart for every kind of colour vision, on white.
const fn colour(role: Role) -> RGBColor {
    match role {
        Role::Teacher => RGBColor(0, 114, 178),
        Role::Student => RGBColor(213, 94, 0),
        Role::Baseline => RGBColor(90, 90, 90),
        Role::HardLabels => RGBColor(204, 121, 167),
        Role::AllLabels => RGBColor(0, 158, 115),
    }
}

const SIZE: (u32, u32) = (1000, 420);
/// Lines and letters of every picture.
pub const INK: RGBColor = RGBColor(40, 40, 40);

/// Draws held-out accuracy after each epoch and the smoothed training loss of each network, as SVG.
pub fn curves(lines: &[LogLine], report: &RunReport) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, lines, report).map_err(|error| Failure::work(format!("cannot draw the curves: {error}")))?;
    let description: String = report
        .models
        .iter()
        .map(|(role, model)| format!("{}: {:.2} % right on held-out samples. ", role.name(), 100.0 * model.accuracy))
        .collect();
    Ok(described(svg, &format!("Training curves on {}", report.dataset.name), &description))
}

/// A picture with a title and a description, which say what is in it to those who cannot see it.
pub fn described(mut svg: String, title: &str, description: &str) -> String {
    let label = format!("<title>{}</title><desc>{}</desc>", escape(title), escape(description));
    let end = svg.find('>').map_or(0, |index| index + 1);
    svg.insert_str(end, &label);
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The result of drawing.
pub type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw(svg: &mut String, lines: &[LogLine], report: &RunReport) -> Drawn {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(SIZE.0 / 2);
    let mut accuracy: BTreeMap<Role, Vec<(f64, f64)>> = BTreeMap::new();
    let mut loss: BTreeMap<Role, Vec<(f64, f64)>> = BTreeMap::new();
    for line in lines {
        match line {
            LogLine::Check(check) => {
                accuracy.entry(check.stage).or_default().push((check.epoch as f64, 100.0 * check.held_out_accuracy));
            }
            LogLine::Step(step) => loss.entry(step.stage).or_default().push((step.step as f64, f64::from(step.loss))),
        }
    }
    for points in loss.values_mut() {
        smooth(points);
    }
    // The last point is the figure on all held-out samples.
    for (role, points) in &mut accuracy {
        if let (Some(last), Some(model)) = (points.last_mut(), report.models.get(role)) {
            last.1 = 100.0 * model.accuracy;
        }
    }
    let floor = accuracy.values().flatten().map(|p| p.1).fold(100.0_f64, f64::min);
    chart(&left, "held-out accuracy (%)", "epoch", &accuracy, ((floor - 1.0).max(0.0), 100.0), true)?;
    let top = loss.values().flatten().map(|p| p.1).fold(0.0_f64, f64::max);
    chart(&right, "training loss (each network's own objective)", "step", &loss, (0.0, top * 1.05 + 1e-3), false)?;
    root.present()?;
    Ok(())
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    x_name: &str,
    lines: &BTreeMap<Role, Vec<(f64, f64)>>,
    y: (f64, f64),
    marks: bool,
) -> Drawn {
    let last = lines.values().flatten().map(|p| p.0).fold(1.0_f64, f64::max);
    // Room at the right for the names beside the lines.
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16).into_font().color(&INK))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..last * 1.25, y.0..y.1)?;
    chart
        .configure_mesh()
        .light_line_style(RGBColor(245, 245, 245))
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(INK)
        .x_desc(x_name)
        .x_labels(6)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|value| if y.1 - y.0 < 5.0 { format!("{value:.1}") } else { format!("{value:.0}") })
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    // Names stand apart even where lines end at the same height.
    let mut ends: Vec<(Role, (f64, f64))> = lines.iter().filter_map(|(role, p)| Some((*role, *p.last()?))).collect();
    ends.sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
    let gap = (y.1 - y.0) * 0.055;
    let mut named: Vec<(f64, f64)> = Vec::new();
    for (role, end) in ends {
        let style = ShapeStyle { color: colour(role).to_rgba(), filled: false, stroke_width: 2 };
        let points = lines.get(&role).cloned().unwrap_or_default();
        match role {
            Role::Baseline | Role::HardLabels | Role::AllLabels => {
                chart.draw_series(DashedLineSeries::new(points.iter().copied(), 6, 4, style))?;
            }
            _ => {
                chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
            }
        }
        // A mark an epoch, while there is room between them.
        if marks && points.len() <= 25 {
            chart.draw_series(points.iter().map(|p| Circle::new(*p, 3, colour(role).filled())))?;
        }
        let beside = |other: &&(f64, f64)| (other.0 - end.0).abs() < last * 0.2;
        let lowest = named.iter().filter(beside).map(|other| other.1 + gap).fold(y.0 + gap * 0.5, f64::max);
        let height = end.1.max(lowest);
        named.push((end.0, height));
        let text = ("sans-serif", 14).into_font().color(&colour(role)).pos(Pos::new(HPos::Left, VPos::Center));
        chart.draw_series([Text::new(format!(" {}", role.name()), (end.0 + last * 0.01, height), text)])?;
    }
    Ok(())
}

// An exponential mean corrected for its start, and at most some hundreds of points.
fn smooth(points: &mut Vec<(f64, f64)>) {
    let keep = 0.95;
    let (mut mean, mut weight) = (0.0, 0.0);
    for point in points.iter_mut() {
        mean = keep * mean + (1.0 - keep) * point.1;
        weight = keep * weight + (1.0 - keep);
        point.1 = mean / weight;
    }
    let every = points.len().div_ceil(400).max(1);
    let last = points.last().copied();
    let mut index = 0;
    points.retain(|_| {
        index += 1;
        index % every == 1 || every == 1
    });
    if let Some(last) = last.filter(|last| points.last() != Some(last)) {
        points.push(last);
    }
}

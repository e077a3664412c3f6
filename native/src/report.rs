//! What a finished run says of itself, `result.json`, a table and a picture of its curves; and what several say together.

mod accuracies;
mod curves;
mod grid;
mod page;
mod several;

pub use accuracies::picture;
pub use curves::curves;
pub use grid::sweep as sweep_picture;
pub use page::html;
pub use several::{
    Comparison, Difference, Entry, EntryReport, NetworkReport, RunFigures, aligned, csv, percent, range, table,
};

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::path::Path;

use plotters::style::RGBColor;
use potstill_core::method::Preset;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::device::DeviceInfo;
use crate::error::{Context, Result};
use crate::run::Role;

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
    /// Samples of the validation split; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<usize>,
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
    /// The same of the validation split; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// The fraction of held-out samples for the exponential mean of its parameters, where one was kept.
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
    /// Epochs that were trained, where the validation split had a say in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// The epoch of the network that is kept, where the validation split chose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_epoch: Option<u64>,
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

/// Lines and letters of every picture.
pub const INK: RGBColor = RGBColor(40, 40, 40);

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

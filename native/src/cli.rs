//! The command line. Scripts call it, so its options are a contract; every flag's underscored spelling is accepted too.

#[cfg(test)]
mod reference;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use potstill_core::data::{Interpolation, Reading, Resize};
use potstill_core::method::Readout;

use crate::bench::Path;
use crate::device::DeviceChoice;
use crate::given::Given;
use crate::group::Seeds;
use crate::recipe::Untold;
use crate::sweep::Axis;

/// Distils vision transformers on any GPU, or without one.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 120, args_override_self = true)]
pub struct Cli {
    /// What to run on: auto (a real GPU, else the CPU), cpu, gpu, gpu:N as `devices` numbers them, or software.
    #[arg(long, global = true, default_value = "auto")]
    pub device: DeviceChoice,
    /// How kernels sum over a row: plain, as every device can, or by subgroups, which no GPU has been measured with.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub shaders: Shaders,
    /// How the tiles of attention and its maps are chosen; left out, measured on a GPU and counted on a software adapter.
    #[arg(long, global = true, value_enum)]
    pub tiles: Option<TileChoice>,
    #[command(subcommand)]
    pub command: Command,
}

/// The texts that kernels take where there are two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Shaders {
    /// Those of every device.
    #[default]
    Plain,
    /// Those with subgroup operations.
    Subgroups,
}

/// How the rows of a tile are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TileChoice {
    /// By a count of the work.
    Counted,
    /// The fastest on the device, which is measured once and kept.
    Measured,
}

/// The process's arguments. A reference's own line for measuring, which says `--eval`, is read as `train` reads it,
/// whichever of the two it stands after.
pub fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.iter().any(|argument| argument == "--eval")
        && let Some(command) = arguments.iter_mut().find(|argument| *argument == "eval")
    {
        *command = "train".into();
    }
    arguments
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a teacher, distil a student from it, and train the same student without one.
    Train(Box<Train>),
    /// Put finished runs, groups of seeds and sweeps into one table, and say which differences are any.
    Compare(Compare),
    /// Train a grid of recipes at several seeds, and choose one on a validation split.
    Sweep(Box<Sweep>),
    /// List the recipes that ship with the command, and what each needs.
    Recipes(Recipes),
    /// Measure a network of a run, or a weights file, on a data set.
    Eval(Eval),
    /// Write a network of a run, or a weights file, as one file for others, such as the page.
    Export(Export),
    /// Download a data set's official files, check them and unpack them.
    Fetch(Fetch),
    /// Classify pictures with a network of a run, or a weights file.
    Predict(Predict),
    /// List what this machine can compute on.
    Devices(Devices),
    /// Run every kernel against its definition on this machine's device.
    Selftest(Selftest),
    /// Time Potstill's kernels beside Burn's own operations on this machine's device.
    Bench(Bench),
}

/// Options of `train`.
#[derive(Debug, Args)]
pub struct Train {
    // The first, because reading the others takes them away.
    #[command(flatten)]
    pub given: Given,
    /// An experiment as a TOML file or by its name (`potstill recipes`); without one, the data set's own is taken.
    pub recipe: Option<PathBuf>,
    /// Where run folders are made.
    #[arg(long, visible_aliases = ["output-dir", "output_dir"], value_name = "DIR", default_value = "runs")]
    pub logdir: PathBuf,
    /// The run folder's name; without one, the recipe's with a fresh number.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Go on with an interrupted run: the one called NAME, else the latest in the log folder. With --eval, FILE is the
    /// weights to measure.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub resume: Option<Option<PathBuf>>,
    /// Measure the weights of --resume FILE instead of training.
    #[arg(long)]
    pub eval: bool,
    /// Run the recipe small: shallow and narrow networks, small pictures, 64 samples, one epoch.
    #[arg(long)]
    pub smoke: bool,
    /// Train at several seeds, a run each in one folder, and say what they show together: so many seeds from the recipe's on,
    /// or a list such as 0,1,2.
    #[arg(long, value_name = "N|LIST")]
    pub seeds: Option<Seeds>,
    /// With --seeds, train a teacher at every seed; else the first seed's teaches at all of them.
    #[arg(long, visible_alias = "teacher_per_seed", requires = "seeds")]
    pub teacher_per_seed: bool,
    /// Print the final figures as one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Change one value of the recipe, for example student.vit.depth=2; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// Folders of finished runs, groups and sweeps. Runs of one recipe that differ in their seed are taken together.
    #[arg(value_name = "RUN|GROUP|SWEEP", required = true)]
    pub folders: Vec<PathBuf>,
    /// Write a picture.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write a page with the table and the picture, which needs no other file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print comma-separated values instead of a table.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Options of `sweep`.
#[derive(Debug, Args)]
pub struct Sweep {
    // The first, because reading the others takes them away.
    #[command(flatten)]
    pub given: Untold,
    /// An experiment as a TOML file or by its name (`potstill recipes`). The flags of `train` that change a recipe change it here
    /// too.
    #[arg(required_unless_present = "resume")]
    pub recipe: Option<PathBuf>,
    /// A key of the recipe, as --set takes it, and the values to try; may be repeated for a grid.
    #[arg(long, value_name = "KEY=VALUE,VALUE...", required_unless_present = "resume")]
    pub vary: Vec<Axis>,
    /// At how many seeds each is trained, from the recipe's on, or a list such as 0,1,2.
    #[arg(long, value_name = "N|LIST", default_value = "3")]
    pub seeds: Seeds,
    /// Where the sweep's folder is made.
    #[arg(long, visible_aliases = ["output-dir", "output_dir"], value_name = "DIR", default_value = "runs")]
    pub logdir: PathBuf,
    /// The folder's name; without one, a fresh name is taken.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Go on with an interrupted sweep: the one called NAME, else the latest in the log folder.
    #[arg(long)]
    pub resume: bool,
    /// Run every recipe small, as `train --smoke` does.
    #[arg(long)]
    pub smoke: bool,
    /// Print the figures as one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Change one value of the recipe, for example student.vit.depth=2; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Options of `recipes`.
#[derive(Debug, Args)]
pub struct Recipes {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which network of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// The distilled (or only) student.
    Student,
    /// The teacher.
    Teacher,
    /// The student trained without a teacher.
    Baseline,
    /// The student trained on the teacher's hard answers.
    HardLabels,
    /// The student trained on the true labels of all samples.
    AllLabels,
}

/// A network: of a run, or from a weights file.
#[derive(Debug, Args)]
pub struct Network {
    /// A run's folder, a weights file (safetensors, .pth, .pt, an index of shards), or a folder of a hub.
    #[arg(value_name = "RUN|FILE", required_unless_present = "weights", conflicts_with = "weights")]
    pub run: Option<PathBuf>,
    /// Which network of the run; the student unless it is said.
    #[arg(long, value_enum, conflicts_with_all = ["model", "weights"])]
    pub which: Option<Which>,
    /// The model's name, for a weights file that does not say it.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// A weights file.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// How two heads make one prediction: class, distill, mean-logits or mean-probabilities; else as it was trained.
    #[arg(long, value_name = "HOW", value_parser = readout)]
    pub readout: Option<Readout>,
    #[command(flatten)]
    pub view: View,
}

/// How pictures become a network's inputs, where it is not to be as its file says.
#[derive(Clone, Debug, Default, Args)]
pub struct View {
    /// Where in the file the network is, if it holds several: what stands before its tensors' names.
    #[arg(long, value_name = "NAME")]
    pub prefix: Option<String>,
    /// Side of the square input, in pixels; a transformer's positions are resampled.
    #[arg(long, visible_alias = "input_size", value_name = "PIXELS")]
    pub input_size: Option<usize>,
    /// What happens to a picture's proportions: shortest, squash or ink (made like MNIST's digits).
    #[arg(long, value_name = "HOW", value_parser = word::<Resize>)]
    pub resize: Option<Resize>,
    /// The network's side over the side that a picture is resized to.
    #[arg(long, visible_aliases = ["crop_ratio", "eval-crop-ratio", "eval_crop_ratio", "crop-pct"], value_name = "SHARE")]
    pub crop_ratio: Option<f64>,
    /// The filter: bilinear or bicubic.
    #[arg(long, value_name = "FILTER", value_parser = word::<Interpolation>)]
    pub interpolation: Option<Interpolation>,
    /// Mean of each channel, or of all, of pixels from 0 to 1.
    #[arg(long, value_name = "M", num_args = 1..=3, value_delimiter = ',', allow_negative_numbers = true)]
    pub mean: Vec<f32>,
    /// Deviation of each channel, or of all.
    #[arg(long, value_name = "D", num_args = 1..=3, value_delimiter = ',')]
    pub std: Vec<f32>,
    /// upright: a camera's note of rotation is followed and transparency shows white; torchvision: neither.
    #[arg(long, value_name = "HOW", value_parser = reading)]
    pub reading: Option<Reading>,
    /// Read damaged picture files as far as they go.
    #[arg(long, visible_alias = "allow_truncated")]
    pub allow_truncated: bool,
}

// A word that a recipe's key takes.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn reading(name: &str) -> Result<Reading, String> {
    let known = || Reading::ALL.map(|(name, _)| name).join(" and ");
    Reading::named(name).ok_or_else(|| format!("there are {}", known()))
}

pub(crate) fn readout(name: &str) -> Result<Readout, String> {
    let known = || Readout::ALL.map(|(name, _)| name).join(", ");
    Readout::named(name).ok_or_else(|| format!("there are {}", known()))
}

/// Options of `eval`.
#[derive(Debug, Args)]
pub struct Eval {
    #[command(flatten)]
    pub network: Network,
    /// The data set to measure on, as `train` names them.
    #[arg(long, value_name = "NAME")]
    pub dataset: String,
    /// Where the data set's files are.
    #[arg(long, visible_alias = "data_dir", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Measure on N held-out samples only, spread over the set and its classes; of digits, no more are drawn.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Write how often each class was taken for each: FILE.svg, a picture, or FILE.csv.
    #[arg(long, value_name = "FILE")]
    pub confusion: Option<PathBuf>,
    /// Take the file's classes in their order, whatever they are called.
    #[arg(long, visible_alias = "ignore_class_names")]
    pub ignore_class_names: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Options of `export`.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    pub network: Network,
    /// The safetensors file to write.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Round the weights to half precision: half the bytes.
    #[arg(long)]
    pub half: bool,
    /// Measure what is written on this data set's held-out samples, and write the figure into the file.
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Where the data set's files are.
    #[arg(long, visible_alias = "data_dir", value_name = "DIR", requires = "dataset")]
    pub data_dir: Option<PathBuf>,
}

/// Options of `fetch`.
#[derive(Debug, Args)]
pub struct Fetch {
    /// MNIST, CIFAR-10, CIFAR-100 or Flowers-102.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where its files go; `train --data-dir` takes the same folder.
    #[arg(long, visible_alias = "data_dir", value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
}

/// Options of `predict`.
#[derive(Debug, Args)]
pub struct Predict {
    #[command(flatten)]
    pub network: Network,
    /// Pictures to classify, of any size and colour: PNG, JPEG, WebP, BMP, GIF (the first frame), PNM.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub image: Vec<PathBuf>,
    /// How many classes to print.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub top: usize,
    /// Print one JSON object a picture.
    #[arg(long)]
    pub json: bool,
}

/// Options of `devices`.
#[derive(Debug, Args)]
pub struct Devices {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `selftest`.
#[derive(Debug, Args)]
pub struct Selftest {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    pub what: BenchWhat,
    /// Timed repeats of each path.
    #[arg(long, global = true, value_name = "N", default_value = "20")]
    pub repeats: NonZeroUsize,
    /// Repeats before them, for compilation and tuning.
    #[arg(long, global = true, value_name = "N", default_value = "3")]
    pub warmup: NonZeroUsize,
    /// Measure one path alone.
    #[arg(long, global = true, value_enum)]
    pub only: Option<Path>,
    /// Name the kernels that were launched, and how often.
    #[arg(long, global = true)]
    pub kernels: bool,
    /// Print one JSON object a line.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to time. A size is given as numbers between commas and may be repeated.
#[derive(Debug, Subcommand)]
pub enum BenchWhat {
    /// Attention, forward and backward.
    Attention {
        /// Batch, heads, tokens, head size.
        #[arg(long = "case", value_name = "B,H,N,D", default_values = ["64,3,197,64", "256,3,65,64", "256,4,17,16", "32,12,197,64"])]
        cases: Vec<Sizes<4>>,
    },
    /// Cross-entropy and divergence of each row, forward and backward.
    DistillationLoss {
        /// Batch, classes.
        #[arg(long = "case", value_name = "B,C", default_values = ["64,1000", "256,1000", "256,10"])]
        cases: Vec<Sizes<2>>,
    },
    /// The attention-map loss of a pair of blocks, forward and backward.
    Saf {
        /// Batch, tokens, the student's heads and head size, the teacher's.
        #[arg(long = "case", value_name = "B,N,H,D,TH,TD", default_values = ["64,197,3,64,12,64", "256,65,3,64,3,64"])]
        cases: Vec<Sizes<6>>,
    },
    /// A training step of a vision transformer.
    Step {
        /// Images a step; may be repeated.
        #[arg(long = "batch", value_name = "B", default_values = ["64"])]
        batches: Vec<NonZeroUsize>,
        /// none (labels alone), KD, SAF or SAF+KD; may be repeated.
        #[arg(long = "distillation", value_name = "NAME", default_values_t = ["none".to_owned()])]
        objectives: Vec<String>,
        #[command(flatten)]
        network: BenchNetwork,
        /// The teacher's width.
        #[arg(long, value_name = "D", default_value_t = 768)]
        teacher_width: usize,
        /// The teacher's blocks.
        #[arg(long, value_name = "N", default_value_t = 12)]
        teacher_depth: usize,
        /// The teacher's heads.
        #[arg(long, value_name = "H", default_value_t = 12)]
        teacher_heads: usize,
    },
    /// A forward pass of a vision transformer without gradients.
    Inference {
        /// Images a pass; may be repeated.
        #[arg(long = "batch", value_name = "B", default_values = ["1", "256"])]
        batches: Vec<NonZeroUsize>,
        #[command(flatten)]
        network: BenchNetwork,
    },
    /// Batches of drawn digits, made on the host.
    Loader {
        /// Images a batch; may be repeated.
        #[arg(long = "batch", value_name = "B", default_values = ["128"])]
        batches: Vec<NonZeroUsize>,
        /// Vary the images as handwriting is.
        #[arg(long)]
        augment: bool,
    },
}

/// The sizes of a vision transformer; DeiT-Ti's without options.
#[derive(Clone, Copy, Debug, Args)]
pub struct BenchNetwork {
    /// Side of the image, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    pub image: usize,
    /// Side of a patch, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 16)]
    pub patch: usize,
    /// Channels of the image.
    #[arg(long, value_name = "C", default_value_t = 3)]
    pub channels: usize,
    /// Classes.
    #[arg(long, value_name = "C", default_value_t = 1000)]
    pub classes: usize,
    /// Width.
    #[arg(long, value_name = "D", default_value_t = 192)]
    pub width: usize,
    /// Blocks.
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub depth: usize,
    /// Heads.
    #[arg(long, value_name = "H", default_value_t = 3)]
    pub heads: usize,
    /// Read the mean of the patches, without a class token.
    #[arg(long)]
    pub mean_pool: bool,
}

/// `N` sizes, each at least 1, written between commas.
#[derive(Clone, Copy, Debug)]
pub struct Sizes<const N: usize>(pub [usize; N]);

impl<const N: usize> FromStr for Sizes<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes: Option<Vec<usize>> =
            text.split(',').map(|size| size.trim().parse().ok().filter(|size| *size > 0)).collect();
        let sizes = sizes.and_then(|sizes| <[usize; N]>::try_from(sizes).ok());
        sizes.map(Self).ok_or_else(|| format!("it must be {N} whole numbers above 0, with commas between"))
    }
}

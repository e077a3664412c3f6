//! The flags of `potstill train` that change a recipe: one table of rows.
//!
//! A row says what a flag is called, what it takes, what its help says, and which keys of the recipe it sets, as
//! `--set KEY=VALUE` does. Names are the reference projects' own. Where one of their flags means more than a key, its row
//! names a function. Rows apply in the order of the table, so that what names a network or a method comes before what
//! changes its numbers. The recipe in the run folder is then the whole experiment. Flags that have no meaning here are
//! named in a notice, so that nobody waits for what they would do.

mod clap;
mod distillation;
mod flag;
mod images;
mod networks;
#[cfg(test)]
mod tests;
mod training;

pub use self::clap::Untold;
use self::flag::{Flag, Kind};
use super::experiment::{Goal, Precision};
use super::layer::Layer;
use crate::error::Result;
use crate::given::{Given, words};

/// The whole table, in the order in which flags are applied.
fn table() -> impl Iterator<Item = Flag> {
    let own = [
        (None, RUN),
        (Some("Images"), images::FLAGS),
        (Some("Method"), networks::FLAGS),
        (None, distillation::NAME),
        (Some("Method"), distillation::FLAGS),
        (Some("Images"), images::CROP),
        (None, training::COMMON),
        (Some("Training"), training::FLAGS),
        (None, TAKEN),
    ];
    let rows = own.into_iter().chain(methods());
    rows.flat_map(|(heading, flags)| flags.iter().map(move |flag| Flag { heading, ..*flag }))
}

/// The flags of the numbers of distillation methods.
fn methods() -> impl Iterator<Item = (Option<&'static str>, &'static [Flag])> {
    let method = Some("Method");
    [(method, distillation::CLS_KD), (method, distillation::RETROSPECT), (method, distillation::numbers())].into_iter()
}

/// Applies every flag that was given and returns the notices.
///
/// # Errors
/// Exit code 2 for a flag that does not fit the recipe below it.
pub fn apply(layer: &mut Layer, given: &Given) -> Result<Vec<String>> {
    let mut notices = Vec::new();
    for flag in table().filter(|flag| given.has(flag.name)) {
        flag.apply(layer, given)?;
        notices.extend(flag.idle.map(|why| format!("--{} has no effect: {why}", flag.name)));
    }
    Ok(notices)
}

/// Checks that every flag has a value that it can take.
///
/// # Errors
/// Exit code 2 with what it takes.
pub fn check(given: &Given) -> Result<()> {
    table()
        .filter_map(|flag| Some((flag, given.all(flag.name)?)))
        .try_for_each(|(flag, said)| flag.read(said).map(drop))
}

// What a run is about. Those of the first group stand before others, since what follows needs the network that learns.
const RUN: &[Flag] = &[
    Flag::word("objective", "OBJECTIVE", words::<Goal>, "What to train").sets(&["objective"]),
    Flag::path("teacher", "RUN|FILE", "Distil from this run's teacher, or from a weights file, instead of training one")
        .or(&["teacher-path"])
        .sets(&["teacher_weights"]),
    Flag::text(
        "dataset",
        "NAME",
        "The data set: digits (built in), MNIST, Fashion-MNIST, KMNIST, EMNIST-letters (or balanced, digits, mnist, byclass, \
         bymerge), CIFAR-10, CIFAR-100, Flowers-102, ImageNet, or folder (train/CLASS/*, val/CLASS/*)",
    )
    .sets(&["data.dataset"]),
    Flag::path("data-dir", "DIR", "Where the data set's files are").sets(&["data.data_dir"]),
    Flag::path(
        "data-path",
        "DIR",
        "A folder of images, `train/CLASS/*` and `val/CLASS/*`: as --data-dir, and --dataset ImageNet where nothing else is \
         named",
    )
    .sets(&["data.data_dir"])
    .excludes("data-dir"),
    Flag::whole("train-samples", "N", "Train on this many samples, drawn evenly over the classes by the seed")
        .sets(&["data.train_samples"]),
    Flag::whole(
        "labels",
        "N",
        "Tell the student the labels of this many training samples, drawn evenly over the classes by the seed; the others \
         are shown to the teacher alone",
    )
    .sets(&["data.labels"]),
    Flag::path(
        "unlabelled",
        "DIR",
        "Images without classes, in this folder and below: the student is shown them too, with the teacher's answers alone; \
         without it, the folder `unlabelled` beside `train`",
    )
    .sets(&["data.unlabelled"]),
    Flag::new("omit", Kind::Wholes, "CLASS", "Leave the samples of these classes, from 0, out of the student's training")
        .sets(&["data.omit"]),
    Flag::number("label-noise", "SHARE", "Replace this share of the student's labels, each by another class")
        .sets(&["data.label_noise"]),
    Flag::switch(
        "correct-bias",
        "true",
        "Measure students also with the biases of omitted classes set so that each is predicted as often as it should be",
    )
    .sets(&["correct_bias"]),
    Flag::number(
        "validation",
        "SHARE",
        "Train no network on this share of the training samples, and measure on them after each epoch in place of the \
         held-out samples",
    )
    .sets(&["data.validation"]),
    Flag::whole("seed", "S", "Everything random follows from this number").sets(&["seed"]),
    Flag::switch("allow-untrained-teacher", "true", "Take a teacher that does no better than chance")
        .sets(&["allow_untrained_teacher"]),
    Flag::switch("ignore-class-names", "true", "Take a teacher's classes in their order, whatever they are called")
        .sets(&["ignore_class_names"]),
    Flag::word(
        "teacher-precision",
        "PRECISION",
        words::<Precision>,
        "The precision in which the teacher, a vision transformer, is asked",
    )
    .sets(&["teacher_precision"]),
    Flag::path("teacher-cache", "DIR", "Keep the teacher's logits in this folder, and take those that another run left there")
        .sets(&["teacher_cache"]),
    Flag::whole(
        "teacher-cache-top",
        "K",
        "Keep the logits of the K highest classes in half precision, instead of all in float32",
    )
    .sets(&["teacher_cache_top"])
    .needs("teacher-cache"),
];

const ONE_PROCESS: &str = "one process trains here";
const LOADER: &str = "the loader takes the threads it needs";
const NORMS: &str = "the norms of patch tokens are not distilled";
const PROJECTOR: &str = "projector and relation are not taken together";
const UNUSED: &str = "its own code does not use it";

// What the reference projects' command lines say that means nothing here.
const TAKEN: &[Flag] = &[
    Flag::idle("distributed", "", ONE_PROCESS),
    Flag::idle("dist-eval", "", ONE_PROCESS),
    Flag::idle("world-size", "N", ONE_PROCESS),
    Flag::idle("dist-url", "URL", ONE_PROCESS),
    Flag::idle("local-rank", "N", ONE_PROCESS),
    Flag::idle("num-workers", "N", LOADER),
    Flag::idle("pin-mem", "", LOADER).or(&["pin-memory"]),
    Flag::idle("no-pin-mem", "", LOADER),
    Flag::idle("start-epoch", "E", "--resume goes on where a run was stopped"),
    Flag::idle("cooldown-epochs", "E", "training ends with the schedule"),
    Flag::idle("patience-epochs", "E", "no schedule here waits for a plateau"),
    Flag::idle("momentum", "M", "AdamW and Adam have --opt-betas"),
    Flag::idle("norm-distill", "", NORMS),
    Flag::idle("w-norm", "W", NORMS),
    Flag::idle("w-proj", "W", PROJECTOR),
    Flag::idle("w-relation", "W", PROJECTOR),
    Flag::idle("dim-t", "D", UNUSED),
    Flag::idle("inat-category", "NAME", "folders of images name their classes"),
];

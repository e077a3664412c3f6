//! The flags of `potstill train` that change a recipe: one table of rows.
//!
//! A row says what a flag is called, what it takes, what its help says, and which keys of the recipe it sets, as
//! `--set KEY=VALUE` does. Names are the reference projects' own. Where one of their flags means more than a key, its row
//! names a function. Rows apply in the order of the table, so that what names a network or a method comes before what
//! changes its numbers. The recipe in the run folder is then the whole experiment. Flags that have no meaning here are
//! named in a notice, so that nobody waits for what they would do.

mod distillation;
mod given;
mod images;
mod networks;
#[cfg(test)]
mod tests;
mod training;

use std::path::Path;

use serde::de::value::Error as NoValue;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use toml::Value;

use super::layers::{Laid, Layer};
use crate::error::{Failure, Result};
pub use distillation::is_cls_kd;
pub use given::Given;

/// What a flag takes.
#[derive(Clone, Copy)]
enum Kind {
    /// Nothing: this is its value, as TOML writes it.
    Switch(&'static str),
    /// A number.
    Number,
    /// A whole number from 0.
    Whole,
    /// So many numbers.
    Numbers(usize),
    /// One or more whole numbers.
    Wholes,
    /// Text.
    Text,
    /// A file or a folder, from wherever the command is run.
    Path,
    /// One of these words.
    Word(fn() -> Vec<&'static str>),
}

/// What is to be done where a key has no place in the recipe.
#[derive(Clone, Copy)]
enum Missing {
    /// Nothing.
    Ignored,
    /// Refuse it unless each of the keys has one. This says of the key what it has no place in, and what to do.
    One(fn(&Layer, &str) -> String),
    /// Refuse it unless one of the keys has one.
    All(&'static str),
}

/// A row of the table.
#[derive(Clone, Copy)]
struct Flag {
    /// The long name.
    name: &'static str,
    /// Its other names, beside the ones with underscores.
    others: &'static [&'static str],
    kind: Kind,
    /// What the help calls its value or, divided by spaces, its values.
    value: &'static str,
    help: &'static str,
    /// What the help lists it under.
    heading: Option<&'static str>,
    /// The keys of the recipe that take its value. `learner` stands for the network that learns by the recipe's objective, and
    /// after a part with a question mark nothing is set that is not there.
    keys: &'static [&'static str],
    missing: Missing,
    /// What it does before its keys are set.
    rewrite: Option<fn(&mut Layer, &Given) -> Result<()>>,
    /// Why it has no effect.
    idle: Option<&'static str>,
    /// The flags that it cannot be without, and with.
    needs: Option<&'static str>,
    excludes: Option<&'static str>,
}

impl Flag {
    const fn new(name: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Self {
        Self {
            name,
            others: &[],
            kind,
            value,
            help,
            heading: None,
            keys: &[],
            missing: Missing::Ignored,
            rewrite: None,
            idle: None,
            needs: None,
            excludes: None,
        }
    }

    const fn switch(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Switch(value), "", help)
    }

    const fn number(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Number, value, help)
    }

    const fn whole(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Whole, value, help)
    }

    const fn text(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Text, value, help)
    }

    const fn path(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Path, value, help)
    }

    const fn word(
        name: &'static str,
        value: &'static str,
        words: fn() -> Vec<&'static str>,
        help: &'static str,
    ) -> Self {
        Self::new(name, Kind::Word(words), value, help)
    }

    // A flag of a reference project that has no effect here, and why. A switch has no value.
    const fn idle(name: &'static str, value: &'static str, why: &'static str) -> Self {
        let kind = if value.is_empty() { Kind::Switch("true") } else { Kind::Text };
        Self { idle: Some(why), ..Self::new(name, kind, value, "") }
    }

    const fn sets(self, keys: &'static [&'static str]) -> Self {
        Self { keys, ..self }
    }

    const fn each_or(self, hint: fn(&Layer, &str) -> String) -> Self {
        Self { missing: Missing::One(hint), ..self }
    }

    const fn any_or(self, hint: &'static str) -> Self {
        Self { missing: Missing::All(hint), ..self }
    }

    const fn does(self, rewrite: fn(&mut Layer, &Given) -> Result<()>) -> Self {
        Self { rewrite: Some(rewrite), ..self }
    }

    const fn or(self, others: &'static [&'static str]) -> Self {
        Self { others, ..self }
    }

    const fn needs(self, other: &'static str) -> Self {
        Self { needs: Some(other), ..self }
    }

    const fn excludes(self, other: &'static str) -> Self {
        Self { excludes: Some(other), ..self }
    }

    // What the command line says, as a value of the recipe.
    fn read(&self, given: &[String]) -> Result<Value> {
        let first = given.first().map_or("", String::as_str);
        let wrong =
            |said: &str, wanted: &str| Failure::usage(format!("--{} is {said:?}; it must be {wanted}", self.name));
        let number = |said: &str| said.parse().map(Value::Float).map_err(|_| wrong(said, "a number"));
        let whole = |said: &str| match (said.parse::<i64>(), said.parse::<u128>()) {
            (Ok(number), Ok(_)) => Ok(Value::Integer(number)),
            (Err(_), Ok(_)) => Err(wrong(said, "less than that: no number of the recipe is as large")),
            _ => Err(wrong(said, "a whole number, from 0")),
        };
        match self.kind {
            Kind::Switch(value) => Ok(super::layers::value_of(value)),
            Kind::Number => number(first),
            Kind::Whole => whole(first),
            Kind::Numbers(_) => given.iter().map(|said| number(said)).collect::<Result<_>>().map(Value::Array),
            Kind::Wholes => given.iter().map(|said| whole(said)).collect::<Result<_>>().map(Value::Array),
            Kind::Text => Ok(first.into()),
            // Paths are kept in the run folder, and a resume may be started from elsewhere.
            Kind::Path => {
                let path = std::path::absolute(first);
                Ok(path.as_deref().unwrap_or(Path::new(first)).to_string_lossy().into_owned().into())
            }
            Kind::Word(words) if words().contains(&first) => Ok(first.into()),
            Kind::Word(words) => Err(wrong(first, &format!("one of {}", words().join(", ")))),
        }
    }

    fn apply(&self, layer: &mut Layer, given: &Given) -> Result<()> {
        let value = self.read(given.all(self.name).unwrap_or_default())?;
        if let Some(rewrite) = self.rewrite {
            rewrite(layer, given)?;
        }
        let laid = self.keys.iter().map(|key| layer.set(key, &value)).collect::<Result<Vec<Laid>>>()?;
        let without = laid.iter().position(|laid| *laid == Laid::NoPlace).map(|at| self.keys[at]);
        let hint = match (self.missing, without) {
            (Missing::One(hint), Some(key)) => hint(layer, key),
            (Missing::All(hint), _) if !laid.contains(&Laid::Done) => hint.to_owned(),
            _ => return Ok(()),
        };
        Err(Failure::usage(format!("--{} has no place in {hint}", self.name)))
    }
}

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

/// The words that an enumeration of core is written by: what its `Deserialize` knows.
fn words<T: DeserializeOwned>() -> Vec<&'static str> {
    struct Names(Vec<&'static str>);
    impl<'de> Deserializer<'de> for &mut Names {
        type Error = NoValue;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
            Err(NoValue::custom("no value"))
        }

        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            names: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, NoValue> {
            self.0 = names.to_vec();
            Err(NoValue::custom("no value"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }
    let mut names = Names(Vec::new());
    // It fails by its nature: only the names are wanted.
    T::deserialize(&mut names).err();
    names.0
}

// What a run is about. Those of the first group stand before others, since what follows needs the network that learns.
const RUN: &[Flag] = &[
    Flag::word("objective", "OBJECTIVE", words::<super::Goal>, "What to train").sets(&["objective"]),
    Flag::path("teacher", "RUN|FILE", "Distil from this run's teacher, or from a weights file, instead of training one")
        .or(&["teacher-path"])
        .sets(&["teacher_weights"]),
    Flag::text(
        "dataset",
        "NAME",
        "The data set: digits (built in), MNIST, CIFAR-10, CIFAR-100, Flowers-102, ImageNet, or folder (train/CLASS/*, \
         val/CLASS/*)",
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
    Flag::new("omit", Kind::Wholes, "CLASS", "Leave the samples of these classes, from 0, out of the student's training")
        .sets(&["data.omit"]),
    Flag::number("label-noise", "SHARE", "Replace this share of the student's labels, each by another class")
        .sets(&["data.label_noise"]),
    Flag::whole("seed", "S", "Everything random follows from this number").sets(&["seed"]),
    Flag::switch("allow-untrained-teacher", "true", "Take a teacher that does no better than chance")
        .sets(&["allow_untrained_teacher"]),
    Flag::word(
        "teacher-precision",
        "PRECISION",
        words::<super::Precision>,
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

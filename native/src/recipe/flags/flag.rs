//! A row of the table of flags, and what it does to a recipe.

use std::path::Path;

use toml::Value;

use super::super::layer::Layer;
use super::super::table::{Laid, value_of};
use crate::error::{Failure, Result};
use crate::given::Given;

/// What a flag takes.
#[derive(Clone, Copy)]
pub(super) enum Kind {
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
pub(super) enum Missing {
    /// Nothing.
    Ignored,
    /// Refuse it unless each of the keys has one. This says of the key what it has no place in, and what to do.
    One(fn(&Layer, &str) -> String),
    /// Refuse it unless one of the keys has one.
    All(&'static str),
}

/// A row of the table.
#[derive(Clone, Copy)]
pub(super) struct Flag {
    /// The long name.
    pub name: &'static str,
    /// Its other names, beside the ones with underscores.
    pub others: &'static [&'static str],
    pub kind: Kind,
    /// What the help calls its value or, divided by spaces, its values.
    pub value: &'static str,
    pub help: &'static str,
    /// What the help lists it under.
    pub heading: Option<&'static str>,
    /// The keys of the recipe that take its value. `learner` stands for the network that learns by the recipe's objective, and
    /// after a part with a question mark nothing is set that is not there.
    pub keys: &'static [&'static str],
    pub missing: Missing,
    /// What it does before its keys are set.
    pub rewrite: Option<fn(&mut Layer, &Given) -> Result<()>>,
    /// Why it has no effect.
    pub idle: Option<&'static str>,
    /// The flags that it cannot be without, and with.
    pub needs: Option<&'static str>,
    pub excludes: Option<&'static str>,
}

impl Flag {
    pub const fn new(name: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Self {
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

    pub const fn switch(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Switch(value), "", help)
    }

    pub const fn number(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Number, value, help)
    }

    pub const fn whole(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Whole, value, help)
    }

    pub const fn text(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Text, value, help)
    }

    pub const fn path(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Path, value, help)
    }

    pub const fn word(
        name: &'static str,
        value: &'static str,
        words: fn() -> Vec<&'static str>,
        help: &'static str,
    ) -> Self {
        Self::new(name, Kind::Word(words), value, help)
    }

    // A flag of a reference project that has no effect here, and why. A switch has no value.
    pub const fn idle(name: &'static str, value: &'static str, why: &'static str) -> Self {
        let kind = if value.is_empty() { Kind::Switch("true") } else { Kind::Text };
        Self { idle: Some(why), ..Self::new(name, kind, value, "") }
    }

    pub const fn sets(self, keys: &'static [&'static str]) -> Self {
        Self { keys, ..self }
    }

    pub const fn each_or(self, hint: fn(&Layer, &str) -> String) -> Self {
        Self { missing: Missing::One(hint), ..self }
    }

    pub const fn any_or(self, hint: &'static str) -> Self {
        Self { missing: Missing::All(hint), ..self }
    }

    pub const fn does(self, rewrite: fn(&mut Layer, &Given) -> Result<()>) -> Self {
        Self { rewrite: Some(rewrite), ..self }
    }

    pub const fn or(self, others: &'static [&'static str]) -> Self {
        Self { others, ..self }
    }

    pub const fn needs(self, other: &'static str) -> Self {
        Self { needs: Some(other), ..self }
    }

    pub const fn excludes(self, other: &'static str) -> Self {
        Self { excludes: Some(other), ..self }
    }

    // What the command line says, as a value of the recipe.
    pub fn read(&self, given: &[String]) -> Result<Value> {
        let first = given.first().map_or("", String::as_str);
        let wrong =
            |said: &str, wanted: &str| Failure::usage(format!("--{} is {said:?}; it must be {wanted}", self.name));
        let number = |said: &str| said.parse().map(Value::Float).map_err(|_| wrong(said, "a number"));
        let whole = |said: &str| match (said.parse::<i64>(), said.parse::<u128>()) {
            (Ok(number), Ok(_)) => Ok(Value::Integer(number)),
            (Err(_), Ok(_)) => Err(wrong(said, &format!("a whole number, from 0 to {}", i64::MAX))),
            _ => Err(wrong(said, "a whole number, from 0")),
        };
        match self.kind {
            Kind::Switch(value) => Ok(value_of(value)),
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

    pub fn apply(&self, layer: &mut Layer, given: &Given) -> Result<()> {
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

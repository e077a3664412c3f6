//! What a command line says of the flags that change a recipe.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::de::value::Error as NoValue;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};

use crate::error::{Failure, Result};

/// What a command line says of the flags, and which options of `train` it gives at all.
#[derive(Debug, Default)]
pub struct Given {
    values: BTreeMap<&'static str, Vec<String>>,
    names: Vec<String>,
    method: Option<&'static str>,
}

impl Given {
    /// What was said of each flag, which options were given, and whose method the flags are of, where they are of one.
    pub fn new(
        values: BTreeMap<&'static str, Vec<String>>,
        names: Vec<String>,
        method: impl FnOnce(&Self) -> Option<&'static str>,
    ) -> Self {
        let mut given = Self { values, names, method: None };
        given.method = method(&given);
        given
    }

    /// The method whose own flags were given, where a line is known by them.
    pub fn method(&self) -> Option<&'static str> {
        self.method
    }

    /// Every option that was given, as the help spells it.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether a flag was given.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The flags as a command line gives them.
    pub fn words(&self) -> impl Iterator<Item = Vec<String>> {
        let words =
            |(name, values): (&&str, &Vec<String>)| [format!("--{name}")].into_iter().chain(values.clone()).collect();
        self.values.iter().map(words)
    }

    /// What a flag was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all(name)?.first().map(String::as_str)
    }

    /// All the values that a flag was given.
    pub fn all(&self, name: &str) -> Option<&[String]> {
        self.values.get(name).map(Vec::as_slice)
    }

    /// The number that a flag was given.
    ///
    /// # Errors
    /// Exit code 2 if it is no such number.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let wrong = |said: &str| Failure::usage(format!("--{name} is {said:?}, and it cannot be"));
        self.text(name).map(|said| said.parse().map_err(|_| wrong(said))).transpose()
    }

    /// What core calls the word that a flag was given.
    ///
    /// # Errors
    /// Exit code 2 with the words that exist.
    pub fn word<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let wrong =
            |said: &str| Failure::usage(format!("--{name} is {said:?}; it must be one of {}", words::<T>().join(", ")));
        self.text(name).map(|said| toml::Value::from(said).try_into().map_err(|_| wrong(said))).transpose()
    }
}

/// The words that an enumeration of core is written by: what its `Deserialize` knows.
pub fn words<T: DeserializeOwned>() -> Vec<&'static str> {
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

//! The numbers of a method. Each is declared once in the method's file, with its default, its range and its help.
//!
//! [`numbers!`](crate::method::numbers) turns the declarations into a struct that recipes read, its defaults, and a list. The
//! list is used to check ranges, and to make flags, forms and the reference of the command.

use std::borrow::Cow;

/// The range of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The smallest value.
    pub least: f64,
    /// The largest value.
    pub most: f64,
    /// Whether `least` itself is outside.
    pub above: bool,
    /// Whether `most` itself is outside.
    pub below: bool,
}

impl Range {
    /// From `least` to `most`, both included.
    pub const fn between(least: f64, most: f64) -> Self {
        Self { least, most, above: false, below: false }
    }

    /// Whether `value` is in the range. NaN is in no range.
    pub fn holds(&self, value: f64) -> bool {
        let from = if self.above { value > self.least } else { value >= self.least };
        from && if self.below { value < self.most } else { value <= self.most }
    }

    /// The range in words: `above 0 and at most 1000`.
    pub fn words(&self) -> String {
        let Self { least, most, above, below } = *self;
        match (above, below) {
            (false, false) => format!("between {least} and {most}"),
            (false, true) => format!("at least {least} and below {most}"),
            (true, false) => format!("above {least} and at most {most}"),
            (true, true) => format!("above {least} and below {most}"),
        }
    }

    /// Checks that the `value` of `field` is in the range.
    ///
    /// # Errors
    /// [`NumberError`] with the field, its value and the range.
    pub fn check(&self, field: impl Into<Cow<'static, str>>, value: f64) -> Result<(), NumberError> {
        match self.holds(value) {
            true => Ok(()),
            false => Err(NumberError { field: field.into(), value, allowed: self.words() }),
        }
    }
}

/// The weight of a loss.
pub const WEIGHT: Range = Range::between(0.0, 1e6);
/// A share: α.
pub const SHARE: Range = Range::between(0.0, 1.0);
/// Label smoothing ε.
pub const SMOOTHING: Range = Range { below: true, ..SHARE };
/// A temperature τ.
pub const TEMPERATURE: Range = Range { least: 0.0, most: 1000.0, above: true, below: false };
/// A number of epochs, steps or rows.
pub const COUNT: Range = Range::between(1.0, 1e6);

/// A number of an objective is out of its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {value}; it must be {allowed}")]
pub struct NumberError {
    /// The number's name.
    pub field: Cow<'static, str>,
    /// Its value.
    pub value: f64,
    /// The range, in words.
    pub allowed: String,
}

/// One number of a method.
#[derive(Clone, Copy, Debug)]
pub struct Field<T> {
    /// Its key in a recipe.
    pub key: &'static str,
    /// Its help, a sentence.
    pub help: &'static str,
    /// Its range; `None` for a field that is not a single number (a list of pairs, a word).
    pub range: Option<Range>,
    /// Whether it is a whole number.
    pub whole: bool,
    /// The flags of published commands that set it. The flag that is made of method and key comes on top.
    pub flags: &'static [&'static str],
    /// Its value; NaN for a field that is not a single number.
    pub value: fn(&T) -> f64,
}

/// The numbers of a method.
pub trait Numbers: Sized + 'static {
    /// The list.
    const FIELDS: &'static [Field<Self>];

    /// Checks every number. An error puts `method` before the key.
    ///
    /// # Errors
    /// [`NumberError`] for the first number that is out of its range.
    fn check(&self, method: &str) -> Result<(), NumberError> {
        Self::FIELDS.iter().try_for_each(|field| match field.range {
            Some(range) => range.check(format!("{method}.{}", field.key), (field.value)(self)),
            None => Ok(()),
        })
    }
}

/// A type that a [`Field`] can read as one number.
pub trait Number {
    /// Whether it is a whole number.
    const WHOLE: bool;

    /// The value.
    fn number(&self) -> f64;
}

impl Number for f64 {
    const WHOLE: bool = false;

    fn number(&self) -> f64 {
        *self
    }
}

impl Number for usize {
    const WHOLE: bool = true;

    fn number(&self) -> f64 {
        *self as f64
    }
}

impl Number for u64 {
    const WHOLE: bool = true;

    fn number(&self) -> f64 {
        *self as f64
    }
}

/// Declares the struct of a method's numbers. A field has a type and a default. If it is a single number it also has a range
/// (`in RANGE`), and it may have flags of published commands that set it (`flags "a" "b"`). The field's documentation is its
/// help.
macro_rules! numbers {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[doc = $help:literal])+ $field:ident: $type:ty = $default:expr $(, in $range:expr)? $(, flags $($flag:literal)+)?;)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        $vis struct $name {
            $($(#[doc = $help])+ pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::method::numbers::Numbers for $name {
            const FIELDS: &'static [$crate::method::numbers::Field<Self>] = &[
                $($crate::method::numbers::Field {
                    key: stringify!($field),
                    help: concat!($($help),+),
                    range: $crate::method::numbers::numbers!(@range $($range)?),
                    whole: $crate::method::numbers::numbers!(@whole $type $(, $range)?),
                    flags: &[$($($flag),+)?],
                    value: $crate::method::numbers::numbers!(@value $field $($range)?),
                },)*
            ];
        }
    };
    (@range) => { None };
    (@range $range:expr) => { Some($range) };
    (@whole $type:ty) => { false };
    (@whole $type:ty, $range:expr) => { <$type as $crate::method::numbers::Number>::WHOLE };
    (@value $field:ident) => { |_| f64::NAN };
    (@value $field:ident $range:expr) => { |own| $crate::method::numbers::Number::number(&own.$field) };
}
pub(crate) use numbers;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        assert!(SHARE.holds(0.0) && SHARE.holds(1.0) && !SHARE.holds(1.5) && !SHARE.holds(f64::NAN));
        assert!(!SMOOTHING.holds(1.0) && !TEMPERATURE.holds(0.0) && TEMPERATURE.holds(1000.0));
        let error = TEMPERATURE.check("temperature", 0.0).expect_err("no temperature");
        assert_eq!(error.to_string(), "temperature is 0; it must be above 0 and at most 1000");
        assert_eq!(SMOOTHING.words(), "at least 0 and below 1");
    }
}

//! Checks of a configuration, and their errors.

/// An error in a configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A size is zero, or larger than in any network of this kind.
    #[error("{field} is {value}; it must lie between {min} and {max}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: f64,
        /// The smallest accepted value.
        min: f64,
        /// The largest accepted value.
        max: f64,
    },
    /// One size does not divide another.
    #[error("{what} ({whole}) is not a multiple of {part_name} ({part})")]
    NotDivisible {
        /// The dividend's name.
        what: &'static str,
        /// The dividend.
        whole: usize,
        /// The divisor's name.
        part_name: &'static str,
        /// The divisor.
        part: usize,
    },
    /// Class pooling without a class token.
    #[error("pool = \"class\" needs class_token = true; set it, or pool = \"mean\"")]
    NoClassToken,
}

/// Checks a size; `field` names it.
pub(super) fn range(field: &'static str, value: usize, max: usize) -> Result<(), ConfigError> {
    real(field, value as f64, 1.0, max as f64)
}

/// Checks a number. NaN is refused.
pub(super) fn real(field: &'static str, value: f64, min: f64, max: f64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(ConfigError::OutOfRange { field, value, min, max }) }
}

/// Checks that `part` divides `whole`.
pub(super) fn divides(
    what: &'static str,
    whole: usize,
    part_name: &'static str,
    part: usize,
) -> Result<(), ConfigError> {
    if whole.is_multiple_of(part) { Ok(()) } else { Err(ConfigError::NotDivisible { what, whole, part_name, part }) }
}

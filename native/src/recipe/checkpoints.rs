//! How often a run saves where it stands.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When a checkpoint is made: a recipe writes `500` for steps, `"10min"`, `"90s"` or `"2h"` for a time, and nothing for what
/// is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Every {
    /// After every epoch, and ten minutes after the last one.
    #[default]
    Usual,
    /// After so many steps.
    Steps(u64),
    /// So long after the last one.
    Time(Duration),
}

/// An epoch may take hours.
const LONGEST: Duration = Duration::from_secs(600);

impl Every {
    /// Whether a checkpoint is due after `step`, at the end of an epoch or not, so long `since` the last one.
    pub fn is_due(self, step: u64, epoch_ends: bool, since: Duration) -> bool {
        match self {
            Self::Usual => epoch_ends || since >= LONGEST,
            Self::Steps(steps) => step.is_multiple_of(steps),
            Self::Time(time) => since >= time,
        }
    }

    /// Whether it is what is usual.
    pub fn is_usual(&self) -> bool {
        *self == Self::Usual
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Steps(u64),
    Text(String),
}

impl TryFrom<Written> for Every {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Steps(steps) => steps.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Every> for Written {
    fn from(every: Every) -> Self {
        match every {
            Every::Steps(steps) => Self::Steps(steps),
            other => Self::Text(other.to_string()),
        }
    }
}

const UNITS: [(&str, u64); 3] = [("min", 60), ("h", 3600), ("s", 1)];

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither steps nor a time; write 500 for steps, or 10min, 90s or 2h");
        if text == "usual" {
            return Ok(Self::Usual);
        }
        let unit = UNITS.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
        let number = unit.map_or(text, |(number, _)| number.trim_end());
        let number: u64 =
            number.parse().ok().filter(|number| (1..=1_000_000_000).contains(number)).ok_or_else(wrong)?;
        Ok(unit.map_or(Self::Steps(number), |(_, seconds)| Self::Time(Duration::from_secs(number * seconds))))
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => f.write_str("usual"),
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Time(time) => write!(f, "{}s", time.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_times_are_told_apart() {
        let minutes = |minutes: u64| Every::Time(Duration::from_secs(60 * minutes));
        for (text, every) in
            [("500", Every::Steps(500)), ("10min", minutes(10)), ("2 h", minutes(120)), ("usual", Every::Usual)]
        {
            assert_eq!(text.parse(), Ok(every), "{text}");
            assert_eq!(every.to_string().parse(), Ok(every), "{text}");
        }
        for text in ["", "0", "0min", "-3", "min", "5 weeks", "1.5h", "99999999999999999999"] {
            assert!(text.parse::<Every>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_is_due_when_it_should_be() {
        let second = Duration::from_secs(1);
        assert!(Every::Usual.is_due(7, true, second) && Every::Usual.is_due(7, false, LONGEST));
        assert!(!Every::Usual.is_due(7, false, second));
        assert!(Every::Steps(5).is_due(10, false, second) && !Every::Steps(5).is_due(11, true, 1000 * second));
        assert!(
            Every::Time(9 * second).is_due(1, false, 9 * second) && !Every::Time(9 * second).is_due(1, true, second)
        );
    }
}

//! The numbers of a recipe and their limits, once for the form, the address and the worker.

use crate::DistilRecipe;

/// A numeric option of a recipe.
pub struct NumberOption {
    /// In the address; `option-` before it is the field's id.
    pub key: &'static str,
    /// For messages.
    pub label: &'static str,
    /// The least that is taken.
    pub least: f64,
    /// The most that is taken: what a school's laptop can hold.
    pub most: f64,
    /// The spacing of values.
    pub step: f64,
    /// Whether only multiples of the step are taken.
    pub whole: bool,
    /// Whether the word `all` is taken too; its value is infinite.
    pub all: bool,
    /// From a recipe.
    pub get: fn(&DistilRecipe) -> f64,
    /// Into a recipe.
    pub set: fn(&mut DistilRecipe, f64),
}

macro_rules! whole {
    ($key:literal, $label:literal, $field:ident, $least:literal, $most:expr, $step:literal) => {
        NumberOption {
            key: $key,
            label: $label,
            least: $least as f64,
            most: $most as f64,
            step: $step as f64,
            whole: true,
            all: false,
            get: |recipe| f64::from(recipe.$field),
            set: |recipe, value| recipe.$field = value as u32,
        }
    };
}

macro_rules! real {
    ($key:literal, $label:literal, $field:ident, $least:literal, $most:literal, $step:literal) => {
        NumberOption {
            key: $key,
            label: $label,
            least: $least,
            most: $most,
            step: $step,
            whole: false,
            all: false,
            get: |recipe| f64::from(recipe.$field),
            set: |recipe, value| recipe.$field = value as f32,
        }
    };
}

/// Every numeric option.
pub const NUMBERS: [NumberOption; 14] = [
    NumberOption {
        key: "labels",
        label: "the number of labels",
        least: 0.0,
        most: 60_000.0,
        step: 1.0,
        whole: true,
        all: true,
        get: |recipe| recipe.labels.map_or(f64::INFINITY, f64::from),
        set: |recipe, value| recipe.labels = value.is_finite().then_some(value as u32),
    },
    real!("label-noise", "the share of wrong labels", label_noise, 0.0, 1.0, 0.05),
    real!("temperature", "the temperature", temperature, 0.5, 20.0, 0.5),
    real!("alpha", "the teacher's share", alpha, 0.0, 1.0, 0.05),
    real!("weight", "the weight of the extra term", weight, 0.0, 1000.0, 0.1),
    real!("smoothing", "the smoothing", smoothing, 0.0, 0.9, 0.05),
    whole!("depth", "the number of blocks", depth, 1, 12, 1),
    whole!("width", "the width", width, 4, 256, 4),
    whole!("teacher-steps", "the steps of the teacher", teacher_steps, 1, 100_000, 1),
    whole!("samples", "the number of training pictures", train_samples, 10, 60_000, 1),
    whole!("steps", "the number of steps", steps, 1, 100_000, 1),
    whole!("batch", "the pictures a step", batch, 1, 512, 1),
    real!("learning-rate", "the learning rate", learning_rate, 0.000001, 1.0, 0.0005),
    whole!("seed", "the seed", seed, 0, u32::MAX, 1),
];

impl NumberOption {
    /// A value as a person writes it.
    pub fn text(&self, recipe: &DistilRecipe) -> String {
        self.written((self.get)(recipe))
    }

    // The fields of real numbers are f32; their own shortest text is what was typed.
    fn written(&self, value: f64) -> String {
        if self.all && value.is_infinite() {
            return "all".to_owned();
        }
        if self.whole { value.to_string() } else { (value as f32).to_string() }
    }

    /// Takes a value as a person wrote it.
    ///
    /// # Errors
    /// What is wrong with it; the recipe is as it was.
    pub fn take(&self, recipe: &mut DistilRecipe, text: &str) -> Result<(), String> {
        let (label, least, most) = (self.label, self.least, self.most);
        let word = text.trim();
        if self.all && (word.is_empty() || word == "all") {
            (self.set)(recipe, f64::INFINITY);
            return Ok(());
        }
        let or_all = if self.all { ", or “all”" } else { "" };
        let value = word
            .replace(',', ".")
            .parse()
            .map_err(|_| format!("{label} must be a number from {least} to {most}{or_all}, not “{}”", shorten(text)))?;
        self.check(value)?;
        (self.set)(recipe, value);
        Ok(())
    }

    fn check(&self, value: f64) -> Result<(), String> {
        let (label, least, most) = (self.label, self.least, self.most);
        // The fields of real numbers are f32, and so are their limits.
        let number = |value: f64| if self.whole { value } else { f64::from(value as f32) };
        if !(number(least)..=number(most)).contains(&number(value)) {
            return Err(format!("{label} must lie between {least} and {most}, not {}", self.written(value)));
        }
        if self.whole && value % self.step != 0.0 {
            let kind =
                if self.step == 1.0 { "a whole number".to_owned() } else { format!("a multiple of {}", self.step) };
            return Err(format!("{label} must be {kind}, not {}", self.written(value)));
        }
        Ok(())
    }
}

impl DistilRecipe {
    /// Checks every number, and what only holds for several together.
    ///
    /// # Errors
    /// The first number that does not fit, its value and what is accepted.
    pub fn check(&self) -> Result<(), String> {
        let given = NUMBERS.iter().map(|number| (number, (number.get)(self)));
        given
            .filter(|(number, value)| !(number.all && value.is_infinite()))
            .try_for_each(|(number, value)| number.check(value))?;
        let samples = self.train_samples;
        match self.labels {
            Some(labels) if labels > samples => {
                return Err(format!("there are {samples} training pictures, so {labels} labels are too many"));
            }
            Some(0) if !self.method.has_teacher() => {
                return Err("without a label and without a teacher there is nothing to learn from".to_owned());
            }
            _ => {}
        }
        if let Some(digit) = self.omit.iter().find(|&&digit| digit > 9) {
            return Err(format!("there is no digit {digit} to leave out"));
        }
        if (0..10).all(|digit| self.omit.contains(&digit)) {
            return Err("all digits are left out; keep some".to_owned());
        }
        if self.batch > self.train_samples {
            return Err(format!(
                "a step needs {} pictures and there are {} to train on; lower the pictures a step",
                self.batch, self.train_samples
            ));
        }
        Ok(())
    }
}

/// Digits as a person lists them: `3`, or `7, 8`; nothing for none.
///
/// # Errors
/// What is no digit.
pub fn take_digits(text: &str) -> Result<Vec<u32>, String> {
    let parts = text.split([',', ' ', '+']).filter(|part| !part.is_empty());
    let mut digits = parts
        .map(|part| part.parse().ok().filter(|digit| *digit < 10))
        .collect::<Option<Vec<u32>>>()
        .ok_or_else(|| format!("the digits left out must be like 3 or 7,8, not “{}”", shorten(text)))?;
    digits.sort_unstable();
    digits.dedup();
    Ok(digits)
}

/// The list that [`take_digits`] reads.
pub fn digits_text(digits: &[u32]) -> String {
    digits.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// At most 40 characters of something from outside.
pub fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Method;

    #[test]
    fn the_defaults_fit() {
        assert_eq!(DistilRecipe::default().check(), Ok(()));
    }

    #[test]
    fn labels_and_left_out_digits_are_read_as_they_are_written() {
        let mut recipe = DistilRecipe::default();
        let labels = NUMBERS.iter().find(|number| number.key == "labels").expect("there is one");
        for text in ["all", "12", "0"] {
            labels.take(&mut recipe, text).expect("fits");
            assert_eq!(labels.text(&recipe), text);
        }
        assert_eq!((take_digits("8, 7"), take_digits("")), (Ok(vec![7, 8]), Ok(vec![])));
        assert!(take_digits("12").is_err() && take_digits("x").is_err());
        assert_eq!(digits_text(&[7, 8]), "7,8");
        for nonsense in [
            DistilRecipe { labels: Some(20_000), ..DistilRecipe::default() },
            DistilRecipe { labels: Some(0), method: Method::None, ..DistilRecipe::default() },
            DistilRecipe { omit: (0..10).collect(), ..DistilRecipe::default() },
            DistilRecipe { omit: vec![10], ..DistilRecipe::default() },
        ] {
            nonsense.check().expect_err("nonsense");
        }
    }

    #[test]
    fn every_number_survives_its_limits() {
        for number in &NUMBERS {
            for value in [number.least, number.most] {
                let mut recipe = DistilRecipe::default();
                (number.set)(&mut recipe, value);
                let text = number.text(&recipe);
                let mut back = DistilRecipe::default();
                number.take(&mut back, &text).unwrap_or_else(|problem| panic!("{}: {problem}", number.key));
                assert_eq!(back, recipe, "{}", number.key);
            }
            let mut recipe = DistilRecipe::default();
            for nonsense in ["", "x", "NaN", "inf", "-1", "1e99"] {
                if number.all && nonsense.is_empty() {
                    continue;
                }
                assert!(number.take(&mut recipe, nonsense).is_err(), "{} took {nonsense:?}", number.key);
            }
            assert_eq!(recipe, DistilRecipe::default(), "{} changed by nonsense", number.key);
        }
    }
}

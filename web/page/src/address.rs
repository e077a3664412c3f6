//! What the page's address says: the view, a step of the lesson, and every option that is not the default.
//!
//! `#distil?method=saf&depth=2` can be sent to a class. An address is written by people, so nothing in it is trusted: an
//! option that makes no sense keeps its default and leaves a line for the person. The limits are those of
//! [`NUMBERS`].

use potstill_protocol::{DevicePreference, DistilRecipe, Fault, NUMBERS, shorten};

/// What the page shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Training.
    #[default]
    Distil,
    /// Teacher beside student.
    Compare,
    /// Pictures.
    Classify,
    /// The walk for a class.
    Lesson,
}

impl View {
    /// All of them, in the order of the navigation.
    pub const ALL: [View; 4] = [View::Distil, View::Compare, View::Classify, View::Lesson];

    /// As it stands in the address.
    pub fn name(self) -> &'static str {
        match self {
            View::Distil => "distil",
            View::Compare => "compare",
            View::Classify => "classify",
            View::Lesson => "lesson",
        }
    }
}

/// How many steps the lesson has.
pub const LESSON_STEPS: u32 = 5;

/// Takes one of the named options: `data`, `teacher`, `method`.
pub fn take_name(recipe: &mut DistilRecipe, key: &str, text: &str) -> Result<(), String> {
    fn named<T: serde::de::DeserializeOwned>(text: &str, what: &str, known: &str) -> Result<T, String> {
        serde_json::from_value(text.into())
            .map_err(|_| format!("{what} “{}” is not known; there is {known}", shorten(text)))
    }
    match key {
        "data" => recipe.data = named(text, "the data set", "digits, mnist")?,
        "teacher" => recipe.teacher = named(text, "the teacher", "shipped, live")?,
        "method" => {
            recipe.method = named(text, "the method", "none, soft, hard, saf, cls-kd, lwr, label-smoothing")?;
        }
        _ => return Err(format!("the option “{}” is not known", shorten(key))),
    }
    Ok(())
}

/// The text of a named option.
pub fn name_text(recipe: &DistilRecipe, key: &str) -> String {
    let value = match key {
        "data" => serde_json::to_value(recipe.data),
        "teacher" => serde_json::to_value(recipe.teacher),
        _ => serde_json::to_value(recipe.method),
    };
    value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The keys of the named options.
pub const NAMES: [&str; 3] = ["data", "teacher", "method"];

/// An address taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Address {
    /// What to show.
    pub view: View,
    /// The step of the lesson, from 1.
    pub lesson: Option<u32>,
    /// Defaults where the address says nothing or nonsense.
    pub recipe: DistilRecipe,
    /// A line for each thing that was not taken.
    pub problems: Vec<String>,
}

/// Takes the part of an address from `#` on apart.
pub fn parse(hash: &str) -> Address {
    let mut address = Address::default();
    let hash = hash.trim_start_matches('#');
    let (view, options) = hash.split_once('?').unwrap_or((hash, ""));
    match View::ALL.into_iter().find(|known| known.name() == view) {
        Some(view) => address.view = view,
        None if view.is_empty() => {}
        None => address.problems.push(format!("there is no view “{}”; this is Distil", shorten(view))),
    }
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let taken = if key == "lesson" {
            match value.parse() {
                Ok(step) if (1..=LESSON_STEPS).contains(&step) => {
                    address.lesson = Some(step);
                    Ok(())
                }
                _ => Err(format!("the lesson has the steps 1 to {LESSON_STEPS}, not “{}”", shorten(value))),
            }
        } else if let Some(number) = NUMBERS.iter().find(|number| number.key == key) {
            number.take(&mut address.recipe, value)
        } else {
            take_name(&mut address.recipe, key, value)
        };
        if let Err(problem) = taken {
            address.problems.push(format!("{problem}; the default is used"));
        }
    }
    if let Err(problem) = address.recipe.check() {
        address.problems.push(problem);
    }
    address
}

/// The address of a view, with what differs from the defaults.
pub fn write(view: View, lesson: Option<u32>, recipe: &DistilRecipe) -> String {
    let default = DistilRecipe::default();
    let mut options: Vec<String> = lesson.map(|step| format!("lesson={step}")).into_iter().collect();
    for key in NAMES {
        let text = name_text(recipe, key);
        if text != name_text(&default, key) {
            options.push(format!("{key}={text}"));
        }
    }
    for number in &NUMBERS {
        let text = number.text(recipe);
        if text != number.text(&default) {
            options.push(format!("{}={text}", number.key));
        }
    }
    let mark = if options.is_empty() { "" } else { "?" };
    format!("#{}{mark}{}", view.name(), options.join("&"))
}

/// What stands before `#`: `?device=cpu`, and for tests `?fault=...`.
pub fn device(search: &str) -> (DevicePreference, Option<Fault>, Vec<String>) {
    let (mut preference, mut fault, mut problems) = (DevicePreference::default(), None, Vec::new());
    for option in search.trim_start_matches('?').split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "device" => match serde_json::from_value(value.into()) {
                Ok(known) => preference = known,
                Err(_) => problems.push(format!(
                    "the device “{}” is not known; there is auto, cpu, software; auto is used",
                    shorten(value)
                )),
            },
            "fault" => fault = serde_json::from_value(value.into()).ok(),
            // Mail programs and learning platforms append their own.
            _ => {}
        }
    }
    (preference, fault, problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use potstill_protocol::Method;

    #[test]
    fn what_is_written_is_read_back() {
        let mut recipe = DistilRecipe::default();
        assert_eq!(write(View::Distil, None, &recipe), "#distil");
        recipe.method = Method::ClsKd;
        recipe.learning_rate = 0.001;
        recipe.depth = 2;
        let text = write(View::Compare, Some(3), &recipe);
        assert_eq!(text, "#compare?lesson=3&method=cls-kd&depth=2&learning-rate=0.001");
        let read = parse(&text);
        assert_eq!((read.view, read.lesson, read.problems.len()), (View::Compare, Some(3), 0));
        assert_eq!(read.recipe, recipe);
    }

    #[test]
    fn nonsense_keeps_the_default_and_says_so() {
        let address = parse("#nowhere?method=magic&depth=0&width=30&seed=1.5&lesson=9&colour=red&batch=32");
        assert_eq!(address.view, View::Distil);
        assert_eq!(address.recipe, DistilRecipe { batch: 32, ..DistilRecipe::default() });
        assert_eq!(address.problems.len(), 7, "{:#?}", address.problems);
        assert!(address.problems[1].contains("soft, hard"), "{}", address.problems[1]);
        let long = parse(&format!("#{}", "é".repeat(5000)));
        assert!(long.problems[0].len() < 200);
        assert_eq!(parse("#distil?batch=512&samples=100").problems.len(), 1);
    }

    #[test]
    fn the_device_is_asked_for_before_the_hash() {
        assert_eq!(device("?device=software&utm=1").0, DevicePreference::Software);
        assert_eq!(device("?fault=no-webgpu").1, Some(Fault::NoWebgpu));
        let (preference, _, problems) = device("?device=toaster");
        assert_eq!((preference, problems.len()), (DevicePreference::Auto, 1));
    }
}

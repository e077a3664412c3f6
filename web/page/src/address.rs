//! What the page's address says: the view, a step of the lesson, and every option that is not the default.
//!
//! `#distil?situation=no-labels` or `#distil?method=saf&depth=2` can be sent to a class. An address is written by people, so nothing in it is trusted: an
//! option that makes no sense keeps its default and leaves a line for the person. The limits are those of
//! [`NUMBERS`].

use potstill_protocol::{DevicePreference, DistilRecipe, Fault, NUMBERS, Situation, digits_text, shorten, take_digits};

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

/// Takes one of the options that are no numbers: `data`, `teacher`, `method`, `omit`.
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
        "omit" => recipe.omit = take_digits(text)?,
        _ => return Err(format!("the option “{}” is not known", shorten(key))),
    }
    Ok(())
}

/// The text of an option that is no number.
pub fn name_text(recipe: &DistilRecipe, key: &str) -> String {
    let value = match key {
        "data" => serde_json::to_value(recipe.data),
        "teacher" => serde_json::to_value(recipe.teacher),
        "omit" => return digits_text(&recipe.omit),
        _ => serde_json::to_value(recipe.method),
    };
    value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The keys of the options that are no numbers.
pub const NAMES: [&str; 4] = ["data", "teacher", "method", "omit"];

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
    let options = || {
        let given = options.split('&').filter(|option| !option.is_empty());
        given.map(|option| option.split_once('=').unwrap_or((option, "")))
    };
    // The situation first: the others change it.
    for (_, name) in options().filter(|(key, _)| *key == "situation") {
        match Situation::ALL.into_iter().find(|one| one.name() == name) {
            Some(one) => address.recipe = one.recipe(),
            None => {
                let known = Situation::ALL.map(Situation::name).join(", ");
                let name = shorten(name);
                address
                    .problems
                    .push(format!("the situation “{name}” is not known; there is {known}; the default is used"));
            }
        }
    }
    for (key, value) in options().filter(|(key, _)| *key != "situation") {
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
    let mut default = DistilRecipe::default();
    let mut options: Vec<String> = lesson.map(|step| format!("lesson={step}")).into_iter().collect();
    if let Some(situation) = Situation::of(recipe).filter(|situation| situation.recipe() != default) {
        options.push(format!("situation={}", situation.name()));
        default = situation.recipe();
    }
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

/// What stands before `#`.
#[derive(Debug, Default)]
pub struct Before {
    /// `?device=cpu`.
    pub device: DevicePreference,
    /// `?fault=...`, for tests.
    pub fault: Option<Fault>,
    /// `?patience=...`, for tests: after so many seconds a silent worker is noticed.
    pub patience: Option<f64>,
    /// A line for each thing that was not taken.
    pub problems: Vec<String>,
}

/// Takes what stands before `#` apart.
pub fn before(search: &str) -> Before {
    let mut before = Before::default();
    for option in search.trim_start_matches('?').split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "device" => match serde_json::from_value(value.into()) {
                Ok(known) => before.device = known,
                Err(_) => before.problems.push(format!(
                    "the device “{}” is not known; there is auto, cpu, software; auto is used",
                    shorten(value)
                )),
            },
            "fault" => before.fault = serde_json::from_value(value.into()).ok(),
            "patience" => before.patience = value.parse().ok(),
            // Mail programs and learning platforms append their own.
            _ => {}
        }
    }
    before
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
        recipe.labels = None;
        recipe.omit = vec![7, 8];
        assert_eq!(parse(&write(View::Distil, None, &recipe)).recipe, recipe);
    }

    #[test]
    fn a_situation_is_one_word() {
        for one in Situation::ALL {
            let recipe = DistilRecipe { seed: 3, ..one.recipe() };
            let text = write(View::Distil, None, &recipe);
            let name = if one == Situation::FewLabels { String::new() } else { format!("situation={}&", one.name()) };
            assert_eq!(text, format!("#distil?{name}seed=3"));
            assert_eq!(parse(&text).recipe, recipe);
        }
        let read = parse("#distil?steps=9&situation=no-labels");
        assert_eq!(read.recipe, DistilRecipe { steps: 9, ..Situation::NoLabels.recipe() });
        assert_eq!(parse("#distil?situation=magic").problems.len(), 1);
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
        assert_eq!(before("?device=software&utm=1").device, DevicePreference::Software);
        assert_eq!(before("?fault=no-webgpu").fault, Some(Fault::NoWebgpu));
        let read = before("?device=toaster");
        assert_eq!((read.device, read.problems.len()), (DevicePreference::Auto, 1));
    }
}

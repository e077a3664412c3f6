//! The Lesson view: a strip above the other views says what to do and what to look for, step by step.

use web_sys::Event;

use crate::address::{LESSON_STEPS, View};
use crate::{compare, distil, dom, place};

/// A step of the lesson.
struct Step {
    title: &'static str,
    view: View,
    /// Paragraphs.
    text: &'static [&'static str],
}

const STEPS: [Step; LESSON_STEPS as usize] = [
    Step {
        title: "What a label says",
        view: View::Compare,
        text: &[
            "Choose some samples with the arrows. The bars show the label: one digit has everything, the others nothing.",
            "Ask: is every label as certain as it looks? Find a digit that a friend would read differently.",
        ],
    },
    Step {
        title: "What a teacher says",
        view: View::Compare,
        text: &[
            "Now the teacher answers too. Its first bar in each row is what it believes.",
            "Look at the small shares, and draw a digit half way between a 4 and a 9. The label has to decide; the teacher may say that both are possible.",
        ],
    },
    Step {
        title: "Temperature",
        view: View::Compare,
        text: &[
            "Move the slider. The striped bars show the same answer at a higher temperature: small shares grow.",
            "That is what the student is taught to copy. Ask: at which temperature do you learn most about look-alikes?",
        ],
    },
    Step {
        title: "A student with a teacher, and one without",
        view: View::Distil,
        text: &[
            "Press Start. The student with a teacher and the one without begin with the same numbers and see the same pictures.",
            "Ask: whose curve rises first? Is the difference larger with fewer training pictures, or with another seed?",
        ],
    },
    Step {
        title: "Where they differ",
        view: View::Compare,
        text: &[
            "Press “Test on all new pictures” and choose a cell away from the diagonal. Then show where student and teacher differ most.",
            "Ask: would you have known better? Does the student repeat its teacher's mistakes?",
        ],
    },
];

/// Connects the view's controls.
pub fn start() {
    dom::on_press("strip-back", || turn(-1));
    dom::on_press("strip-next", || turn(1));
    dom::on_press("lesson-curves-csv", || distil::curves_csv(true));
    dom::on_press("lesson-curves-png", || distil::curves_png(true));
    dom::on_press("lesson-confusion-csv", compare::confusion_csv);
    dom::on_press("lesson-confusion-png", compare::confusion_png);
    dom::on(&dom::by_id("print"), "click", |_: Event| {
        dom::window().print().ok();
    });
}

fn turn(by: i32) {
    let Some(step) = place::lesson() else { return };
    match step.checked_add_signed(by) {
        Some(step) if (1..=LESSON_STEPS).contains(&step) => place::go(STEPS[step as usize - 1].view, Some(step)),
        _ => place::go(View::Lesson, None),
    }
}

/// Shows the strip for a step, or none. `moved`: whether the person just came here.
pub fn show(step: Option<u32>, moved: bool) {
    let strip = dom::by_id("strip");
    dom::show(&strip, step.is_some());
    // The style sheet hides what later steps are about.
    let compare = dom::by_id("view-compare");
    match step {
        Some(step) => dom::set(&compare, "data-lesson", &step.to_string()),
        None => {
            compare.remove_attribute("data-lesson").ok();
        }
    }
    let Some((number, step)) = step.and_then(|number| Some((number, STEPS.get(number as usize - 1)?))) else { return };
    dom::text(&dom::by_id("strip-count"), &format!("Lesson, step {number} of {LESSON_STEPS}"));
    dom::text(&dom::by_id("strip-title"), step.title);
    let area = dom::by_id("strip-text");
    dom::clear(&area);
    for paragraph in step.text {
        dom::add(&area, dom::make("p", "", paragraph));
    }
    dom::text(&dom::by_id("strip-next"), if number == LESSON_STEPS { "Finish" } else { "Next" });
    if moved {
        dom::by_id("strip-title").focus().ok();
    }
}

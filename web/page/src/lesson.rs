//! The Lesson view: a strip above the other views says what to do and what to look for, step by step.

use potstill_protocol::Situation;
use web_sys::Event;

use crate::address::{LESSON_STEPS, View};
use crate::run::run;
use crate::{compare, distil, dom, place};

/// A step of the lesson.
struct Step {
    title: &'static str,
    view: View,
    /// What is to be trained in it.
    situation: Option<Situation>,
    /// Paragraphs.
    text: &'static [&'static str],
}

const STEPS: [Step; LESSON_STEPS as usize] = [
    Step {
        title: "What a label says",
        view: View::Compare,
        situation: None,
        text: &[
            "Let the 4 turn into a 9 with the slider. The label has to decide: it names one digit and rules out the other, also half way.",
            "Ask: where would you draw the line? Draw a digit that two of you read differently.",
        ],
    },
    Step {
        title: "What a teacher says beside it",
        view: View::Compare,
        situation: None,
        text: &[
            "Now the teacher answers too. Half way it says: perhaps a 4, perhaps a 9, surely no 0. No label says that.",
            "Draw your own. Ask: what do the small shares tell about this digit? They are called dark knowledge.",
        ],
    },
    Step {
        title: "Temperature",
        view: View::Compare,
        situation: None,
        text: &[
            "The striped bars are the same answer at a higher temperature: small shares grow. The slider stands where the student is taught.",
            "Ask: at which temperature do you learn most about look-alikes? What is lost when it is very high?",
        ],
    },
    Step {
        title: "A student that never saw a 3",
        view: View::Distil,
        situation: Some(Situation::UnseenThree),
        text: &[
            "Press Start. All 3s are taken away. At the end both are told one thing more: that one digit in ten is a 3. Which of them knows what a 3 looks like?",
            "Ask: nobody showed the student a 3, so who told it? Think of the teacher's small shares for 2, 5 and 8.",
        ],
    },
    Step {
        title: "Where they differ",
        view: View::Compare,
        situation: Some(Situation::UnseenThree),
        text: &[
            "Press “Test on all new pictures”, then look at the row of the 3s. Then show where student and teacher differ most.",
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
        Some(step) if (1..=LESSON_STEPS).contains(&step) => {
            let next = &STEPS[step as usize - 1];
            // What is under way is not ended by turning a page.
            if let Some(situation) = next.situation.filter(|_| !run().state.borrow().running) {
                let recipe = situation.recipe();
                let same = run().state.borrow().prepared.as_ref().is_some_and(|run| run.recipe == recipe);
                if !same {
                    distil::show_recipe(&recipe);
                }
            }
            place::go(next.view, Some(step));
        }
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
    compare::lesson(number);
    dom::text(&dom::by_id("strip-next"), if number == LESSON_STEPS { "Finish" } else { "Next" });
    if moved {
        dom::by_id("strip-title").focus().ok();
    }
}

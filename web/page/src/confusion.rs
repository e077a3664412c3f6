//! Confusion matrices as tables: colour and number in every cell, and a button where there are pictures behind it.
//!
//! One cell of each matrix takes part in the tab order; arrow keys move between the cells.

use potstill_protocol::{Evaluation, Model, ModelEvaluation};
use wasm_bindgen::JsCast;
use web_sys::{Element, Event, HtmlCanvasElement, HtmlElement, KeyboardEvent};

use crate::{dom, table, words};

/// Cells with a greater share are filled, and their number takes the ground's colour.
const STRONG: f32 = 0.75;
/// Other cells are tinted at most so far, in percent: a number on a deeper tint would be hard to read in one theme.
const DEEPEST_TINT: f32 = 45.0;

/// Shows the matrices; `chosen` is called with a cell's network, label and answer.
pub fn show(area: &Element, evaluation: &Evaluation, names: &[String], chosen: fn(Model, u32, u32)) {
    dom::clear(area);
    for model in &evaluation.models {
        matrix(area, model, names, chosen);
    }
}

fn matrix(area: &Element, model: &ModelEvaluation, names: &[String], chosen: fn(Model, u32, u32)) {
    let classes = table::side(model.confusion.len());
    let name = |class: usize| names.get(class).cloned().unwrap_or_else(|| class.to_string());
    let figure = dom::add(area, dom::make("figure", words::model_class(model.model), ""));
    let table = dom::add(&figure, dom::make("table", "", ""));
    let title = format!("{}: {} right", words::model(model.model), words::percent(model.accuracy));
    dom::add(&table, dom::make("caption", "", &title));
    let head = dom::add(&table, dom::make("thead", "", ""));
    let row = dom::add(&head, dom::make("tr", "", ""));
    dom::add(&row, dom::make("td", "corner", ""));
    for answer in 0..classes {
        dom::set(&dom::add(&row, dom::make("th", "", &name(answer))), "scope", "col");
    }
    let body = dom::add(&table, dom::make("tbody", "", ""));
    for label in 0..classes {
        let row = dom::add(&body, dom::make("tr", "", ""));
        dom::set(&dom::add(&row, dom::make("th", "", &name(label))), "scope", "row");
        let counts = &model.confusion[label * classes..(label + 1) * classes];
        let all = counts.iter().sum::<u32>().max(1);
        for (answer, &count) in counts.iter().enumerate() {
            let cell = dom::add(&row, dom::make("td", "", ""));
            let tint = shade(count, all);
            dom::style(&cell, "--share", &format!("{tint:.0}"));
            if tint > DEEPEST_TINT {
                cell.set_class_name("strong");
            }
            let button = dom::add(&cell, dom::make("button", "", &count.to_string()));
            dom::set(&button, "type", "button");
            dom::set(&button, "tabindex", if label + answer == 0 { "0" } else { "-1" });
            dom::set(&button, "data-at", &format!("{label},{answer}"));
            let (said_label, said_answer) = (name(label), name(answer));
            let pictures = if count == 1 { "picture" } else { "pictures" };
            dom::set(&button, "aria-label", &format!("{said_label} read as {said_answer}: {count} {pictures}"));
            let model = model.model;
            dom::on(&button, "click", move |_: Event| chosen(model, label as u32, answer as u32));
        }
    }
    let grid = table.clone();
    dom::on(&table, "keydown", move |event: KeyboardEvent| move_focus(&grid, classes, &event));
}

/// How much of its colour a cell shows, in percent: rare mistakes must be seen too, so the root of the share.
fn shade(count: u32, all: u32) -> f32 {
    let share = (count as f32 / all as f32).sqrt();
    if share > STRONG { 100.0 } else { share / STRONG * DEEPEST_TINT }
}

fn move_focus(table: &HtmlElement, classes: usize, event: &KeyboardEvent) {
    let Some(target) = event.target().and_then(|target| target.dyn_into::<Element>().ok()) else { return };
    let Some(at) = target.get_attribute("data-at") else { return };
    let Some((Ok(label), Ok(answer))) =
        at.split_once(',').map(|(label, answer)| (label.parse::<usize>(), answer.parse::<usize>()))
    else {
        return;
    };
    let last = classes.saturating_sub(1);
    let (label, answer) = match event.key().as_str() {
        "ArrowUp" => (label.saturating_sub(1), answer),
        "ArrowDown" => ((label + 1).min(last), answer),
        "ArrowLeft" => (label, answer.saturating_sub(1)),
        "ArrowRight" => (label, (answer + 1).min(last)),
        "Home" => (label, 0),
        "End" => (label, last),
        _ => return,
    };
    event.prevent_default();
    if let Ok(Some(next)) = table.query_selector(&format!("[data-at=\"{label},{answer}\"]")) {
        dom::set(&target, "tabindex", "-1");
        dom::set(&next, "tabindex", "0");
        next.unchecked_into::<HtmlElement>().focus().ok();
    }
}

/// All matrices in one picture.
pub fn picture(evaluation: &Evaluation, names: &[String]) -> HtmlCanvasElement {
    const CELL: f64 = 34.0;
    const GAP: f64 = 30.0;
    let classes = evaluation.models.first().map_or(0, |model| table::side(model.confusion.len()));
    let side = CELL * (classes as f64 + 1.0);
    let canvas: HtmlCanvasElement = dom::make("canvas", "", "").unchecked_into();
    canvas.set_width(((side + GAP) * evaluation.models.len() as f64 + GAP) as u32);
    canvas.set_height((side + 2.0 * GAP + CELL) as u32);
    let pen = dom::context(&canvas);
    let (ground, ink) = (dom::colour("--panel"), dom::colour("--ink"));
    pen.set_fill_style_str(&ground);
    pen.fill_rect(0.0, 0.0, f64::from(canvas.width()), f64::from(canvas.height()));
    pen.set_text_baseline("middle");
    for (number, model) in evaluation.models.iter().enumerate() {
        let (left, top) = (GAP + (side + GAP) * number as f64, GAP + CELL);
        pen.set_text_align("left");
        pen.set_fill_style_str(&ink);
        pen.set_font("600 16px system-ui, sans-serif");
        let title = format!("{}: {} right", words::model(model.model), words::percent(model.accuracy));
        pen.fill_text(&title, left, GAP).ok();
        pen.set_text_align("center");
        pen.set_font("13px system-ui, sans-serif");
        let write = |text: &str, row: f64, column: f64| {
            let (x, y) = (left + (column + 0.5) * CELL, top + (row + 0.5) * CELL);
            pen.fill_text_with_max_width(text, x, y, CELL - 2.0).ok();
        };
        for class in 0..classes {
            let name = names.get(class).cloned().unwrap_or_else(|| class.to_string());
            write(&name, 0.0, class as f64 + 1.0);
            write(&name, class as f64 + 1.0, 0.0);
        }
        let colour = dom::colour(&format!("--{}", words::model_class(model.model)));
        for label in 0..classes {
            let counts = &model.confusion[label * classes..(label + 1) * classes];
            let all = counts.iter().sum::<u32>().max(1);
            for (answer, &count) in counts.iter().enumerate() {
                let tint = shade(count, all);
                let (row, column) = (label as f64 + 1.0, answer as f64 + 1.0);
                pen.set_global_alpha(f64::from(tint) / 100.0);
                pen.set_fill_style_str(&colour);
                pen.fill_rect(left + column * CELL, top + row * CELL, CELL - 1.0, CELL - 1.0);
                pen.set_global_alpha(1.0);
                pen.set_fill_style_str(if tint > DEEPEST_TINT { &ground } else { &ink });
                write(&count.to_string(), row, column);
            }
        }
        pen.set_fill_style_str(&ink);
    }
    canvas
}

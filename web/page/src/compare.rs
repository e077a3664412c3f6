//! The Compare view: one digit, three networks; their attention; what they mix up and where they differ.
//!
//! Drawing asks the worker all the time. At most one question is under way; what is drawn meanwhile becomes the next.

use std::cell::{Cell, RefCell};

use js_sys::{ArrayBuffer, Uint8Array};
use potstill_protocol::{Answer, Command, Model, Opinion, SampleNote};
use web_sys::{Event, PointerEvent};

use crate::address::View;
use crate::picture::{Bars, SIDE};
use crate::run::{Change, run, spawn};
use crate::{confusion, dom, files, notice, picture, place, table, words};

/// The lesson's steps up to this one begin with a digit between a 4 and a 9.
const BETWEEN: u32 = 3;
/// Samples in the strip.
const STRIP: u32 = 10;
/// Samples on which student and teacher differ most.
const DIFFERING: u32 = 20;
/// Radius of the pen, in points of the digit.
const PEN: f32 = 1.35;
/// While networks train, their opinion is asked anew so often, in milliseconds.
const ASK_PAUSE: f64 = 2000.0;

/// What is looked at.
#[derive(Clone, Default)]
enum Digit {
    #[default]
    Nothing,
    /// Drawn; the ink is kept with the view.
    Drawn,
    /// Between a 4 and a 9, as the slider stands.
    Morph,
    Sample(SampleNote, Vec<u8>),
}

#[derive(Default)]
struct Compare {
    digit: RefCell<Digit>,
    /// `[28, 28]`, 0 to 1.
    ink: RefCell<Vec<f32>>,
    /// Where the pen was, in points.
    pen: Cell<Option<(f32, f32)>>,
    /// A question is under way, and another one waits.
    asking: Cell<bool>,
    again: Cell<bool>,
    asked_at: Cell<f64>,
    bars: RefCell<Option<(Bars, Vec<(Model, Bars)>)>>,
    /// The first sample of the strip that is shown.
    strip: Cell<Option<u32>>,
    /// Whether the person has moved the temperature since the networks came.
    moved: Cell<bool>,
}

thread_local! {
    static VIEW: Compare = Compare::default();
}

/// Connects the view's controls.
pub fn start() {
    run().listen(|change| match change {
        Change::Data => data_changed(),
        Change::Networks => networks_changed(),
        Change::Progress { .. } => {
            clear_tests();
            trained();
        }
        Change::Stopped(_) => trained(),
        Change::State | Change::Worker | Change::Checked(..) | Change::Kept => {}
    });
    VIEW.with(|view| *view.ink.borrow_mut() = vec![0.0; SIDE * SIDE]);
    let pad = dom::canvas("pad");
    dom::paint(&pad, SIDE as u32, &picture::grey(&[0; SIDE * SIDE]));
    let area = pad.clone();
    dom::on(&pad, "pointerdown", move |event: PointerEvent| {
        event.prevent_default();
        area.set_pointer_capture(event.pointer_id()).ok();
        VIEW.with(|view| {
            if !matches!(*view.digit.borrow(), Digit::Drawn) {
                view.ink.borrow_mut().fill(0.0);
                *view.digit.borrow_mut() = Digit::Drawn;
            }
        });
        mark_sample(None);
        draw_to(&event);
    });
    dom::on(&pad, "pointermove", |event: PointerEvent| {
        if VIEW.with(|view| view.pen.get()).is_some() {
            draw_to(&event);
        }
    });
    for end in ["pointerup", "pointercancel"] {
        dom::on(&pad, end, |_: Event| VIEW.with(|view| view.pen.set(None)));
    }
    dom::on_press("pad-clear", || {
        VIEW.with(|view| {
            view.ink.borrow_mut().fill(0.0);
            *view.digit.borrow_mut() = Digit::Nothing;
        });
        show_pad(&[0; SIDE * SIDE], "Drawing area of 28 by 28 points, empty");
        mark_sample(None);
        dom::text(&dom::by_id("sample-label"), "");
        clear_opinions();
    });
    dom::on(&dom::input("sample-number"), "change", |_: Event| {
        let number = dom::input("sample-number").value_as_number();
        choose(if number.is_finite() { number.max(0.0) as u32 } else { 0 });
    });
    dom::on_press("sample-back", || choose(current().saturating_sub(1)));
    dom::on_press("sample-next", || choose(current().saturating_add(1)));
    dom::on(&dom::input("morph"), "input", |_: Event| morph());
    dom::on(&dom::input("temperature"), "input", |_: Event| {
        VIEW.with(|view| view.moved.set(true));
        show_temperature();
        ask();
    });
    dom::on_press("evaluate", || {
        spawn(async {
            run().need_networks().await?;
            dom::enable("evaluate", false);
            let done = run().evaluate().await;
            run().tell(&Change::State);
            done?;
            show_confusions();
            notice::speak("Tested on all new pictures");
            Ok(())
        });
    });
    dom::on_press("confusion-csv", confusion_csv);
    dom::on_press("confusion-png", confusion_png);
    dom::on_press("disagreements-show", || spawn(show_disagreements()));
}

/// The view is shown.
pub fn shown() {
    spawn(async {
        run().need_networks().await?;
        note_training();
        show_temperature();
        if VIEW.with(|view| view.strip.get()).is_none() {
            // What was drawn meanwhile stays.
            let empty = matches!(VIEW.with(|view| view.digit.borrow().clone()), Digit::Nothing);
            let between = place::lesson().is_some_and(|step| step <= BETWEEN);
            pick(0, empty && !between).await?;
            if empty && between {
                morph();
            }
        }
        ask();
        Ok(())
    });
}

/// The lesson's step is shown: the first ones begin between a 4 and a 9.
pub fn lesson(step: u32) {
    if step <= BETWEEN && !matches!(VIEW.with(|view| view.digit.borrow().clone()), Digit::Drawn) {
        morph();
    }
}

/// Other data: what was shown of the old is gone.
fn data_changed() {
    VIEW.with(|view| {
        *view.bars.borrow_mut() = None;
        view.strip.set(None);
        *view.digit.borrow_mut() = Digit::Nothing;
    });
    for id in ["opinions", "attention", "sample-strip", "top-answers"] {
        dom::clear(&dom::by_id(id));
    }
    clear_tests();
}

/// Other networks: their old test is gone, and they are asked anew.
fn networks_changed() {
    clear_tests();
    note_training();
    VIEW.with(|view| view.moved.set(false));
    show_temperature();
    if place::view() != View::Compare {
        return;
    }
    if VIEW.with(|view| view.strip.get()).is_none() {
        // Other data came with them.
        return shown();
    }
    ask();
}

/// The networks are no longer those that were tested.
fn clear_tests() {
    for id in ["confusions", "cell", "disagreements"] {
        dom::clear(&dom::by_id(id));
    }
}

/// The networks were trained on: asks them anew, now and then.
fn trained() {
    if place::view() != View::Compare {
        return;
    }
    note_training();
    let now = js_sys::Date::now();
    if now - VIEW.with(|view| view.asked_at.get()) > ASK_PAUSE || !run().state.borrow().running {
        ask();
    }
}

fn note_training() {
    let state = run().state.borrow();
    let step = state.prepared.as_ref().map_or(0, |prepared| prepared.step);
    let words = match () {
        () if state.prepared.is_none() => String::new(),
        () if step == 0 => {
            "Student and baseline have not learnt anything yet. Train them in the Distil view.".to_owned()
        }
        () if state.running => format!("Student and baseline are learning, step {step}. Pause to test them."),
        () => format!("Student and baseline have learnt for {step} steps."),
    };
    dom::text(&dom::by_id("compare-note"), &words);
}

// ---- The digit

/// Draws what the slider says between a 4 and a 9: the gap at the top closes.
fn morph() {
    let part = dom::input("morph").value_as_number() as f32 / 100.0;
    // From the stem's foot up, over the gap, down the left side, and along the bar back to the stem.
    let (top, bow) = (7.0 - part, 2.2 * part);
    let over = [(18.0, top), (16.5, top - bow), (14.0, top - 1.3 * bow), (11.5, top - bow), (9.5, top)];
    let closed = 1.0 + part * (over.len() - 1) as f32;
    let mut ink = vec![0.0; SIDE * SIDE];
    let mut stroke = |from: (f32, f32), to: (f32, f32)| {
        let steps = ((to.0 - from.0).hypot(to.1 - from.1) * 3.0).ceil().max(1.0);
        for step in 0..=steps as usize {
            let at = step as f32 / steps;
            dab(&mut ink, from.0 + (to.0 - from.0) * at, from.1 + (to.1 - from.1) * at);
        }
    };
    stroke((18.0, 22.5), (18.0, top));
    stroke((9.5, top), (9.5 - 0.5 * part, 11.0));
    stroke((9.5 - 0.5 * part, 11.0), (10.0, 14.5));
    stroke((10.0, 14.5), (18.0, 14.5 - part));
    // The arc over the top grows from both ends.
    for (at, pair) in over.windows(2).enumerate() {
        let left = over.len() - 2 - at;
        let reach = (closed - 1.0 - 2.0 * at.min(left) as f32).clamp(0.0, 1.0);
        let (from, to) = if at <= left { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
        if reach > 0.0 {
            stroke(from, (from.0 + (to.0 - from.0) * reach, from.1 + (to.1 - from.1) * reach));
        }
    }
    VIEW.with(|view| {
        *view.ink.borrow_mut() = ink;
        *view.digit.borrow_mut() = Digit::Morph;
        show_pad(&to_bytes(&view.ink.borrow()), &format!("A digit, {:.0} % of the way from a 4 to a 9", 100.0 * part));
    });
    mark_sample(None);
    dom::text(&dom::by_id("sample-label"), "");
    ask();
}

// The label that a morphed digit would get: it has to decide.
fn morph_label() -> u32 {
    if dom::input("morph").value_as_number() < 50.0 { 4 } else { 9 }
}

fn draw_to(event: &PointerEvent) {
    let pad = dom::canvas("pad");
    let (width, height) = (f64::from(pad.client_width().max(1)), f64::from(pad.client_height().max(1)));
    let x = (f64::from(event.offset_x()) / width * SIDE as f64) as f32;
    let y = (f64::from(event.offset_y()) / height * SIDE as f64) as f32;
    VIEW.with(|view| {
        let (from_x, from_y) = view.pen.get().unwrap_or((x, y));
        view.pen.set(Some((x, y)));
        let ink = &mut *view.ink.borrow_mut();
        let steps = (((x - from_x).hypot(y - from_y)) * 3.0).ceil().max(1.0) as usize;
        for step in 0..=steps {
            let part = step as f32 / steps as f32;
            dab(ink, from_x + (x - from_x) * part, from_y + (y - from_y) * part);
        }
        show_pad(&to_bytes(ink), "Drawing area with a drawn digit");
    });
    dom::text(&dom::by_id("sample-label"), "");
    ask();
}

/// A round dab with a soft edge one point wide.
fn dab(ink: &mut [f32], x: f32, y: f32) {
    for row in 0..SIDE {
        for column in 0..SIDE {
            let distance = (column as f32 + 0.5 - x).hypot(row as f32 + 0.5 - y);
            let here = &mut ink[row * SIDE + column];
            *here = here.max((PEN + 0.5 - distance).clamp(0.0, 1.0));
        }
    }
}

fn to_bytes(ink: &[f32]) -> Vec<u8> {
    ink.iter().map(|ink| (ink * 255.0).round() as u8).collect()
}

/// Shifts a drawing by whole points so that its centre of mass is in the middle, as the training digits' is.
fn centred(digit: &[u8]) -> Vec<u8> {
    let (mut mass, mut across, mut down) = (0.0f32, 0.0f32, 0.0f32);
    for (at, &ink) in digit.iter().enumerate() {
        mass += f32::from(ink);
        across += f32::from(ink) * (at % SIDE) as f32;
        down += f32::from(ink) * (at / SIDE) as f32;
    }
    if mass == 0.0 {
        return digit.to_vec();
    }
    let middle = (SIDE as f32 - 1.0) / 2.0;
    let (shift_x, shift_y) = ((middle - across / mass).round() as i32, (middle - down / mass).round() as i32);
    let mut moved = vec![0; digit.len()];
    for (at, &ink) in digit.iter().enumerate() {
        let (x, y) = ((at % SIDE) as i32 + shift_x, (at / SIDE) as i32 + shift_y);
        if (0..SIDE as i32).contains(&x) && (0..SIDE as i32).contains(&y) {
            moved[y as usize * SIDE + x as usize] = ink;
        }
    }
    moved
}

fn show_pad(digit: &[u8], said: &str) {
    let pad = dom::canvas("pad");
    dom::paint(&pad, SIDE as u32, &picture::grey(digit));
    dom::set(&pad, "aria-label", said);
}

fn current() -> u32 {
    let number = dom::input("sample-number").value_as_number();
    if number.is_finite() { number.max(0.0) as u32 } else { 0 }
}

/// Takes a held-out sample, as far as there is one of that number.
fn choose(number: u32) {
    spawn(async move {
        run().need_networks().await?;
        pick(number, true).await
    });
}

/// Shows the strip around a sample, and takes the sample too where that is wanted.
async fn pick(number: u32, taken: bool) -> Result<(), String> {
    let held_out = run().state.borrow().data.as_ref().map_or(0, |data| data.held_out);
    let number = number.min(held_out.saturating_sub(1));
    dom::input("sample-number").set_value(&number.to_string());
    let first = number / STRIP * STRIP;
    let (samples, pixels) = samples(Command::Browse { first, count: STRIP }).await?;
    if VIEW.with(|view| view.strip.replace(Some(first))) != Some(first) {
        let caption = |sample: &SampleNote| run().class_name(sample.label);
        picture::thumbs(&dom::by_id("sample-strip"), &samples, &pixels, caption, take);
    }
    let at = (number - first) as usize;
    if !taken {
        return Ok(());
    }
    if let (Some(sample), Some(digit)) = (samples.get(at), pixels.chunks_exact(SIDE * SIDE).nth(at)) {
        take(sample.clone(), digit.to_vec());
    }
    Ok(())
}

async fn samples(command: Command) -> Result<(Vec<SampleNote>, Vec<u8>), String> {
    match run().client.ask(command, Vec::new()).await? {
        (Answer::Samples { samples }, buffers) => {
            notice::idle();
            Ok((samples, buffers.first().map(files::bytes).unwrap_or_default()))
        }
        _ => Err("the worker sent no samples".to_owned()),
    }
}

/// Looks at a sample.
fn take(sample: SampleNote, digit: Vec<u8>) {
    let label = run().class_name(sample.label);
    show_pad(&digit, &format!("Sample {}, labelled {label}", sample.index));
    dom::input("sample-number").set_value(&sample.index.to_string());
    dom::text(&dom::by_id("sample-label"), &format!("Sample {}; its label is {label}.", sample.index));
    mark_sample(Some(sample.index));
    VIEW.with(|view| *view.digit.borrow_mut() = Digit::Sample(sample, digit));
    ask();
}

fn mark_sample(index: Option<u32>) {
    let buttons = dom::by_id("sample-strip").children();
    for at in 0..buttons.length() {
        if let Some(button) = buttons.item(at) {
            let own = button.get_attribute("data-sample");
            dom::set(
                &button,
                "aria-pressed",
                if own == index.map(|index| index.to_string()) { "true" } else { "false" },
            );
        }
    }
}

// ---- Opinions

fn temperature() -> f32 {
    dom::input("temperature").value_as_number() as f32
}

/// The slider stands where the student is taught until the person moves it.
fn show_temperature() {
    let recipe = {
        let state = run().state.borrow();
        state.prepared.as_ref().map_or_else(|| run().wanted.borrow().clone(), |prepared| prepared.recipe.clone())
    };
    let slider = dom::input("temperature");
    let taught = recipe.method.uses("temperature").then_some(recipe.temperature);
    if let (Some(taught), false) = (taught, VIEW.with(|view| view.moved.get())) {
        slider.set_value(&taught.to_string());
    }
    let now = temperature();
    dom::text(&dom::by_id("temperature-value"), &format!("{now:.1}"));
    dom::text(&dom::by_id("soft-key"), &format!("at temperature {now:.1}"));
    let note = match taught {
        Some(taught) if taught == now => format!("The student is taught at this temperature, {taught}."),
        Some(taught) => format!("The student is taught at temperature {taught}; this is another one."),
        None => "This student is taught without a temperature.".to_owned(),
    };
    dom::text(&dom::by_id("temperature-note"), &note);
}

/// Asks all networks about the digit, unless they are being asked; then once more afterwards.
fn ask() {
    let busy = VIEW.with(|view| {
        let busy = view.asking.get();
        view.again.set(busy);
        if !busy {
            view.asking.set(true);
            view.asked_at.set(js_sys::Date::now());
        }
        busy
    });
    if busy {
        return;
    }
    spawn(async {
        let done = look().await;
        let again = VIEW.with(|view| {
            view.asking.set(false);
            view.again.replace(false)
        });
        if again && done.is_ok() {
            ask();
        }
        done
    });
}

/// What is looked at now, as far as an answer depends on it: a sample's number, or that it is drawn.
fn looked_at() -> Option<Option<u32>> {
    VIEW.with(|view| match &*view.digit.borrow() {
        Digit::Nothing => None,
        Digit::Drawn | Digit::Morph => Some(None),
        Digit::Sample(sample, _) => Some(Some(sample.index)),
    })
}

async fn look() -> Result<(), String> {
    let asked = looked_at();
    let digit = VIEW.with(|view| match &*view.digit.borrow() {
        Digit::Nothing => None,
        Digit::Drawn | Digit::Morph => Some((None, centred(&to_bytes(&view.ink.borrow())))),
        Digit::Sample(sample, digit) => Some((Some(sample.clone()), digit.clone())),
    });
    let Some((sample, digit)) = digit else { return Ok(()) };
    if run().state.borrow().prepared.is_none() {
        return Ok(());
    }
    let buffers = match &sample {
        Some(_) => Vec::new(),
        None => vec![Uint8Array::from(digit.as_slice()).buffer()],
    };
    let command = Command::Look { sample: sample.as_ref().map(|sample| sample.index), temperature: temperature() };
    let (Answer::Opinions { opinions }, maps) = run().client.ask(command, buffers).await? else {
        return Err("the worker has no opinion".to_owned());
    };
    if looked_at() != asked {
        return Ok(());
    }
    let morphed = matches!(VIEW.with(|view| view.digit.borrow().clone()), Digit::Morph);
    let label = sample.as_ref().map(|sample| sample.label).or_else(|| morphed.then(morph_label));
    show_opinions(label, &opinions);
    show_top_answers(label, &opinions);
    show_attention(&digit, &opinions, &maps);
    if !run().state.borrow().running {
        let said: Vec<_> = opinions.iter().map(|opinion| decision(opinion)).collect();
        notice::speak(&said.join(". "));
    }
    Ok(())
}

/// The digit that a network is for, and its share.
fn best(opinion: &Opinion) -> (u32, f32) {
    let best = (0..opinion.probabilities.len())
        .max_by(|&a, &b| opinion.probabilities[a].total_cmp(&opinion.probabilities[b]))
        .unwrap_or(0);
    (best as u32, opinion.probabilities.get(best).copied().unwrap_or(f32::NAN))
}

fn decision(opinion: &Opinion) -> String {
    let (best, share) = best(opinion);
    format!("{} says {}, {}", words::model(opinion.model), run().class_name(best), words::percent(share))
}

/// The first answers beside the digit, where they are seen while it is drawn.
fn show_top_answers(label: Option<u32>, opinions: &[Opinion]) {
    let list = dom::by_id("top-answers");
    dom::clear(&list);
    let add = |class: &str, who: &str, answer: &str, share: &str| {
        let item = dom::add(&list, dom::make("li", &format!("answer-line {class}"), ""));
        dom::add(&item, dom::make("span", "who", who));
        dom::add(&item, dom::make("b", "", answer));
        dom::add(&item, dom::make("span", "share", share));
    };
    if let Some(label) = label {
        add("label", "Label", &run().class_name(label), "");
    }
    for opinion in opinions {
        let (best, share) = best(opinion);
        let answer = if share.is_finite() { run().class_name(best) } else { "–".to_owned() };
        add(words::model_class(opinion.model), words::model(opinion.model), &answer, &words::percent(share));
    }
}

fn show_opinions(label_class: Option<u32>, opinions: &[Opinion]) {
    VIEW.with(|view| {
        let mut bars = view.bars.borrow_mut();
        let (label, networks) = bars.get_or_insert_with(|| {
            let area = dom::by_id("opinions");
            dom::clear(&area);
            let count = opinions.first().map_or(10, |opinion| opinion.probabilities.len());
            let names: Vec<_> = (0..count).map(|class| run().class_name(class as u32)).collect();
            let label = Bars::new(&area, "label", "Label", &names);
            let networks = opinions.iter().map(|opinion| {
                let (class, title) = (words::model_class(opinion.model), words::model(opinion.model));
                (opinion.model, Bars::new(&area, class, title, &names))
            });
            (label, networks.collect())
        });
        let count = opinions.first().map_or(0, |opinion| opinion.probabilities.len());
        let sure: Vec<f32> = (0..count).map(|class| f32::from(u8::from(label_class == Some(class as u32)))).collect();
        label.set(if label_class.is_some() { &sure } else { &[] }, &[]);
        for (opinion, (_, bars)) in opinions.iter().zip(networks.iter()) {
            bars.set(&opinion.probabilities, &opinion.softened);
        }
    });
}

fn clear_opinions() {
    VIEW.with(|view| *view.bars.borrow_mut() = None);
    for id in ["opinions", "attention", "top-answers"] {
        dom::clear(&dom::by_id(id));
    }
}

fn show_attention(digit: &[u8], opinions: &[Opinion], maps: &[ArrayBuffer]) {
    let area = dom::by_id("attention");
    dom::clear(&area);
    let rgba = picture::grey(digit);
    for (opinion, maps) in opinions.iter().zip(maps) {
        let name = words::model(opinion.model);
        dom::add(&area, dom::make("h3", words::model_class(opinion.model), name));
        let row = dom::add(&area, dom::make("div", "maps", ""));
        for (layer, map) in files::floats(maps).chunks_exact(SIDE * SIDE).enumerate() {
            let figure = dom::add(&row, dom::make("figure", "", ""));
            let said =
                format!("{name}, layer {}: most attention at the {}", layer + 1, words::place_of_peak(map, SIDE));
            picture::small(&figure, SIDE, &picture::with_attention(&rgba, map), &said);
            dom::add(&figure, dom::make("figcaption", "", &format!("layer {}", layer + 1)));
        }
    }
}

// ---- What they mix up

fn names() -> Vec<String> {
    let state = run().state.borrow();
    state.data.as_ref().map(|data| data.class_names.clone()).unwrap_or_default()
}

fn show_confusions() {
    let state = run().state.borrow();
    if let Some(evaluation) = &state.evaluation {
        let names = state.data.as_ref().map(|data| data.class_names.clone()).unwrap_or_default();
        confusion::show(&dom::by_id("confusions"), evaluation, &names, |model, label, predicted| {
            spawn(show_cell(model, label, predicted));
        });
    }
}

async fn show_cell(model: Model, label: u32, predicted: u32) -> Result<(), String> {
    let (samples, pixels) = samples(Command::Cell { model, label, predicted }).await?;
    let area = dom::by_id("cell");
    dom::clear(&area);
    let (name, said) = (run().class_name(label), run().class_name(predicted));
    let title = format!("{}: {name} read as {said}", words::model(model));
    dom::add(&area, dom::make("h3", "", &title));
    if samples.is_empty() {
        dom::add(&area, dom::make("p", "hint", "There is no such picture."));
    }
    let thumbs = dom::add(&area, dom::make("div", "thumbs", ""));
    picture::thumbs(&thumbs, &samples, &pixels, caption, look_at);
    Ok(())
}

fn caption(sample: &SampleNote) -> String {
    let name = |class| run().class_name(class);
    format!(
        "label {}, teacher {}, student {}, baseline {}",
        name(sample.label),
        name(sample.teacher),
        name(sample.student),
        name(sample.baseline)
    )
}

/// Takes a sample from further down the page: shows where it went.
fn look_at(sample: SampleNote, digit: Vec<u8>) {
    take(sample, digit);
    dom::scroll_to("pad");
}

async fn show_disagreements() -> Result<(), String> {
    run().need_networks().await?;
    let (samples, pixels) = samples(Command::Disagreements { count: DIFFERING }).await?;
    let area = dom::by_id("disagreements");
    if samples.is_empty() {
        dom::clear(&area);
        dom::add(&area, dom::make("p", "hint", "They differ nowhere."));
        return Ok(());
    }
    picture::thumbs(&area, &samples, &pixels, caption, look_at);
    notice::speak(&format!("{} samples", samples.len()));
    Ok(())
}

/// Hands the matrices over as CSV.
pub fn confusion_csv() {
    let names = names();
    match &run().state.borrow().evaluation {
        Some(evaluation) => {
            dom::download_text("potstill-confusion.csv", "text/csv", &table::confusions(evaluation, &names));
        }
        None => {
            notice::tell("There are no confusion matrices yet: press “Test on all new pictures” in the Compare view.")
        }
    }
}

/// Hands the matrices over as a picture.
pub fn confusion_png() {
    let names = names();
    match &run().state.borrow().evaluation {
        Some(evaluation) => dom::download_png("potstill-confusion.png", &confusion::picture(evaluation, &names)),
        None => {
            notice::tell("There are no confusion matrices yet: press “Test on all new pictures” in the Compare view.")
        }
    }
}

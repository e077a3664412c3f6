//! The Distil view: situations to press, what is learnt, curves, every number behind it, and keeping runs.

use std::cell::{Cell, RefCell};

use potstill_protocol::{
    Answer, Command, Curve, DataChoice, DistilRecipe, History, Method, Model, NUMBERS, Quantity, SampleNote, Situation,
    StopReason, TeacherChoice,
};
use wasm_bindgen::JsCast;
use web_sys::{Event, HtmlInputElement, HtmlSelectElement};

use crate::address::{self, NAMES};
use crate::chart::{Chart, Series};
use crate::run::{Aside, Change, Source, name_of, run, size_text, spawn};
use crate::{digits, dom, files, notice, place, store, table, words};

/// Rows of a table beside a chart; all numbers are in the CSV.
const MOST_ROWS: usize = 40;
/// The table is written anew at most so often, in milliseconds.
const TABLE_PAUSE: f64 = 1000.0;
/// A listener hears of the progress so often, in milliseconds.
const SPEECH_PAUSE: f64 = 15_000.0;
/// Colours of the loss terms.
const TERM_COLOURS: [&str; 4] = ["--term-1", "--term-2", "--term-3", "--term-4"];

struct Distil {
    accuracy: Chart,
    loss: Chart,
    terms: Chart,
    tables_at: Cell<f64>,
    spoken_at: Cell<f64>,
    /// New digits as they were last looked at.
    seen: RefCell<(Vec<SampleNote>, Vec<u8>)>,
    /// Pictures a step of the last report, all networks together.
    pictures: Cell<f32>,
}

thread_local! {
    static VIEW: Distil = Distil {
        accuracy: Chart::new("accuracy", "right, %", Some([0.0, 100.0])),
        loss: Chart::new("loss", "loss", None),
        terms: Chart::new("terms", "loss", None),
        tables_at: Cell::new(0.0),
        spoken_at: Cell::new(0.0),
        seen: RefCell::default(),
        pictures: Cell::new(0.0),
    };
}

/// Connects the view's controls.
pub fn start() {
    run().listen(|change| match change {
        Change::State => refresh(),
        Change::Networks => networks_changed(),
        Change::Progress { phase, step, steps_per_second, images_per_second } => {
            progress(*phase, *step, *steps_per_second, *images_per_second);
        }
        Change::Checked(samples, pixels) => {
            VIEW.with(|view| *view.seen.borrow_mut() = (samples.clone(), pixels.clone()));
            draw_digits();
        }
        Change::Stopped(reason) => stopped(reason),
        Change::Kept => spawn(list_saved()),
        Change::Data | Change::Worker => {}
    });
    for situation in Situation::ALL {
        dom::on_press(&format!("situation-{}", situation.name()), move || spawn(begin(situation.recipe())));
    }
    dom::on_press("again", || {
        let recipe = trained();
        spawn(begin(DistilRecipe { seed: recipe.seed.wrapping_add(1), ..recipe }));
    });
    dom::on_press("bring-back", || {
        let aside = run().state.borrow().aside.clone();
        if let Some(Aside { name, from }) = aside {
            spawn(bring(name, from));
        }
    });
    for number in &NUMBERS {
        let field = dom::input(&field_id(number.key));
        if !number.all {
            field.set_min(&number.least.to_string());
            field.set_max(&number.most.to_string());
            field.set_step(&if number.whole { number.step.to_string() } else { "any".to_owned() });
        }
        dom::on(&field, "change", |_: Event| form_changed());
    }
    for key in NAMES {
        dom::on(&dom::by_id(&field_id(key)), "change", |_: Event| form_changed());
    }
    // Enter in a field starts nothing and sends nothing.
    dom::on(&dom::by_id("options"), "submit", |event: Event| event.prevent_default());
    dom::on_press("options-default", || {
        show_recipe(&DistilRecipe::default());
        form_changed();
    });
    dom::on_press("copy-address", copy_address);
    dom::on_press("start", || {
        let running = run().state.borrow().running;
        spawn(async move { if running { run().pause().await } else { go(None).await } });
    });
    dom::on_press("one-step", || spawn(go(Some(1))));
    dom::on_press("reset", || {
        spawn(async {
            let recipe = read_form()?;
            run()
                .change(async || {
                    if run().state.borrow().running {
                        run().pause().await?;
                    }
                    run().prepare(&recipe).await
                })
                .await?;
            notice::speak("Back at step 0");
            Ok(())
        });
    });
    dom::on_files("mnist-files", choose_mnist);
    dom::on_drop("mnist-drop", choose_mnist);
    dom::on_files("load-file", |files| {
        let file = files[0].clone();
        spawn(async move {
            let snapshot = files::read(&file, files::LARGEST_WEIGHTS).await?;
            bring(file.name(), Source::Here(snapshot, String::new())).await
        });
    });
    dom::on_press("save-browser", || {
        spawn(async {
            let (step, snapshot) = run().snapshot().await?;
            let name = name_of(&trained(), step);
            store::put(&name, &snapshot).await?;
            notice::speak("Saved in this browser");
            list_saved().await
        });
    });
    dom::on_press("save-file", || {
        spawn(async {
            let (step, snapshot) = run().snapshot().await?;
            let name = format!("potstill-{}-step-{step}.safetensors", address::name_text(&trained(), "method"));
            dom::download(&name, "application/octet-stream", &js_sys::Uint8Array::new(&snapshot));
            notice::speak(&format!("Saved, {}", size_text(&snapshot)));
            Ok(())
        });
    });
    for model in [Model::Teacher, Model::Student, Model::Baseline] {
        dom::on_press(&format!("export-{}", words::model_class(model)), move || spawn(export(model)));
    }
    dom::on_press("accuracy-csv", || curves_csv(true));
    dom::on_press("loss-csv", || curves_csv(false));
    dom::on_press("accuracy-png", || curves_png(true));
    dom::on_press("loss-png", || curves_png(false));
    dom::on(&dom::document(), "visibilitychange", |_: Event| visibility_changed());
    show_recipe(&DistilRecipe::default());
    draw_curves(true);
    spawn(list_saved());
    // A browser without storage has nothing to offer.
    wasm_bindgen_futures::spawn_local(async {
        run().offer_kept().await.ok();
    });
}

/// One press: new networks for a recipe, and they are trained.
async fn begin(recipe: DistilRecipe) -> Result<(), String> {
    show_recipe(&recipe);
    place::write();
    if dom::window().inner_width().ok().and_then(|width| width.as_f64()).is_some_and(|width| width < 736.0) {
        // On a phone what happens is further down.
        dom::scroll_to("show-title");
    }
    run()
        .change(async || {
            if run().state.borrow().running {
                run().pause().await?;
            }
            run().prepare(&recipe).await
        })
        .await?;
    run().train(None).await
}

/// Takes another run in use.
async fn bring(name: String, from: Source) -> Result<(), String> {
    run().bring(&name, from).await?;
    notice::speak("The run is loaded");
    Ok(())
}

fn draw_digits() {
    VIEW.with(|view| {
        let (samples, pixels) = &*view.seen.borrow();
        digits::draw("digits-student", "Student", samples, pixels, |sample| sample.student);
        digits::draw("digits-baseline", "Baseline", samples, pixels, |sample| sample.baseline);
    });
}

fn field_id(key: &str) -> String {
    format!("option-{key}")
}

// ---- The form

/// Shows a recipe in the form.
pub fn show_recipe(recipe: &DistilRecipe) {
    for number in &NUMBERS {
        dom::input(&field_id(number.key)).set_value(&number.text(recipe));
    }
    for key in NAMES {
        let (field, text) = (dom::by_id(&field_id(key)), address::name_text(recipe, key));
        match field.dyn_ref::<HtmlSelectElement>() {
            Some(choice) => choice.set_value(&text),
            None => field.unchecked_into::<HtmlInputElement>().set_value(&text),
        }
    }
    *run().wanted.borrow_mut() = recipe.clone();
    read_form().ok();
    refresh();
}

/// The recipe in the form, or the first thing that is wrong with it. Marks the fields that are.
fn read_form() -> Result<DistilRecipe, String> {
    let mut recipe = DistilRecipe::default();
    let mut problem = None;
    for key in NAMES {
        let field = dom::by_id(&field_id(key));
        let text = match field.dyn_ref::<HtmlSelectElement>() {
            Some(choice) => choice.value(),
            None => field.unchecked_ref::<HtmlInputElement>().value(),
        };
        let taken = address::take_name(&mut recipe, key, &text);
        dom::set(&field, "aria-invalid", if taken.is_err() { "true" } else { "false" });
        problem = problem.or(taken.err());
    }
    for number in &NUMBERS {
        let field = dom::input(&field_id(number.key));
        let taken = number.take(&mut recipe, &field.value());
        dom::set(&field, "aria-invalid", if taken.is_err() { "true" } else { "false" });
        problem = problem.or(taken.err());
    }
    match problem.map_or_else(|| recipe.check(), Err) {
        Ok(()) => Ok(recipe),
        Err(problem) => Err(problem),
    }
}

/// The recipe of the networks there are, else of the form as last understood.
fn trained() -> DistilRecipe {
    let state = run().state.borrow();
    state.prepared.as_ref().map(|prepared| prepared.recipe.clone()).unwrap_or_else(|| run().wanted.borrow().clone())
}

fn form_changed() {
    match read_form() {
        Ok(recipe) => *run().wanted.borrow_mut() = recipe,
        Err(problem) => notice::tell(&format!("Please check: {problem}.")),
    }
    place::write();
    refresh();
}

fn copy_address() {
    place::write();
    spawn(async {
        let address = dom::window().location().href().unwrap_or_default();
        let clipboard = dom::window().navigator().clipboard().into();
        // A page that came over plain http has no clipboard.
        let refused = "this browser copies nothing here; take the address from the address bar";
        let copied = dom::call(&clipboard, "writeText", Some(&address.into())).ok_or(refused)?;
        wasm_bindgen_futures::JsFuture::from(js_sys::Promise::resolve(&copied)).await.map_err(|_| refused)?;
        notice::speak("Copied");
        dom::text(&dom::by_id("copy-address"), "Copied");
        dom::sleep(2000).await;
        dom::text(&dom::by_id("copy-address"), "Copy the address");
        Ok(())
    });
}

fn choose_mnist(chosen: Vec<web_sys::File>) {
    let names: Vec<_> = chosen.iter().map(web_sys::File::name).collect();
    dom::text(&dom::by_id("mnist-note"), &format!("Chosen: {}", names.join(", ")));
    run().choose_mnist(chosen);
    // Reading them now tells at once what is wrong with them.
    spawn(async {
        let recipe = read_form()?;
        run().change(async || run().prepare(&recipe).await).await?;
        let state = run().state.borrow();
        if let Some(data) = &state.data {
            dom::text(&dom::by_id("mnist-note"), &format!("MNIST is ready: {} pictures to test on.", data.held_out));
        }
        Ok(())
    });
}

/// Shows what is possible now.
fn refresh() {
    let recipe = run().wanted.borrow().clone();
    let state = run().state.borrow();
    let live = recipe.teacher == TeacherChoice::Live;
    for element in ["temperature", "alpha", "weight", "smoothing", "teacher-steps"] {
        let used = if element == "teacher-steps" { live } else { recipe.method.uses(element) };
        if let Ok(Some(field)) = dom::document().query_selector(&format!("[data-option={element}]")) {
            dom::show(&wasm_bindgen::JsCast::unchecked_into(field), used);
        }
    }
    dom::text(&dom::by_id("method-hint"), words::method(recipe.method));
    let lwr = recipe.method == Method::Lwr;
    dom::text(&dom::by_id("alpha-label"), if lwr { "Share of its earlier answers α" } else { "Teacher's share α" });
    let situation = Situation::of(&recipe);
    for one in Situation::ALL {
        let pressed = if situation == Some(one) { "true" } else { "false" };
        dom::set(&dom::by_id(&format!("situation-{}", one.name())), "aria-pressed", pressed);
        dom::enable(&format!("situation-{}", one.name()), !state.changing);
    }
    dom::enable("again", !state.changing);
    dom::show(&dom::by_id("mnist-drop"), recipe.data == DataChoice::Mnist);

    let prepared = state.prepared.as_ref();
    let same = prepared.is_some_and(|prepared| prepared.recipe == recipe);
    let step = prepared.map_or(0, |prepared| prepared.step);
    // Of the teacher, which learns before the student takes its first step.
    let taught = prepared.and_then(|prepared| prepared.history.curve(Model::Teacher, &Quantity::Loss)?.steps.last());
    let taught = taught.filter(|_| step == 0);
    let finished = same && prepared.is_some_and(|prepared| prepared.step >= prepared.recipe.steps);
    let start = dom::by_id("start");
    dom::text(
        &start,
        match () {
            () if state.running => "Pause",
            () if finished => "Start again",
            () if same && (step > 0 || taught.is_some()) => "Go on",
            () => "Start",
        },
    );
    dom::enable("start", !state.changing);
    dom::enable("one-step", !state.changing && !state.running);
    dom::enable("reset", !state.changing && prepared.is_some());
    let kept = !state.changing && prepared.is_some();
    for id in ["save-browser", "save-file", "export-student", "export-teacher", "export-baseline"] {
        dom::enable(id, kept);
    }
    dom::enable("loads", !state.changing);
    // Answers of networks that change would be out of date at once.
    for id in ["evaluate", "disagreements-show"] {
        dom::enable(id, !state.changing && !state.running);
    }
    let shown = prepared.map_or(&recipe, |prepared| &prepared.recipe);
    let seed = if shown.seed == 0 { String::new() } else { format!(", seed {}", shown.seed) };
    dom::text(&dom::by_id("show-title"), &format!("{}{seed}", words::title(shown)));
    let said = prepared.and_then(|prepared| words::sentence(&prepared.recipe, &prepared.history));
    dom::show(&dom::by_id("sentence"), said.is_some());
    dom::text(&dom::by_id("sentence"), &said.unwrap_or_default());
    dom::show(&dom::by_id("run-before"), state.aside.is_some());
    if let Some(aside) = &state.aside {
        dom::text(&dom::by_id("run-before-text"), &format!("Before: {}.", aside.name));
    }
    let total = prepared.map_or(recipe.steps, |prepared| prepared.recipe.steps);
    let words = match () {
        () if state.changing => "Getting ready …".to_owned(),
        () if state.running => format!("Training, step {step} of {total}."),
        () if finished => format!("Finished after {step} steps."),
        () if prepared.is_some() && !same => "The options changed. Start makes new networks.".to_owned(),
        () if step > 0 => format!("Paused at step {step} of {total}."),
        () => taught.map_or_else(
            || "Ready. Press Start.".to_owned(),
            |taught| format!("Paused at step {taught} of the teacher."),
        ),
    };
    dom::text(&dom::by_id("run-state"), &words);
    dom::set(&dom::by_id("run-bar"), "value", &format!("{:.4}", f64::from(step) / f64::from(total.max(1))));
    dom::text(&dom::by_id("figure-steps"), &format!("step {step} of {total}"));
}

// ---- Training

/// Trains; makes new networks first where the options changed or the run is at its end.
async fn go(steps: Option<u32>) -> Result<(), String> {
    let recipe = read_form()?;
    let anew = {
        let state = run().state.borrow();
        !state.prepared.as_ref().is_some_and(|prepared| prepared.recipe == recipe && prepared.step < recipe.steps)
    };
    if anew {
        run().change(async || run().prepare(&recipe).await).await?;
    }
    run().train(steps).await
}

/// The worker trained on.
fn progress(phase: Model, step: u32, steps_per_second: f32, images_per_second: f32) {
    refresh();
    if steps_per_second > 0.0 {
        show_speed(steps_per_second, images_per_second, "");
        VIEW.with(|view| view.pictures.set(images_per_second / steps_per_second));
    }
    if phase == Model::Teacher {
        let total = trained().teacher_steps;
        dom::text(&dom::by_id("run-state"), &format!("Training the teacher first, step {step} of {total}."));
        dom::set(&dom::by_id("run-bar"), "value", &format!("{:.4}", f64::from(step) / f64::from(total.max(1))));
    }
    draw_curves(false);
    let now = js_sys::Date::now();
    VIEW.with(|view| {
        if now - view.spoken_at.get() > SPEECH_PAUSE {
            view.spoken_at.set(now);
            let state = run().state.borrow();
            let right =
                state.prepared.as_ref().and_then(|prepared| prepared.history.last(Model::Student, &Quantity::Accuracy));
            let right = right.map(|right| format!(", student right on {}", words::percent(right))).unwrap_or_default();
            notice::speak(&format!("{} step {step}{right}", words::model(phase)));
        }
    });
}

fn show_speed(steps: f32, pictures: f32, since: &str) {
    dom::text(&dom::by_id("figure-speed"), &format!("{steps:.1} steps/s{since}"));
    dom::text(&dom::by_id("figure-images"), &format!("{pictures:.0} pictures/s"));
}

/// Training stopped.
fn stopped(reason: &StopReason) {
    refresh();
    draw_curves(true);
    // The last report was of the last stretch alone.
    let (started, before) = run().state.borrow().started;
    let step = run().state.borrow().prepared.as_ref().map_or(0, |prepared| prepared.step);
    let seconds = (js_sys::Date::now() - started) / 1000.0;
    if step > before && seconds > 0.0 {
        let rate = (f64::from(step - before) / seconds) as f32;
        show_speed(rate, rate * VIEW.with(|view| view.pictures.get()), " in the mean");
    }
    let sentence = dom::by_id("sentence").text_content().filter(|text| !text.is_empty());
    let words = sentence.or_else(|| dom::by_id("run-state").text_content()).unwrap_or_default();
    if *reason != StopReason::Paused || !words.is_empty() {
        notice::speak(&words);
    }
}

/// Other networks, other curves.
fn networks_changed() {
    let recipe = trained();
    show_recipe(&recipe);
    place::write();
    draw_curves(true);
    VIEW.with(|view| view.seen.take());
    for id in ["digits-student", "digits-baseline"] {
        let canvas = dom::canvas(id);
        canvas.set_width(0);
        dom::set(&canvas, "aria-label", "New digits, not looked at yet");
    }
}

fn visibility_changed() {
    let hidden = dom::document().hidden();
    let wanted = dom::input("pause-hidden").checked();
    let (running, paused) = {
        let state = run().state.borrow();
        (state.running, state.paused_by_hiding)
    };
    if hidden && wanted && running {
        run().state.borrow_mut().paused_by_hiding = true;
        spawn(run().pause());
    } else if !hidden && paused {
        run().state.borrow_mut().paused_by_hiding = false;
        spawn(async {
            while run().state.borrow().running {
                dom::sleep(50).await;
            }
            run().train(None).await
        });
    }
}

// ---- Curves

/// After the view was shown, or the window or theme changed.
pub fn layout_changed() {
    VIEW.with(|view| {
        view.accuracy.draw_anew();
        view.loss.draw_anew();
        view.terms.draw_anew();
    });
    draw_digits();
}

fn draw_curves(now: bool) {
    let state = run().state.borrow();
    let empty = History::default();
    let history = state.prepared.as_ref().map_or(&empty, |prepared| &prepared.history);
    let (accuracies, [losses, terms]) = (table::accuracies(history), table::by_labels(&table::losses(history)));
    VIEW.with(|view| {
        let clock = js_sys::Date::now();
        let tables = now || clock - view.tables_at.get() > TABLE_PAUSE;
        if tables {
            view.tables_at.set(clock);
        }
        for (chart, id, curves, scale, write) in [
            (&view.accuracy, "accuracy-table", accuracies, 100.0, words::percent_of as fn(f32) -> String),
            (&view.loss, "loss-table", losses, 1.0, words::number),
            (&view.terms, "terms-table", terms, 1.0, words::number),
        ] {
            let (steps, mut series) = (table::steps(&curves).to_vec(), series(&curves, scale));
            if tables {
                fill(id, &steps, &series, write);
            }
            // What is no right answer, or hardly changes, is in the table alone.
            series.retain(|one| {
                id != "accuracy-table"
                    || (one.colour != TERM_COLOURS[0] && (one.colour, one.dash.len()) != ("--teacher", 4))
            });
            chart.set(steps, series);
        }
    });
    for model in [Model::Teacher, Model::Student, Model::Baseline] {
        show_tile(words::model_class(model), history.last(model, &Quantity::Accuracy));
    }
    show_tile("agreement", history.last(Model::Student, &Quantity::Agreement));
}

fn show_tile(name: &str, fraction: Option<f32>) {
    dom::text(&dom::by_id(&format!("tile-{name}")), &fraction.map_or("–".to_owned(), words::percent));
}

/// The curves of one chart over its steps, in their colours.
fn series(curves: &[&Curve], scale: f32) -> Vec<Series> {
    let steps = table::steps(curves);
    let mut colours = TERM_COLOURS.iter().cycle();
    let drawn = curves.iter().map(|curve| {
        let (colour, dash): (_, &[u32]) = match (&curve.quantity, curve.model) {
            (Quantity::Agreement, _) => (TERM_COLOURS[0], &[6, 3]),
            (Quantity::Unseen, Model::Student) => ("--student", &[8, 3, 2, 3]),
            (Quantity::Unseen, Model::Baseline) => ("--baseline", &[8, 3, 2, 3]),
            (Quantity::Unseen, Model::Teacher) => ("--teacher", &[8, 3, 2, 3]),
            (Quantity::Term(name), Model::Student) if name == "labels" => ("--student", &[]),
            (Quantity::Term(_), _) => (*colours.next().expect("endless"), &[8, 4]),
            (_, Model::Teacher) => ("--teacher", &[10, 5]),
            (_, Model::Student) => ("--student", &[]),
            (_, Model::Baseline) => ("--baseline", &[3, 3]),
        };
        let values = curve.at(steps).into_iter().map(|value| value * scale).collect();
        Series { label: words::curve(curve), colour, dash, values }
    });
    drawn.collect()
}

/// Writes a chart's table, the newest row on top.
fn fill(id: &str, steps: &[u32], series: &[Series], write: fn(f32) -> String) {
    let table = dom::by_id(id);
    let part = |name| table.query_selector(name).ok().flatten().expect("tables have a head and a body");
    let head = part("thead");
    dom::clear(&head);
    let row = dom::add(&head, dom::make("tr", "", ""));
    for label in std::iter::once("Step").chain(series.iter().map(|one| one.label.as_str())) {
        dom::set(&dom::add(&row, dom::make("th", "", label)), "scope", "col");
    }
    let body = part("tbody");
    dom::clear(&body);
    for at in table::thin(steps.len(), MOST_ROWS).into_iter().rev() {
        let row = dom::add(&body, dom::make("tr", "", ""));
        dom::set(&dom::add(&row, dom::make("th", "", &steps[at].to_string())), "scope", "row");
        for one in series {
            let value = one.values.get(at).filter(|value| value.is_finite());
            dom::add(&row, dom::make("td", "", &value.map_or("–".to_owned(), |value| write(*value))));
        }
    }
    if steps.is_empty() {
        let row = dom::add(&body, dom::make("tr", "", ""));
        let cell = dom::add(&row, dom::make("td", "", "Nothing yet"));
        dom::set(&cell, "colspan", &(series.len() + 1).to_string());
    }
}

/// Hands the curves over as CSV: accuracies or losses.
pub fn curves_csv(accuracy: bool) {
    let state = run().state.borrow();
    let Some(prepared) = &state.prepared else { return notice::tell("There are no curves yet: train first.") };
    let (name, text) = if accuracy {
        ("potstill-accuracy.csv", table::curves(&table::accuracies(&prepared.history)))
    } else {
        ("potstill-loss.csv", table::curves(&table::losses(&prepared.history)))
    };
    dom::download_text(name, "text/csv", &text);
}

/// Hands the curves over as a picture.
pub fn curves_png(accuracy: bool) {
    VIEW.with(|view| {
        let (chart, title, name) = if accuracy {
            (&view.accuracy, "Right answers on new pictures", "potstill-accuracy.png")
        } else {
            (&view.loss, "Loss", "potstill-loss.png")
        };
        match chart.picture(title) {
            Some(canvas) => dom::download_png(name, &canvas),
            None => notice::tell("There is no chart yet: train in the Distil view first."),
        }
    });
}

// ---- Keeping runs

async fn export(model: Model) -> Result<(), String> {
    let (answer, buffers) = run().client.ask(Command::Export { model }, Vec::new()).await?;
    let (Answer::Done, Some(weights)) = (answer, buffers.first()) else {
        return Err("the worker sent no weights".to_owned());
    };
    let name = format!("potstill-{}.safetensors", words::model_class(model));
    dom::download(&name, "application/octet-stream", &js_sys::Uint8Array::new(weights));
    Ok(())
}

async fn list_saved() -> Result<(), String> {
    let kept = store::list().await?;
    let list = dom::by_id("saved-runs");
    dom::clear(&list);
    for kept in kept.into_iter().rev() {
        let item = dom::add(&list, dom::make("li", "", ""));
        let itself = if kept.began.is_some() { " (kept by itself)" } else { "" };
        dom::add(&item, dom::make("span", "", &format!("{}{itself}", kept.name)));
        for (word, what) in [("Load", "load"), ("Delete", "delete")] {
            let button = dom::add(&item, dom::make("button", "small", word));
            dom::set(&button, "type", "button");
            dom::set(&button, "aria-label", &format!("{word} {}", kept.name));
            let kept = kept.clone();
            dom::on(&button, "click", move |_: Event| {
                let kept = kept.clone();
                match what {
                    "delete" => spawn(delete(kept)),
                    _ => spawn(bring(kept.name.clone(), Source::Kept(kept))),
                }
            });
        }
    }
    Ok(())
}

/// Deletes a kept run, which can be undone as long as the message stays.
async fn delete(kept: store::Kept) -> Result<(), String> {
    let bytes = store::get(&kept.key).await?;
    store::delete(&kept.key).await?;
    notice::offer(&format!("Deleted: {}.", kept.name), "Undo", move || {
        let (key, bytes) = (kept.key.clone(), bytes.clone());
        spawn(async move {
            store::put(&key, &bytes).await?;
            list_saved().await
        });
    });
    list_saved().await
}

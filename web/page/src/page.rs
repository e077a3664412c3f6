//! The frame of the views: which one is shown, the address, colours and type, and what is kept for use offline.

use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{CustomEvent, Element, Event, HtmlDialogElement};

use crate::address::{self, View};
use crate::run::{self, run, spawn};
use crate::{classify, compare, distil, dom, files, lesson, notice, place, shelf, store};

/// Starts everything.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| web_sys::console::error_1(&panic.to_string().into())));
    let search = dom::window().location().search().unwrap_or_default();
    let before = address::before(&search);
    run::start(&before);
    looks();
    distil::start();
    compare::start();
    classify::start();
    lesson::start();
    dom::on(&dom::window(), "hashchange", |_: Event| read_address(true));
    dom::on(&dom::by_id("skip"), "click", |event: Event| {
        event.prevent_default();
        dom::by_id("main").focus().ok();
    });
    dom::on(&dom::window(), "resize", |_: Event| layout_changed());
    dom::on_press("keep-offline", || spawn(keep_offline()));
    // A file dropped beside the areas for it would replace the page.
    for kind in ["dragover", "drop"] {
        dom::on(&dom::window(), kind, |event: Event| event.prevent_default());
    }
    // For tests: a device can be lost here as a driver would lose it.
    dom::on(&dom::window(), "potstill-lose-device", |_: CustomEvent| spawn(run().lose_device()));
    // Before the address is read: the view that it names may ask the worker at once.
    spawn(run().open());
    wasm_bindgen_futures::spawn_local(run().watch());
    read_address(false);
    tell_problems(&before.problems);
    words();
    dom::on(&dom::window(), "storage", |event: web_sys::StorageEvent| {
        if store::is_change(event.key().as_deref()) {
            run().tell(&run::Change::Kept);
        }
    });
    // For tests, and for whoever measures: the page can be used.
    dom::set(&dom::document().document_element().expect("a root"), "data-ready", "");
    let performance = js_sys::Reflect::get(&dom::window(), &"performance".into()).unwrap_or_default();
    dom::call(&performance, "mark", Some(&"usable".into()));
}

// ---- Words

/// The list of words, and the buttons that open it at theirs.
fn words() {
    let list: HtmlDialogElement = dom::by_id("words").unchecked_into();
    dom::on(&dom::document(), "click", move |event: Event| {
        let Some(target) = event.target().and_then(|target| target.dyn_into::<Element>().ok()) else { return };
        let wanted = target.get_attribute("data-word").filter(|_| target.tag_name() == "BUTTON");
        if target.id() == "words-close" || target.id() == "words" {
            return list.close();
        }
        if wanted.is_none() && target.id() != "words-open" {
            return;
        }
        event.prevent_default();
        list.show_modal().ok();
        if let Ok(Some(before)) = list.query_selector(".wanted") {
            before.class_list().remove_1("wanted").ok();
        }
        let word = wanted.and_then(|word| dom::document().get_element_by_id(&format!("word-{word}")));
        match word {
            Some(word) => {
                word.class_list().add_1("wanted").ok();
                word.scroll_into_view();
            }
            None => list.set_scroll_top(0),
        }
    });
}

// ---- Address

/// All that is wrong with an address in one message, so that none pushes another out.
fn tell_problems(problems: &[String]) {
    if !problems.is_empty() {
        notice::tell(&format!("The address: {}.", problems.join("; ")));
    }
}

fn read_address(moved: bool) {
    let hash = dom::window().location().hash().unwrap_or_default();
    if moved && place::is_own(&hash) {
        return;
    }
    let read = address::parse(&hash);
    tell_problems(&read.problems);
    // A link to a view alone, as in the navigation, keeps the options there are.
    let options =
        hash.split_once('?').is_some_and(|(_, options)| options.split('&').any(|one| !one.starts_with("lesson=")));
    if options && !run().state.borrow().running {
        distil::show_recipe(&read.recipe);
    }
    show(read.view, read.lesson, moved);
    place::write();
}

fn show(shown: View, step: Option<u32>, moved: bool) {
    let before = place::set(shown, step);
    for one in View::ALL {
        let name = one.name();
        dom::show(&dom::by_id(&format!("view-{name}")), one == shown);
        let tab = dom::by_id(&format!("tab-{name}"));
        if one == shown {
            dom::set(&tab, "aria-current", "page");
        } else {
            tab.remove_attribute("aria-current").ok();
        }
    }
    let title = dom::by_id(&format!("tab-{}", shown.name())).text_content().unwrap_or_default();
    dom::document().set_title(&format!("{title} – Potstill"));
    lesson::show(step, moved);
    if before == View::Classify && shown != View::Classify {
        classify::left();
    }
    match shown {
        View::Distil => distil::layout_changed(),
        View::Compare => compare::shown(),
        View::Classify => classify::shown(),
        View::Lesson => {}
    }
    if moved {
        dom::window().scroll_to_with_x_and_y(0.0, 0.0);
    }
}

// ---- Looks

fn looks() {
    let theme = dom::select("theme");
    if let Some(value) = dom::kept("theme").filter(|value| ["auto", "light", "dark"].contains(&value.as_str())) {
        theme.set_value(&value);
    }
    let large = dom::input("large");
    large.set_checked(dom::kept("large").as_deref() == Some("yes"));
    apply_looks();
    dom::on(&theme, "change", |_: Event| {
        dom::keep("theme", &dom::select("theme").value());
        apply_looks();
    });
    dom::on(&large, "change", |_: Event| {
        dom::keep("large", if dom::input("large").checked() { "yes" } else { "no" });
        apply_looks();
    });
    if let Ok(Some(dark)) = dom::window().match_media("(prefers-color-scheme: dark)") {
        dom::on(&dark, "change", |_: Event| layout_changed());
    }
}

fn apply_looks() {
    let root = dom::document().document_element().expect("a document has a root");
    dom::set(&root, "data-theme", &dom::select("theme").value());
    root.class_list().toggle_with_force("large", dom::input("large").checked()).ok();
    layout_changed();
}

fn layout_changed() {
    if place::view() == View::Distil {
        distil::layout_changed();
    }
}

// ---- Offline

/// Whether the service worker keeps a file. It writes what it fetches while the page reads it.
async fn is_kept(file: &wasm_bindgen::JsValue) -> bool {
    let caches = js_sys::Reflect::get(&dom::window(), &"caches".into()).unwrap_or_default();
    for _ in 0..20 {
        let Some(found) = dom::call(&caches, "match", Some(file)) else { return false };
        if JsFuture::from(js_sys::Promise::resolve(&found)).await.is_ok_and(|found| found.is_truthy()) {
            return true;
        }
        dom::sleep(100).await;
    }
    false
}

/// Fetches all networks once, so that the service worker keeps them.
async fn keep_offline() -> Result<(), String> {
    let shelf = shelf::shelf().await?;
    let mut wanted = vec![(shelf.teacher, "the teacher".to_owned())];
    for classifier in shelf.classifiers {
        wanted.extend(classifier.samples.into_iter().map(|sample| (sample.file, sample.name)));
        wanted.push((classifier.file, classifier.name));
    }
    for (file, name) in wanted {
        files::fetch(&file, &name, files::LARGEST_WEIGHTS).await?;
        if !is_kept(&file.into()).await {
            return Err(format!(
                "{name} is not kept: the page must come over https and have been opened before, and there must be room"
            ));
        }
    }
    dom::text(&dom::by_id("offline-note"), "Kept. This page now works without a network.");
    notice::speak("Kept for use offline");
    Ok(())
}

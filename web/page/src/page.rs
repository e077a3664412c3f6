//! The frame of the views: which one is shown, the address, colours and type, and what is kept for use offline.

use wasm_bindgen_futures::JsFuture;
use web_sys::{CustomEvent, Event};

use crate::address::{self, View};
use crate::run::{self, run, spawn};
use crate::{classify, compare, distil, dom, files, lesson, notice, place, shelf};

/// Starts everything.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| web_sys::console::error_1(&panic.to_string().into())));
    let search = dom::window().location().search().unwrap_or_default();
    let (preference, fault, problems) = address::device(&search);
    run::start(preference, fault);
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
    read_address(false);
    for problem in problems {
        notice::tell(&format!("The address: {problem}."));
    }
    // For tests, and for whoever measures: the page can be used.
    dom::set(&dom::document().document_element().expect("a root"), "data-ready", "");
    let performance = js_sys::Reflect::get(&dom::window(), &"performance".into()).unwrap_or_default();
    dom::call(&performance, "mark", Some(&"usable".into()));
}

// ---- Address

fn read_address(moved: bool) {
    let hash = dom::window().location().hash().unwrap_or_default();
    if moved && place::is_own(&hash) {
        return;
    }
    let read = address::parse(&hash);
    for problem in &read.problems {
        notice::tell(&format!("The address: {problem}."));
    }
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

fn keep(key: &str, value: &str) {
    // Without storage a choice lasts as long as the page.
    if let Ok(Some(storage)) = dom::window().local_storage() {
        storage.set_item(key, value).ok();
    }
}

fn kept(key: &str) -> Option<String> {
    dom::window().local_storage().ok().flatten()?.get_item(key).ok().flatten()
}

fn looks() {
    let theme = dom::select("theme");
    if let Some(value) = kept("theme").filter(|value| ["auto", "light", "dark"].contains(&value.as_str())) {
        theme.set_value(&value);
    }
    let large = dom::input("large");
    large.set_checked(kept("large").as_deref() == Some("yes"));
    apply_looks();
    dom::on(&theme, "change", |_: Event| {
        keep("theme", &dom::select("theme").value());
        apply_looks();
    });
    dom::on(&large, "change", |_: Event| {
        keep("large", if dom::input("large").checked() { "yes" } else { "no" });
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

//! What the page tells the person beside its views: messages that stay until they are closed, some with something to press,
//! a progress bar, and a live region for those who listen, which speaks at most once a second.
//!
//! Messages and bar are fixed to the window, so that they are seen wherever the person is.

use std::cell::{Cell, RefCell};

use web_sys::HtmlElement;

use crate::dom;

/// Messages shown at once; older ones go.
const MOST_MESSAGES: u32 = 4;

/// Shows a line until it is closed. The same line is shown once.
pub fn tell(message: &str) {
    line(message);
}

/// Shows a line with something to press, which closes it too.
pub fn offer(message: &str, action: &str, mut chosen: impl FnMut() + 'static) {
    let Some(line) = line(message) else { return };
    let button = dom::make("button", "small main", action);
    dom::set(&button, "type", "button");
    let gone = line.clone();
    dom::on(&button, "click", move |_: web_sys::Event| {
        gone.remove();
        chosen();
    });
    line.insert_before(&button, line.last_element_child().as_deref()).ok();
}

/// Takes a line away, if it is shown.
pub fn withdraw(message: &str) {
    if let Some(line) = shown(message) {
        line.remove();
    }
}

fn shown(message: &str) -> Option<web_sys::Element> {
    let children = dom::by_id("messages").children();
    let mut all = (0..children.length()).filter_map(|at| children.item(at));
    all.find(|child| child.first_element_child().and_then(|text| text.text_content()).as_deref() == Some(message))
}

fn line(message: &str) -> Option<HtmlElement> {
    let area = dom::by_id("messages");
    if shown(message).is_some() {
        return None;
    }
    while area.child_element_count() >= MOST_MESSAGES {
        if let Some(oldest) = area.first_element_child() {
            oldest.remove();
        }
    }
    let line = dom::add(&area, dom::make("p", "message", ""));
    dom::add(&line, dom::make("span", "", message));
    let close = dom::add(&line, dom::make("button", "small", "Close"));
    dom::set(&close, "type", "button");
    let gone = line.clone();
    dom::on(&close, "click", move |_: web_sys::Event| gone.remove());
    Some(line)
}

/// Shows the progress bar.
pub fn busy(what: &str, fraction: Option<f64>) {
    dom::show(&dom::by_id("busy"), true);
    dom::text(&dom::by_id("busy-text"), what);
    let bar = dom::by_id("busy-bar");
    match fraction {
        Some(fraction) => dom::set(&bar, "value", &format!("{fraction:.3}")),
        None => {
            bar.remove_attribute("value").ok();
        }
    }
}

/// Hides the progress bar.
pub fn idle() {
    dom::show(&dom::by_id("busy"), false);
}

thread_local! {
    static NEXT: RefCell<Option<String>> = const { RefCell::new(None) };
    static SPEAKING: Cell<bool> = const { Cell::new(false) };
}

/// Speaks a line; of several within a second the last one.
pub fn speak(line: &str) {
    NEXT.with_borrow_mut(|next| *next = Some(line.to_owned()));
    if SPEAKING.replace(true) {
        return;
    }
    wasm_bindgen_futures::spawn_local(async {
        while let Some(line) = NEXT.with_borrow_mut(Option::take) {
            dom::text(&dom::by_id("live"), &line);
            dom::sleep(1000).await;
        }
        SPEAKING.set(false);
    });
}

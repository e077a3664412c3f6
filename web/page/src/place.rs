//! Where the person is: the view, the step of the lesson, and the address that says so.
//!
//! Views read and change it here. The frame, which shows the views, hears of a change by the browser's `hashchange`.

use std::cell::{Cell, RefCell};

use web_sys::Event;

use crate::address::{self, View};
use crate::dom;
use crate::run::run;

thread_local! {
    static PLACE: Cell<(View, Option<u32>)> = const { Cell::new((View::Distil, None)) };
    /// What this page wrote into the address itself.
    static WRITTEN: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The view that is shown.
pub fn view() -> View {
    PLACE.get().0
}

/// The step of the lesson that is shown.
pub fn lesson() -> Option<u32> {
    PLACE.get().1
}

/// Takes note of where the person is now; returns the view before.
pub fn set(view: View, lesson: Option<u32>) -> View {
    PLACE.replace((view, lesson)).0
}

/// Whether this page wrote that address itself.
pub fn is_own(hash: &str) -> bool {
    WRITTEN.with_borrow(|written| written == hash)
}

/// Goes to a view.
pub fn go(view: View, lesson: Option<u32>) {
    let hash = address::write(view, lesson, &run().wanted.borrow());
    WRITTEN.take();
    let window = dom::window();
    if window.location().hash().is_ok_and(|now| now != hash) {
        window.location().set_hash(&hash).ok();
    } else if let Ok(event) = Event::new("hashchange") {
        window.dispatch_event(&event).ok();
    }
}

/// Brings the address up to date with the view and the options.
pub fn write() {
    let hash = address::write(view(), lesson(), &run().wanted.borrow());
    if dom::window().location().hash().is_ok_and(|now| now == hash) {
        return;
    }
    WRITTEN.set(hash.clone());
    if let Ok(history) = dom::window().history() {
        history.replace_state_with_url(&wasm_bindgen::JsValue::NULL, "", Some(&hash)).ok();
    }
}

//! Short ways to the document: elements by id, listeners, small builders.
//!
//! The page lives as long as its tab, so listeners are never removed, and an id that is missing is a mistake in
//! `index.html` that every start shows.

use js_sys::{Array, Function, Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, BlobPropertyBag, CanvasRenderingContext2d, Document, Element, Event, EventTarget, HtmlAnchorElement,
    HtmlCanvasElement, HtmlElement, HtmlInputElement, HtmlSelectElement, ImageData, ScrollBehavior,
    ScrollIntoViewOptions, Url, Window,
};

/// The window.
pub fn window() -> Window {
    web_sys::window().expect("a page has a window")
}

/// The document.
pub fn document() -> Document {
    window().document().expect("a window has a document")
}

/// An element of `index.html`.
pub fn by_id(id: &str) -> HtmlElement {
    element(id)
}

/// An input of `index.html`.
pub fn input(id: &str) -> HtmlInputElement {
    element(id)
}

/// A choice of `index.html`.
pub fn select(id: &str) -> HtmlSelectElement {
    element(id)
}

/// A canvas of `index.html`.
pub fn canvas(id: &str) -> HtmlCanvasElement {
    element(id)
}

fn element<T: JsCast>(id: &str) -> T {
    document()
        .get_element_by_id(id)
        .and_then(|element| element.dyn_into().ok())
        .unwrap_or_else(|| panic!("index.html has no fitting element `{id}`"))
}

/// Calls `listener` at each event of that kind, for ever.
pub fn on<E: JsCast + 'static>(target: &EventTarget, kind: &str, mut listener: impl FnMut(E) + 'static) {
    let closure = Closure::<dyn FnMut(Event)>::new(move |event: Event| listener(event.unchecked_into()));
    target.add_event_listener_with_callback(kind, closure.as_ref().unchecked_ref()).expect("listeners can be added");
    closure.forget();
}

/// Calls `listener` when the button with that id is pressed while it is enabled.
pub fn on_press(id: &str, mut listener: impl FnMut() + 'static) {
    let button = by_id(id);
    let pressed = button.clone();
    on(&button, "click", move |_: Event| {
        if pressed.get_attribute("aria-disabled").as_deref() != Some("true") {
            listener();
        }
    });
}

/// A new element with a class (may be empty) and a text (may be empty).
pub fn make(tag: &str, class: &str, text: &str) -> HtmlElement {
    let element: HtmlElement = document().create_element(tag).expect("known tag").unchecked_into();
    if !class.is_empty() {
        element.set_class_name(class);
    }
    if !text.is_empty() {
        element.set_text_content(Some(text));
    }
    element
}

/// Appends and hands back the child.
pub fn add(parent: &Element, child: HtmlElement) -> HtmlElement {
    parent.append_child(&child).expect("elements can be appended");
    child
}

/// Sets an attribute.
pub fn set(element: &Element, name: &str, value: &str) {
    element.set_attribute(name, value).expect("attribute names are fixed");
}

/// Removes all children.
pub fn clear(element: &Element) {
    element.set_text_content(None);
}

/// Sets the text where it differs, so that nothing is laid out anew for nothing.
pub fn text(element: &Element, value: &str) {
    if element.text_content().as_deref() != Some(value) {
        element.set_text_content(Some(value));
    }
}

/// Shows or hides.
pub fn show(element: &HtmlElement, shown: bool) {
    element.set_hidden(!shown);
}

/// Enables or disables a button or a group of fields. A button keeps the focus when it is disabled, which a browser would take
/// from one with the attribute `disabled`; [`on_press`] hears nothing of it then.
pub fn enable(id: &str, enabled: bool) {
    let element = by_id(id);
    if element.tag_name() == "BUTTON" {
        return set(&element, "aria-disabled", if enabled { "false" } else { "true" });
    }
    if enabled {
        element.remove_attribute("disabled").ok();
    } else {
        set(&element, "disabled", "");
    }
}

/// Keeps a choice in this browser. Without storage it lasts as long as the page.
pub fn keep(key: &str, value: &str) {
    if let Ok(Some(storage)) = window().local_storage() {
        storage.set_item(key, value).ok();
    }
}

/// What [`keep`] kept.
pub fn kept(key: &str) -> Option<String> {
    window().local_storage().ok().flatten()?.get_item(key).ok().flatten()
}

/// Brings an element to the top of the window, at once where motion is unwanted.
pub fn scroll_to(id: &str) {
    let still =
        window().match_media("(prefers-reduced-motion: reduce)").ok().flatten().is_some_and(|query| query.matches());
    let options = ScrollIntoViewOptions::new();
    options.set_behavior(if still { ScrollBehavior::Auto } else { ScrollBehavior::Smooth });
    by_id(id).scroll_into_view_with_scroll_into_view_options(&options);
}

/// Sets a style property; the page's policy forbids style attributes, not this.
pub fn style(element: &HtmlElement, property: &str, value: &str) {
    element.style().set_property(property, value).ok();
}

/// Waits, in milliseconds.
pub async fn sleep(milliseconds: i32) {
    let promise = Promise::new(&mut |resolve, _| {
        window().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds).ok();
    });
    JsFuture::from(promise).await.ok();
}

/// What a browser's error says.
pub fn reason(error: &JsValue) -> String {
    error
        .dyn_ref::<js_sys::Error>()
        .map(|error| String::from(error.message()))
        .or_else(|| js_sys::Reflect::get(error, &"message".into()).ok().and_then(|message| message.as_string()))
        .or_else(|| error.as_string())
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "the browser gave no reason".to_owned())
}

/// Calls a method that this crate's bindings lack; `None` where the object has no such method.
pub fn call(object: &JsValue, method: &str, argument: Option<&JsValue>) -> Option<JsValue> {
    let function: Function = js_sys::Reflect::get(object, &method.into()).ok()?.dyn_into().ok()?;
    match argument {
        Some(argument) => function.call1(object, argument).ok(),
        None => function.call0(object).ok(),
    }
}

/// Hands a file to the person.
pub fn download(name: &str, kind: &str, bytes: &Uint8Array) {
    let options = BlobPropertyBag::new();
    options.set_type(kind);
    if let Ok(blob) = Blob::new_with_u8_array_sequence_and_options(&Array::of1(bytes), &options) {
        download_blob(name, &blob);
    }
}

/// Hands a text to the person.
pub fn download_text(name: &str, kind: &str, text: &str) {
    download(name, kind, &Uint8Array::from(text.as_bytes()));
}

/// Hands a blob to the person.
pub fn download_blob(name: &str, blob: &Blob) {
    let Ok(url) = Url::create_object_url_with_blob(blob) else { return };
    let anchor: HtmlAnchorElement = make("a", "", "").unchecked_into();
    anchor.set_href(&url);
    anchor.set_download(name);
    anchor.click();
    // Revoked at once, some browsers would find nothing to save.
    wasm_bindgen_futures::spawn_local(async move {
        sleep(10_000).await;
        Url::revoke_object_url(&url).ok();
    });
}

/// Hands a canvas to the person as a PNG.
pub fn download_png(name: &'static str, canvas: &HtmlCanvasElement) {
    let closure = Closure::once_into_js(move |blob: Option<Blob>| {
        if let Some(blob) = blob {
            download_blob(name, &blob);
        }
    });
    canvas.to_blob(closure.unchecked_ref()).ok();
}

/// A canvas' drawing context.
pub fn context(canvas: &HtmlCanvasElement) -> CanvasRenderingContext2d {
    canvas.get_context("2d").ok().flatten().expect("canvases draw in two dimensions").unchecked_into()
}

/// Fills a canvas of `side` x `side` points with RGBA bytes.
pub fn paint(canvas: &HtmlCanvasElement, side: u32, rgba: &[u8]) {
    if canvas.width() != side || canvas.height() != side {
        canvas.set_width(side);
        canvas.set_height(side);
    }
    if let Ok(image) = ImageData::new_with_u8_clamped_array_and_sh(wasm_bindgen::Clamped(rgba), side, side) {
        context(canvas).put_image_data(&image, 0.0, 0.0).ok();
    }
}

/// A colour of the theme in use, such as `--student`. Read off an element that has it: the variable's own text names the
/// colours of both themes.
pub fn colour(variable: &str) -> String {
    let probe = make("span", "", "");
    style(&probe, "color", &format!("var({variable})"));
    let page = document().body().expect("a page has a body");
    page.append_child(&probe).expect("elements can be appended");
    let colour = window().get_computed_style(&probe).ok().flatten();
    let colour = colour.and_then(|style| style.get_property_value("color").ok()).unwrap_or_default();
    probe.remove();
    colour
}

/// Makes an area take dropped files.
pub fn on_drop(id: &str, mut taken: impl FnMut(Vec<web_sys::File>) + 'static) {
    let area = by_id(id);
    for (kind, over) in [("dragenter", true), ("dragover", true), ("dragleave", false)] {
        let marked = area.clone();
        on(&area, kind, move |event: Event| {
            event.prevent_default();
            marked.class_list().toggle_with_force("over", over).ok();
        });
    }
    let marked = area.clone();
    on(&area, "drop", move |event: web_sys::DragEvent| {
        event.prevent_default();
        marked.class_list().remove_1("over").ok();
        if let Some(files) = event.data_transfer().and_then(|transfer| transfer.files()) {
            taken(files_of(&files));
        }
    });
}

/// A list of files as a vector.
pub fn files_of(files: &web_sys::FileList) -> Vec<web_sys::File> {
    (0..files.length()).filter_map(|at| files.get(at)).collect()
}

/// Calls `taken` with the files that a person chooses; the same file may be chosen again.
pub fn on_files(id: &str, mut taken: impl FnMut(Vec<web_sys::File>) + 'static) {
    let field = input(id);
    let chosen = field.clone();
    on(&field, "change", move |_: Event| {
        let files = chosen.files().map(|files| files_of(&files)).unwrap_or_default();
        chosen.set_value("");
        if !files.is_empty() {
            taken(files);
        }
    });
}

//! The Classify view: a network from the page, a file or an address; a picture from anywhere; the answer.
//!
//! The network is loaded when it is first needed. A new worker has no network, so what was loaded is kept here to be
//! sent again.

use std::cell::{Cell, RefCell};

use js_sys::ArrayBuffer;
use potstill_protocol::{Answer, Classified, ClassifierReport, Command, Preparation, ReadoutChoice};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, ClipboardEvent, Event, File, HtmlCanvasElement, HtmlTextAreaElement, HtmlVideoElement, ImageBitmap,
    MediaStream,
};

use crate::address::View;
use crate::run::{Change, run, spawn};
use crate::shelf::{self, Shelf};
use crate::{dom, files, notice, picture, place, words};

/// Runs after the first, for the steady latency.
const STEADY_RUNS: usize = 3;

/// A network in use.
struct Loaded {
    report: ClassifierReport,
    /// From the manifest, else from the file.
    names: Vec<String>,
    weights: ArrayBuffer,
    /// Names and texts of the files that lie beside it.
    beside: Vec<(String, String)>,
    /// How the person has pictures prepared, where that is not as the files say.
    preparation: Option<Preparation>,
    /// Which worker has it.
    generation: u32,
    /// Milliseconds of its first run there.
    first: Option<f32>,
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Kind {
    Network,
    Picture,
    Readout,
}

#[derive(Default)]
struct Classify {
    loaded: RefCell<Option<Loaded>>,
    /// The picture's file, its name, and whether it was shown to the present network.
    picture: RefCell<Option<(String, ArrayBuffer)>>,
    /// What was seen: side, RGBA, maps of attention.
    seen: RefCell<Option<(usize, Vec<u8>, Vec<f32>)>>,
    camera: RefCell<Option<MediaStream>>,
    busy: Cell<bool>,
    /// How often something of each kind was asked for.
    asked: [Cell<u32>; 3],
    listed: Cell<bool>,
}

thread_local! {
    static VIEW: Classify = Classify::default();
}

/// Connects the view's controls.
pub fn start() {
    run().listen(|change| {
        if matches!(change, Change::Worker) {
            worker_changed();
        }
    });
    dom::on(&dom::select("classifier-choice"), "change", |_: Event| spawn(show_choice()));
    dom::on_press("classifier-load", || spawn(exclusively(Kind::Network, load_choice)));
    let from_file = |chosen: Vec<File>| spawn(exclusively(Kind::Network, async move || load_files(chosen).await));
    dom::on_files("weights-file", from_file);
    dom::on_drop("weights-drop", move |files| {
        if !files.is_empty() {
            from_file(files);
        }
    });
    dom::on(&dom::by_id("weights-form"), "submit", |event: Event| {
        event.prevent_default();
        spawn(exclusively(Kind::Network, load_address));
    });
    dom::on(&dom::by_id("in-use-form"), "submit", |event: Event| {
        event.prevent_default();
        spawn(exclusively(Kind::Network, use_details));
    });
    dom::on(&dom::select("readout"), "change", |_: Event| spawn(exclusively(Kind::Readout, classify)));
    dom::on_files("picture-file", |files| {
        spawn(exclusively(Kind::Picture, async move || take_file(&files[0]).await));
    });
    dom::on_drop("picture-drop", |files| {
        if let Some(file) = files.into_iter().next() {
            spawn(exclusively(Kind::Picture, async move || take_file(&file).await));
        }
    });
    dom::on(&dom::document(), "paste", |event: ClipboardEvent| {
        let files = event.clipboard_data().and_then(|data| data.files());
        let file = files.and_then(|files| files.get(0));
        if let (View::Classify, Some(file)) = (place::view(), file) {
            event.prevent_default();
            spawn(exclusively(Kind::Picture, async move || take_file(&file).await));
        }
    });
    dom::on_press("picture-paste", || spawn(exclusively(Kind::Picture, paste)));
    dom::on_press("camera-open", || {
        spawn(async {
            dom::enable("camera-open", false);
            let done = open_camera().await;
            dom::enable("camera-open", true);
            done
        });
    });
    dom::on_press("camera-take", || spawn(exclusively(Kind::Picture, take_from_camera)));
    dom::on_press("camera-close", close_camera);
    dom::on(&dom::input("layer"), "input", |_: Event| show_seen());
}

/// The view is shown.
pub fn shown() {
    if !VIEW.with(|view| view.listed.replace(true)) {
        spawn(async {
            let listed = list().await;
            if listed.is_err() {
                VIEW.with(|view| view.listed.set(false));
            }
            listed
        });
    }
}

/// The view is left: nothing watches any more.
pub fn left() {
    close_camera();
}

/// Another worker: what is loaded is sent again when it is next needed.
fn worker_changed() {
    VIEW.with(|view| {
        if let Some(loaded) = view.loaded.borrow_mut().as_mut() {
            loaded.first = None;
        }
    });
}

/// One thing at a time; of what is asked for meanwhile the last of each kind is done after it.
async fn exclusively(kind: Kind, task: impl AsyncFnOnce() -> Result<(), String>) -> Result<(), String> {
    let asked = || VIEW.with(|view| view.asked[kind as usize].get());
    let turn = asked().wrapping_add(1);
    VIEW.with(|view| view.asked[kind as usize].set(turn));
    while VIEW.with(|view| view.busy.get()) {
        dom::sleep(20).await;
        if asked() != turn {
            return Ok(());
        }
    }
    VIEW.with(|view| view.busy.set(true));
    let done = task().await;
    notice::idle();
    VIEW.with(|view| view.busy.set(false));
    done
}

// ---- Networks

async fn list() -> Result<(), String> {
    let shelf = shelf::shelf().await?;
    let choice = dom::select("classifier-choice");
    dom::clear(&choice);
    for (at, classifier) in shelf.classifiers.iter().enumerate() {
        let option = dom::add(&choice, dom::make("option", "", &classifier.name));
        dom::set(&option, "value", &at.to_string());
    }
    if shelf.classifiers.is_empty() {
        dom::add(&choice, dom::make("option", "", "None; use a file or an address"));
    }
    dom::enable("classifier-load", !shelf.classifiers.is_empty());
    show_choice().await
}

fn chosen(shelf: &Shelf) -> Option<&shelf::Classifier> {
    shelf.classifiers.get(dom::select("classifier-choice").value().parse::<usize>().ok()?)
}

async fn show_choice() -> Result<(), String> {
    let shelf = shelf::shelf().await?;
    let Some(classifier) = chosen(&shelf) else { return Ok(()) };
    dom::text(&dom::by_id("classifier-about"), &classifier.about);
    let area = dom::by_id("picture-samples");
    dom::clear(&area);
    for sample in &classifier.samples {
        let button = dom::add(&area, dom::make("button", "", ""));
        dom::set(&button, "type", "button");
        let image = dom::add(&button, dom::make("img", "", ""));
        dom::set(&image, "src", &sample.file);
        dom::set(&image, "alt", "");
        dom::add(&button, dom::make("span", "", &sample.name));
        let sample = sample.clone();
        dom::on(&button, "click", move |_: Event| {
            let sample = sample.clone();
            // On a phone the answer is further down.
            dom::scroll_to("answer-title");
            spawn(exclusively(Kind::Picture, async move || {
                let bytes = files::fetch(&sample.file, &sample.name, files::LARGEST_PICTURE).await?;
                take_bytes(sample.name, bytes).await
            }));
        });
    }
    Ok(())
}

async fn load_choice() -> Result<(), String> {
    let shelf = shelf::shelf().await?;
    let classifier = chosen(&shelf).ok_or("this page comes without a network; use a file or an address")?;
    let weights = files::fetch(&classifier.file, &classifier.name, files::LARGEST_WEIGHTS).await?;
    load(&classifier.name, weights, classifier.classes.clone(), Vec::new()).await?;
    dom::text(&dom::by_id("classifier-about"), &classifier.about);
    Ok(())
}

/// A network and what lies beside it, or what lies beside the network in use.
async fn load_files(chosen: Vec<File>) -> Result<(), String> {
    let (weights, others): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|file| !file.name().ends_with(".json") && !file.name().ends_with(".txt"));
    let mut beside = Vec::new();
    for file in &others {
        let bytes = files::read(file, files::LARGEST_DATA).await?;
        beside.push((file.name(), String::from_utf8_lossy(&files::bytes(&bytes)).into_owned()));
    }
    if let Some(file) = weights.first() {
        let weights = files::read(file, files::LARGEST_WEIGHTS).await?;
        load(&file.name(), weights, Vec::new(), beside).await?;
        dom::text(&dom::by_id("classifier-about"), "");
        return Ok(());
    }
    let loaded = VIEW
        .with(|view| view.loaded.borrow().as_ref().map(|loaded| (loaded.report.name.clone(), loaded.weights.clone())));
    let (name, weights) = loaded.ok_or("choose the network's .safetensors file too")?;
    load(&name, weights, Vec::new(), beside).await
}

/// Takes the names and the preparation that the person typed.
async fn use_details() -> Result<(), String> {
    let numbers = |id: &str| {
        let text = dom::input(id).value();
        let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
        parts.map(|part| part.parse().map_err(|_| format!("“{part}” is no number"))).collect::<Result<Vec<f32>, _>>()
    };
    let preparation = Preparation {
        mean: numbers("prepare-mean")?,
        std: numbers("prepare-std")?,
        crop: dom::input("prepare-crop").value_as_number() as f32,
        squash: dom::select("prepare-resize").value() == "squash",
        bilinear: dom::select("prepare-filter").value() == "bilinear",
    };
    let names: HtmlTextAreaElement = dom::by_id("class-names").unchecked_into();
    let names: Vec<String> =
        names.value().lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let classes = VIEW.with(|view| view.loaded.borrow().as_ref().map(|loaded| loaded.report.class_names.len()));
    let classes = classes.ok_or("load a network first")?;
    if names.len() != classes {
        return Err(format!("there are {} names, and the network tells {classes} classes apart", names.len()));
    }
    send_preparation(&preparation).await?;
    VIEW.with(|view| {
        if let Some(loaded) = view.loaded.borrow_mut().as_mut() {
            (loaded.names, loaded.preparation) = (names, Some(preparation));
        }
    });
    notice::speak("Taken");
    classify().await
}

async fn send_preparation(preparation: &Preparation) -> Result<(), String> {
    run().client.ask(Command::Preparation { preparation: preparation.clone() }, Vec::new()).await.map(drop)
}

async fn load_address() -> Result<(), String> {
    let address = dom::input("weights-address").value().trim().to_owned();
    if !address.starts_with("https://") {
        return Err("the address must start with https://".to_owned());
    }
    let name = address.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or("").to_owned();
    let name = if name.is_empty() { address.clone() } else { name };
    let weights = files::fetch(&address, &name, files::LARGEST_WEIGHTS).await?;
    load(&name, weights, Vec::new(), Vec::new()).await?;
    dom::text(&dom::by_id("classifier-about"), "");
    Ok(())
}

async fn load(
    name: &str,
    weights: ArrayBuffer,
    classes: Vec<String>,
    beside: Vec<(String, String)>,
) -> Result<(), String> {
    notice::busy(&format!("Taking {name} apart"), None);
    let report = send(name, &weights, &beside)
        .await
        .map_err(|problem| if problem.contains(name) { problem } else { format!("{name}: {problem}") })?;
    let names = if classes.is_empty() { report.class_names.clone() } else { classes };
    show_report(&report, &names);
    let generation = run().client.generation();
    VIEW.with(|view| {
        *view.loaded.borrow_mut() =
            Some(Loaded { report, names, weights, beside, preparation: None, generation, first: None });
    });
    notice::speak("The network is loaded");
    classify().await
}

async fn send(name: &str, weights: &ArrayBuffer, beside: &[(String, String)]) -> Result<ClassifierReport, String> {
    let command = Command::Classifier { name: name.to_owned(), beside: beside.to_vec() };
    match run().client.ask(command, vec![files::copy(weights)]).await? {
        (Answer::Classifier(report), _) => Ok(*report),
        _ => Err("the worker did not take the network".to_owned()),
    }
}

fn show_report(report: &ClassifierReport, names: &[String]) {
    let area = dom::by_id("classifier-report");
    dom::clear(&area);
    dom::add(&area, dom::make("p", "", &format!("In use: {}", report.name)));
    let size = format!("{}, {:.2} million parameters.", report.summary, f64::from(report.parameters) / 1e6);
    dom::add(&area, dom::make("p", "hint", &size));
    for note in report.measured.iter().chain(&report.notes) {
        dom::add(&area, dom::make("p", "hint", note));
    }
    dom::show(&dom::by_id("readout-field"), report.two_heads);
    let readout = serde_json::to_value(report.readout).ok();
    dom::select("readout").set_value(readout.as_ref().and_then(|value| value.as_str()).unwrap_or("class"));
    dom::show(&dom::by_id("in-use"), true);
    dom::by_id("class-names").unchecked_into::<HtmlTextAreaElement>().set_value(&names.join("\n"));
    let Preparation { mean, std, crop, squash, bilinear } = &report.preparation;
    let list = |numbers: &[f32]| numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
    dom::input("prepare-mean").set_value(&list(mean));
    dom::input("prepare-std").set_value(&list(std));
    dom::input("prepare-crop").set_value(&crop.to_string());
    dom::select("prepare-resize").set_value(if *squash { "squash" } else { "shortest" });
    dom::select("prepare-filter").set_value(if *bilinear { "bilinear" } else { "bicubic" });
}

// ---- Pictures

async fn take_file(file: &File) -> Result<(), String> {
    let bytes = files::read(file, files::LARGEST_PICTURE).await?;
    take_bytes(file.name(), bytes).await
}

/// Takes an encoded picture. PNG and JPEG go to the worker as they are, so that they are decoded as everywhere else;
/// what only the browser knows becomes a PNG first.
async fn take_bytes(name: String, bytes: ArrayBuffer) -> Result<(), String> {
    let head = files::bytes(&bytes.slice_with_end(0, 8));
    let known = head.starts_with(b"\x89PNG\r\n\x1a\n") || head.starts_with(b"\xff\xd8\xff");
    let bytes = if known {
        bytes
    } else {
        let blob =
            Blob::new_with_buffer_source_sequence(&js_sys::Array::of1(&bytes)).map_err(|error| dom::reason(&error))?;
        let bitmap = dom::window().create_image_bitmap_with_blob(&blob).map_err(|error| dom::reason(&error))?;
        let bitmap: ImageBitmap = JsFuture::from(bitmap)
            .await
            .map_err(|_| format!("{name}: this is not a picture that the browser can read"))?
            .unchecked_into();
        let canvas = canvas_of(bitmap.width(), bitmap.height());
        dom::context(&canvas).draw_image_with_image_bitmap(&bitmap, 0.0, 0.0).map_err(|error| dom::reason(&error))?;
        png(&canvas).await?
    };
    let before = VIEW.with(|view| view.picture.replace(Some((name, bytes))));
    if VIEW.with(|view| view.loaded.borrow().is_none()) {
        load_choice().await?;
        return Ok(());
    }
    let done = classify().await;
    if done.is_err() {
        VIEW.with(|view| *view.picture.borrow_mut() = before);
    }
    done
}

fn canvas_of(width: u32, height: u32) -> HtmlCanvasElement {
    let canvas: HtmlCanvasElement = dom::make("canvas", "", "").unchecked_into();
    canvas.set_width(width);
    canvas.set_height(height);
    canvas
}

async fn png(canvas: &HtmlCanvasElement) -> Result<ArrayBuffer, String> {
    let promise = js_sys::Promise::new(&mut |resolve, _| {
        canvas.to_blob(&resolve).ok();
    });
    let blob: Blob = JsFuture::from(promise)
        .await
        .ok()
        .and_then(|blob| blob.dyn_into().ok())
        .ok_or("the browser cannot turn the picture into a PNG; it may be too large")?;
    files::read_blob(&blob).await
}

async fn paste() -> Result<(), String> {
    let refused = |error: JsValue| {
        format!("the browser does not let this page read what was copied ({}); press Ctrl+V", dom::reason(&error))
    };
    let clipboard = JsValue::from(dom::window().navigator().clipboard());
    let promise = dom::call(&clipboard, "read", None)
        .and_then(|promise| promise.dyn_into::<js_sys::Promise>().ok())
        .ok_or("this browser has no paste button; press Ctrl+V")?;
    for item in js_sys::Array::from(&JsFuture::from(promise).await.map_err(refused)?).iter() {
        let types = js_sys::Reflect::get(&item, &"types".into()).unwrap_or_default();
        let kind = js_sys::Array::from(&types)
            .iter()
            .find(|kind| kind.as_string().is_some_and(|kind| kind.starts_with("image/")));
        let Some(promise) = kind.and_then(|kind| dom::call(&item, "getType", Some(&kind))) else { continue };
        let blob = JsFuture::from(promise.unchecked_into::<js_sys::Promise>()).await.map_err(refused)?;
        let bytes = files::read_blob(&blob.unchecked_into()).await?;
        return take_bytes("the pasted picture".to_owned(), bytes).await;
    }
    Err("there is no picture among what was copied".to_owned())
}

async fn open_camera() -> Result<(), String> {
    let refused = |error: JsValue| format!("the camera cannot be used: {}", dom::reason(&error));
    let devices = dom::window().navigator().media_devices().map_err(|_| "this browser gives no page a camera here")?;
    let wanted = web_sys::MediaStreamConstraints::new();
    wanted.set_video(&JsValue::TRUE);
    let stream = devices.get_user_media_with_constraints(&wanted).map_err(refused)?;
    let stream: MediaStream = JsFuture::from(stream).await.map_err(refused)?.unchecked_into();
    if place::view() != View::Classify {
        stop(&stream);
        return Ok(());
    }
    close_camera();
    let video: HtmlVideoElement = dom::by_id("camera-view").unchecked_into();
    video.set_src_object(Some(&stream));
    dom::show(&dom::by_id("camera"), true);
    VIEW.with(|view| *view.camera.borrow_mut() = Some(stream));
    JsFuture::from(video.play().map_err(refused)?).await.map_err(refused)?;
    dom::by_id("camera-take").focus().ok();
    Ok(())
}

async fn take_from_camera() -> Result<(), String> {
    let video: HtmlVideoElement = dom::by_id("camera-view").unchecked_into();
    if video.video_width() == 0 {
        return Err("the camera shows nothing yet".to_owned());
    }
    let canvas = canvas_of(video.video_width(), video.video_height());
    dom::context(&canvas).draw_image_with_html_video_element(&video, 0.0, 0.0).map_err(|error| dom::reason(&error))?;
    let bytes = png(&canvas).await?;
    take_bytes("the camera's picture".to_owned(), bytes).await
}

fn stop(stream: &MediaStream) {
    for track in stream.get_tracks().iter() {
        track.unchecked_into::<web_sys::MediaStreamTrack>().stop();
    }
}

fn close_camera() {
    let stream = VIEW.with(|view| view.camera.borrow_mut().take());
    if let Some(stream) = stream {
        stop(&stream);
        let video: HtmlVideoElement = dom::by_id("camera-view").unchecked_into();
        video.set_src_object(None);
    }
    dom::show(&dom::by_id("camera"), false);
}

// ---- The answer

fn readout() -> ReadoutChoice {
    serde_json::from_value(dom::select("readout").value().into()).unwrap_or_default()
}

/// Classifies the picture, where there is one; once more for the steady latency.
async fn classify() -> Result<(), String> {
    let Some((name, bytes)) = VIEW.with(|view| view.picture.borrow().clone()) else { return Ok(()) };
    let Some((network, weights, beside, preparation, generation)) = VIEW.with(|view| {
        let loaded = view.loaded.borrow();
        let Loaded { report, weights, beside, preparation, generation, .. } = loaded.as_ref()?;
        Some((report.name.clone(), weights.clone(), beside.clone(), preparation.clone(), *generation))
    }) else {
        return Ok(());
    };
    if generation != run().client.generation() {
        send(&network, &weights, &beside).await?;
        if let Some(preparation) = &preparation {
            send_preparation(preparation).await?;
        }
        VIEW.with(|view| {
            if let Some(loaded) = view.loaded.borrow_mut().as_mut() {
                loaded.generation = run().client.generation();
            }
        });
    }
    notice::busy("Looking at the picture", None);
    let (classified, buffers) = once(&bytes)
        .await
        .map_err(|problem| if problem.contains(&name) { problem } else { format!("{name}: {problem}") })?;
    notice::idle();
    let first = VIEW.with(|view| {
        let mut loaded = view.loaded.borrow_mut();
        let loaded = loaded.as_mut()?;
        loaded.first.get_or_insert(classified.milliseconds);
        loaded.first
    });
    show_answer(&name, &classified, &buffers);
    if let Some(note) = &classified.note {
        notice::tell(&format!("{name}: {note}"));
    }
    let first = first.unwrap_or(classified.milliseconds);
    let latency = dom::by_id("latency");
    dom::text(&latency, &format!("First run {first:.0} ms."));
    let mut steady = Vec::new();
    for _ in 0..STEADY_RUNS {
        steady.push(once(&bytes).await?.0.milliseconds);
    }
    steady.sort_by(f32::total_cmp);
    let middle = steady[steady.len() / 2];
    let device = run().state.borrow().device.as_ref().map(|device| device.name.clone()).unwrap_or_default();
    dom::text(
        &latency,
        &format!("First run {first:.0} ms, afterwards {middle:.0} ms (median of {STEADY_RUNS}), on {device}."),
    );
    Ok(())
}

async fn once(bytes: &ArrayBuffer) -> Result<(Classified, Vec<ArrayBuffer>), String> {
    let command = Command::Classify { readout: readout() };
    match run().client.ask(command, vec![files::copy(bytes)]).await? {
        (Answer::Classified(classified), buffers) => Ok((*classified, buffers)),
        _ => Err("the worker gave no answer".to_owned()),
    }
}

fn show_answer(name: &str, classified: &Classified, buffers: &[ArrayBuffer]) {
    let list = dom::by_id("top-five");
    dom::clear(&list);
    let class_name = |class: u32| {
        VIEW.with(|view| {
            let loaded = view.loaded.borrow();
            loaded.as_ref().and_then(|loaded| loaded.names.get(class as usize).cloned())
        })
        .unwrap_or_else(|| format!("class {class}"))
    };
    for &(class, share) in &classified.top {
        let item = dom::add(&list, dom::make("li", "", ""));
        let line = dom::add(&item, dom::make("div", "name", ""));
        dom::add(&line, dom::make("span", "", &class_name(class)));
        dom::add(&line, dom::make("span", "", &words::percent(share)));
        let track = dom::add(&item, dom::make("span", "bar-track", ""));
        picture::length(&dom::add(&track, dom::make("span", "bar-fill", "")), share);
    }
    if let Some(&(class, share)) = classified.top.first() {
        notice::speak(&format!("{}, {}", class_name(class), words::percent(share)));
        dom::set(&dom::canvas("seen"), "aria-label", &format!("{name}, as the network sees it"));
    }
    let rgba = buffers.first().map(files::bytes).unwrap_or_default();
    let maps = buffers.get(1).map(files::floats).unwrap_or_default();
    VIEW.with(|view| *view.seen.borrow_mut() = Some((classified.side as usize, rgba, maps)));
    let layer = dom::input("layer");
    let layers = classified.layers.to_string();
    if layer.max() != layers {
        // Another network: its last layer is the one that its answer was read from.
        layer.set_max(&layers);
        layer.set_value(&layers);
    }
    for id in ["attended-figure", "layer-field"] {
        dom::show(&dom::by_id(id), classified.layers > 0);
    }
    show_seen();
}

/// The picture as the network saw it, and beside it the same under the chosen layer's attention.
fn show_seen() {
    let layer = dom::input("layer").value_as_number() as usize;
    VIEW.with(|view| {
        let seen = view.seen.borrow();
        let Some((side, rgba, maps)) = seen.as_ref() else { return };
        dom::paint(&dom::canvas("seen"), *side as u32, rgba);
        let map = layer.checked_sub(1).and_then(|layer| maps.chunks_exact(side * side).nth(layer));
        let Some(map) = map else { return };
        let canvas = dom::canvas("attended");
        dom::paint(&canvas, *side as u32, &picture::with_attention(rgba, map));
        let text = format!("layer {layer}: most at the {}", words::place_of_peak(map, *side));
        dom::set(&canvas, "aria-label", &format!("Attention of {text}"));
        dom::text(&dom::by_id("layer-value"), &text);
        dom::set(&dom::input("layer"), "aria-valuetext", &text);
    });
}

//! Which device the worker computes on, and why, in words that a teacher understands.
//!
//! A browser's GPU is trusted only after three looks. Its adapter must be real and have what the kernels need: asked before
//! the runtime touches it, which would otherwise panic. Every kernel, and two training steps, must give what the CPU gives:
//! a shader that the browser refuses is skipped in silence. And from then on whatever the device or the runtime complains
//! of ends the run with a message, since the numbers after it cannot be trusted.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use burn::tensor::Device;
use js_sys::{Function, Promise, Reflect};
use potstill_core::op::{cases, selftest};
use potstill_web::distil::rehearsal;
use potstill_web::protocol::{DevicePreference, DeviceReport, Event, Fault};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::browser::tell;

/// What the kernels need of an adapter, as WebGPU names it.
const NEEDED: [(&str, f64); 5] = [
    ("maxStorageBuffersPerShaderStage", 8.0),
    ("maxComputeWorkgroupStorageSize", 16_384.0),
    ("maxComputeInvocationsPerWorkgroup", 256.0),
    ("maxStorageBufferBindingSize", 134_217_728.0),
    ("maxBufferSize", 268_435_456.0),
];
/// How adapters that are programs call themselves.
const SOFTWARE: [&str; 4] = ["swiftshader", "llvmpipe", "lavapipe", "basic render"];
/// Largest difference between two steps here and on the CPU, relative to the loss.
const REHEARSAL_TOLERANCE: f32 = 1e-3;

thread_local! {
    // Ends the GPU device, for a test.
    static DESTROY: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
    // Whether the device is in use, so that a complaint concerns somebody.
    static IN_USE: Cell<bool> = const { Cell::new(false) };
    // What the device or the runtime complained of first.
    static COMPLAINT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A device ready for use.
pub struct Opened {
    /// The device, without gradients.
    pub device: Device,
    /// What it is.
    pub report: DeviceReport,
}

/// Opens what `preference` asks for, or the CPU with the reason.
/// `tested` names the adapter and version that passed the test before, and need not pass it again.
pub async fn open(preference: DevicePreference, fault: Option<Fault>, tested: Option<String>) -> Opened {
    let reason = match gpu(preference, fault, tested).await {
        Ok(opened) => {
            IN_USE.set(true);
            return opened;
        }
        Err(reason) => reason,
    };
    let name = "this computer's processor".into();
    Opened { device: Device::flex(), report: DeviceReport { gpu: false, name, reason, tested: None } }
}

async fn gpu(preference: DevicePreference, fault: Option<Fault>, tested: Option<String>) -> Result<Opened, String> {
    if preference == DevicePreference::Cpu {
        return Err("The processor was asked for.".into());
    }
    let name = probe(preference, fault).await?;
    let opened = Device::wgpu_options().init_with_setup_async().await;
    let (device, setup) = opened.map_err(|error| format!("The graphics card could not be opened ({error})."))?;
    setup.device.on_uncaptured_error(Arc::new(|error| {
        let memory = format!("{error:?}").starts_with("OutOfMemory");
        complain(if memory {
            "the graphics card's memory ran out; lower the batch, the width or the depth".into()
        } else {
            format!("the graphics card refused its work ({error}); open the page with ?device=cpu")
        });
    }));
    setup.device.set_device_lost_callback(|_, message| {
        // A page that is closed, and a card that failed its test, lose their device too.
        if IN_USE.replace(false) {
            tell(Event::DeviceLost { message });
        }
    });
    let handle = setup.device.clone();
    DESTROY.set(Some(Box::new(move || handle.destroy())));
    let own = format!("{name}, {}", version());
    if tested.as_ref() != Some(&own) || fault.is_some() {
        test(&device, fault).await.map_err(|reason| {
            destroy();
            format!(
                "The graphics card \"{name}\" did not pass the page's test ({reason}), so its results could be wrong."
            )
        })?;
    }
    let reason = match preference {
        DevicePreference::Software => "It was asked for in the address. It passed the page's test.".into(),
        _ => "It passed the page's test.".into(),
    };
    Ok(Opened { device, report: DeviceReport { gpu: true, name, reason, tested: Some(own) } })
}

/// Ends the GPU device, if there is one.
pub fn destroy() -> bool {
    DESTROY.with_borrow(|destroy| destroy.as_ref().map(|destroy| destroy())).is_some()
}

fn get(object: &JsValue, key: &str) -> JsValue {
    Reflect::get(object, &key.into()).unwrap_or(JsValue::UNDEFINED)
}

fn call(object: &JsValue, method: &str, argument: &JsValue) -> Result<JsValue, JsValue> {
    get(object, method).dyn_into::<Function>()?.call1(object, argument)
}

/// Asks for an adapter without opening a device, and looks whether it will do. Its name, or why not.
async fn probe(preference: DevicePreference, fault: Option<Fault>) -> Result<String, String> {
    let gpu = get(&get(&js_sys::global(), "navigator"), "gpu");
    if gpu.is_falsy() || fault == Some(Fault::NoWebgpu) {
        return Err("This browser cannot compute on the graphics card (it has no WebGPU).".into());
    }
    let options = js_sys::Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into()).ok();
    let asked = call(&gpu, "requestAdapter", &options).and_then(|promise| promise.dyn_into::<Promise>());
    let adapter = match asked {
        Ok(promise) => JsFuture::from(promise).await.unwrap_or(JsValue::NULL),
        Err(_) => JsValue::NULL,
    };
    if adapter.is_falsy() {
        return Err("The browser found no graphics card that it can compute on.".into());
    }
    let info = get(&adapter, "info");
    let said = |key: &str| get(&info, key).as_string().filter(|text| !text.is_empty());
    let words: Vec<String> = ["description", "vendor", "architecture", "device"].into_iter().filter_map(said).collect();
    let name = said("description").unwrap_or_else(|| words.join(" "));
    let name = if name.is_empty() { "graphics card".to_owned() } else { name };
    let described = words.join(" ").to_lowercase();
    let fallback = get(&info, "isFallbackAdapter").is_truthy() || get(&adapter, "isFallbackAdapter").is_truthy();
    let software = fallback || SOFTWARE.iter().any(|word| described.contains(word));
    if software && preference != DevicePreference::Software {
        return Err(format!(
            "The browser's graphics card is simulated by a program (\"{name}\"), which is slower than the processor."
        ));
    }
    let has = |feature: &str| call(&get(&adapter, "features"), "has", &feature.into()).is_ok_and(|has| has.is_truthy());
    if !has("timestamp-query") {
        return Err(format!("The graphics card \"{name}\" lacks a feature that is needed here (timestamp-query)."));
    }
    let limits = get(&adapter, "limits");
    for (limit, needed) in NEEDED {
        let found = get(&limits, limit).as_f64().unwrap_or(0.0);
        if found < needed || fault == Some(Fault::Limits) {
            let found = if fault == Some(Fault::Limits) { 0.0 } else { found };
            return Err(format!(
                "The graphics card \"{name}\" is too small for the work here ({limit} is {found}, and {needed} is needed)."
            ));
        }
    }
    Ok(name)
}

/// The program's version and the browser's: with another of either the test is made anew.
fn version() -> String {
    let said = |object: &JsValue, key: &str| get(object, key).as_string().unwrap_or_default();
    let global = js_sys::global();
    format!("{} {}", said(&get(&global, "build"), "version"), said(&get(&global, "navigator"), "userAgent"))
}

/// Holds every kernel, and two training steps, against the CPU.
async fn test(device: &Device, fault: Option<Fault>) -> Result<(), String> {
    let all: Vec<_> = cases().filter(|case| case.quick).collect();
    // The two steps count as one case more.
    let count = all.len() as f32 + 1.0;
    for (done, case) in all.into_iter().enumerate() {
        tell(Event::Busy { what: "Testing the graphics card, once".into(), fraction: Some(done as f32 / count) });
        if let Some(check) = selftest(device, std::iter::once(case)).await.iter().find(|check| !check.passed) {
            return Err(format!("{} {}", check.kernel, check.detail));
        }
    }
    if fault == Some(Fault::Selftest) {
        return Err("a fault made on purpose".into());
    }
    let (here, there) = (rehearsal(device).await?, rehearsal(&Device::flex()).await?);
    for (here, there) in here.iter().zip(&there) {
        // Written so that NaN fails.
        let close = (here - there).abs() <= REHEARSAL_TOLERANCE * there.abs();
        if !close {
            return Err(format!("a training step has the loss {here} and not {there}"));
        }
    }
    match COMPLAINT.take() {
        Some(complaint) => Err(complaint),
        None => Ok(()),
    }
}

// The first complaint counts: those after it follow from it.
fn complain(message: String) {
    web_sys::console::error_1(&message.as_str().into());
    if IN_USE.get() {
        tell(Event::Broken { message });
    } else {
        COMPLAINT.with_borrow_mut(|complaint| {
            complaint.get_or_insert(message);
        });
    }
}

/// Reads the runtime's log for shaders that the browser refused; their launches give no other sign.
pub fn watch_log() {
    struct Log;
    impl log::Log for Log {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.level() <= log::Level::Warn
        }

        fn log(&self, record: &log::Record<'_>) {
            if !self.enabled(record.metadata()) {
                return;
            }
            let text = record.args().to_string();
            if text.contains("compilation failed") || text.contains("the device refused") {
                let line = text.lines().next().unwrap_or_default();
                complain(format!(
                    "the browser refused a program for the graphics card ({line}); open the page with ?device=cpu"
                ));
            }
            web_sys::console::warn_1(&text.into());
        }

        fn flush(&self) {}
    }
    if log::set_logger(&Log).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

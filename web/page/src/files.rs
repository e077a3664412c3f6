//! Bytes from outside: chosen files and addresses. Sizes are checked before anything is read.

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, File, ReadableStreamDefaultReader, RequestInit, Response};

use crate::{dom, notice, words};

/// A picture; larger ones are no pictures that a class takes.
pub const LARGEST_PICTURE: f64 = 60e6;
/// A data set's file: MNIST's largest has 47 MB unpacked.
pub const LARGEST_DATA: f64 = 100e6;
/// A network; twice a ViT-B in single precision would not fit the worker's memory beside its tensors.
pub const LARGEST_WEIGHTS: f64 = 400e6;

/// Reads a file of at most `largest` bytes.
pub async fn read(file: &File, largest: f64) -> Result<ArrayBuffer, String> {
    let name = file.name();
    if file.size() > largest {
        return Err(format!(
            "{name}: {} is more than the {} that this page takes here",
            words::bytes(file.size()),
            words::bytes(largest)
        ));
    }
    if file.size() == 0.0 {
        return Err(format!("{name}: the file is empty"));
    }
    read_blob(file).await.map_err(|error| format!("{name}: {error}"))
}

/// Reads a blob.
pub async fn read_blob(blob: &Blob) -> Result<ArrayBuffer, String> {
    let buffer = JsFuture::from(blob.array_buffer())
        .await
        .map_err(|error| format!("the file cannot be read: {}", dom::reason(&error)))?;
    Ok(buffer.unchecked_into())
}

/// A copy: buffers that are sent to the worker are gone here.
pub fn copy(buffer: &ArrayBuffer) -> ArrayBuffer {
    buffer.slice(0)
}

/// A buffer's bytes.
pub fn bytes(buffer: &ArrayBuffer) -> Vec<u8> {
    Uint8Array::new(buffer).to_vec()
}

/// A buffer's numbers.
pub fn floats(buffer: &ArrayBuffer) -> Vec<f32> {
    // A length that is no multiple of four would throw.
    js_sys::Float32Array::new_with_byte_offset_and_length(buffer, 0, buffer.byte_length() / 4).to_vec()
}

/// Fetches an address with a progress bar; `what` names it for the person.
pub async fn fetch(address: &str, what: &str, largest: f64) -> Result<ArrayBuffer, String> {
    let result = fetch_quietly(address, largest, |part| notice::busy(&format!("Loading {what}"), part)).await;
    notice::idle();
    result.map_err(|error| format!("{what}: {error}"))
}

async fn fetch_quietly(address: &str, largest: f64, progress: impl Fn(Option<f64>)) -> Result<ArrayBuffer, String> {
    progress(None);
    let options = RequestInit::new();
    // An address that a person typed learns nothing about this page.
    js_sys::Reflect::set(&options, &"referrerPolicy".into(), &"no-referrer".into()).ok();
    options.set_credentials(web_sys::RequestCredentials::Omit);
    let response: Response = JsFuture::from(dom::window().fetch_with_str_and_init(address, &options))
        .await
        .map_err(|error| {
            format!(
                "cannot be fetched ({}); the address may be wrong, the network down, or its server does not allow \
                 other pages to read it",
                dom::reason(&error)
            )
        })?
        .unchecked_into();
    if !response.ok() {
        return Err(format!("the server answered {} {}", response.status(), response.status_text()).trim().to_owned());
    }
    let too_large = || format!("it is larger than the {} that this page takes", words::bytes(largest));
    let header = response.headers().get("content-length").ok().flatten();
    let total: Option<f64> = header.and_then(|text| text.parse().ok());
    if total.is_some_and(|total| total > largest) {
        return Err(too_large());
    }
    let Some(body) = response.body() else { return Err("the server sent nothing".to_owned()) };
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    let (mut parts, mut have) = (Vec::<Uint8Array>::new(), 0.0);
    loop {
        let chunk = JsFuture::from(reader.read())
            .await
            .map_err(|error| format!("the connection broke after {}: {}", words::bytes(have), dom::reason(&error)))?;
        if js_sys::Reflect::get(&chunk, &"done".into()).is_ok_and(|done| done.is_truthy()) {
            break;
        }
        let part: Uint8Array =
            js_sys::Reflect::get(&chunk, &"value".into()).map(JsCast::unchecked_into).map_err(|_| too_large())?;
        have += f64::from(part.length());
        if have > largest {
            let _ = reader.cancel();
            return Err(too_large());
        }
        parts.push(part);
        progress(total.filter(|total| *total > 0.0).map(|total| (have / total).min(1.0)));
    }
    let whole = Uint8Array::new_with_length(have as u32);
    let mut at = 0;
    for part in parts {
        whole.set(&part, at);
        at += part.length();
    }
    Ok(whole.buffer())
}

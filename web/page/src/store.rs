//! Runs kept in this browser's storage (IndexedDB).

use js_sys::{Array, ArrayBuffer, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbObjectStore, IdbRequest, IdbTransactionMode};

use crate::dom;

const DATABASE: &str = "potstill";
const RUNS: &str = "runs";

fn explain(error: JsValue) -> String {
    format!("this browser's storage does not answer: {}; save the run as a file instead", dom::reason(&error))
}

/// Waits for a request's end.
async fn finished(request: &IdbRequest) -> Result<JsValue, String> {
    let promise = Promise::new(&mut |resolve, reject| {
        let (done, failed) = (request.clone(), request.clone());
        let success = Closure::once_into_js(move |_: JsValue| {
            resolve.call1(&JsValue::NULL, &done.result().unwrap_or_default()).ok();
        });
        let error = Closure::once_into_js(move |_: JsValue| {
            let reason = failed.error().ok().flatten().map_or(JsValue::UNDEFINED, JsValue::from);
            reject.call1(&JsValue::NULL, &reason).ok();
        });
        request.set_onsuccess(Some(success.unchecked_ref()));
        request.set_onerror(Some(error.unchecked_ref()));
    });
    JsFuture::from(promise).await.map_err(explain)
}

async fn runs(mode: IdbTransactionMode) -> Result<IdbObjectStore, String> {
    let factory = dom::window()
        .indexed_db()
        .map_err(explain)?
        .ok_or("this browser has no storage for pages; save the run as a file instead")?;
    let opening = factory.open_with_u32(DATABASE, 1).map_err(explain)?;
    let making = opening.clone();
    let upgrade = Closure::once_into_js(move |_: JsValue| {
        if let Ok(Ok(database)) = making.result().map(|value| value.dyn_into::<IdbDatabase>()) {
            database.create_object_store(RUNS).ok();
        }
    });
    opening.set_onupgradeneeded(Some(upgrade.unchecked_ref()));
    let database: IdbDatabase = finished(&opening).await?.unchecked_into();
    let transaction = database.transaction_with_str_and_mode(RUNS, mode).map_err(explain)?;
    transaction.object_store(RUNS).map_err(explain)
}

/// Keeps a run under a name.
pub async fn put(name: &str, bytes: &ArrayBuffer) -> Result<(), String> {
    let store = runs(IdbTransactionMode::Readwrite).await?;
    let request = store.put_with_key(bytes, &name.into()).map_err(explain)?;
    finished(&request).await.map(drop)
}

/// The names of all kept runs.
pub async fn list() -> Result<Vec<String>, String> {
    let store = runs(IdbTransactionMode::Readonly).await?;
    let keys = Array::from(&finished(&store.get_all_keys().map_err(explain)?).await?);
    Ok(keys.iter().filter_map(|key| key.as_string()).collect())
}

/// A kept run's bytes.
pub async fn get(name: &str) -> Result<ArrayBuffer, String> {
    let store = runs(IdbTransactionMode::Readonly).await?;
    finished(&store.get(&name.into()).map_err(explain)?)
        .await?
        .dyn_into()
        .map_err(|_| format!("{name}: this run is no longer in the browser's storage"))
}

/// Forgets a kept run.
pub async fn delete(name: &str) -> Result<(), String> {
    let store = runs(IdbTransactionMode::Readwrite).await?;
    finished(&store.delete(&name.into()).map_err(explain)?).await.map(drop)
}

//! Runs kept in this browser's storage (IndexedDB): those that a person saves under a name, and the last few as they go.
//!
//! A run that keeps itself has a key of the moment when it began, and a name that changes as it goes on.

use js_sys::{Array, ArrayBuffer, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbObjectStore, IdbRequest, IdbTransactionMode};

use crate::dom;

const DATABASE: &str = "potstill";
const RUNS: &str = "runs";
/// Before the keys of runs that keep themselves. No saved run's name begins so.
const BY_ITSELF: &str = "auto:";
/// How many of them are kept.
const MOST_BY_ITSELF: usize = 3;
/// What other tabs of this page listen to.
const CHANGED: &str = "runs-changed";

/// A kept run.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// To load or delete it by.
    pub key: String,
    /// For the person.
    pub name: String,
    /// The moment when it began, of a run that keeps itself.
    pub began: Option<String>,
}

impl Kept {
    fn of(key: String) -> Self {
        let parts = key.strip_prefix(BY_ITSELF).and_then(|rest| rest.split_once(':'));
        let parts = parts.map(|(began, name)| (began.to_owned(), name.to_owned()));
        match parts {
            Some((began, name)) => Self { key, name, began: Some(began) },
            None => Self { name: key.clone(), key, began: None },
        }
    }
}

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
    finished(&request).await?;
    tell_other_tabs();
    Ok(())
}

/// Keeps the run that began at that moment as it is now, in place of how it was; of older ones the last few stay.
pub async fn put_by_itself(began: &str, name: &str, bytes: &ArrayBuffer) -> Result<(), String> {
    let key = format!("{BY_ITSELF}{began}:{name}");
    put(&key, bytes).await?;
    let kept: Vec<_> = list().await?.into_iter().filter(|kept| kept.began.is_some()).collect();
    let (own, mut others): (Vec<_>, Vec<_>) = kept.into_iter().partition(|kept| kept.began.as_deref() == Some(began));
    // The keys begin with the moment, so the oldest are first.
    others.truncate(others.len().saturating_sub(MOST_BY_ITSELF - 1));
    for old in own.into_iter().filter(|kept| kept.key != key).chain(others) {
        delete(&old.key).await?;
    }
    Ok(())
}

/// All kept runs; those that keep themselves first, the oldest of them first.
pub async fn list() -> Result<Vec<Kept>, String> {
    let store = runs(IdbTransactionMode::Readonly).await?;
    let keys = Array::from(&finished(&store.get_all_keys().map_err(explain)?).await?);
    let mut kept: Vec<_> = keys.iter().filter_map(|key| key.as_string()).map(Kept::of).collect();
    kept.sort_by_key(|kept| kept.began.is_none());
    Ok(kept)
}

// A tab hears of a change that another makes.
fn tell_other_tabs() {
    if let Ok(Some(storage)) = dom::window().local_storage() {
        storage.set_item(CHANGED, &js_sys::Date::now().to_string()).ok();
    }
}

/// Whether that key of the browser's storage says that another tab changed the kept runs.
pub fn is_change(key: Option<&str>) -> bool {
    key == Some(CHANGED)
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
    finished(&store.delete(&name.into()).map_err(explain)?).await?;
    tell_other_tabs();
    Ok(())
}

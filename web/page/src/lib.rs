//! The page: what a person sees and does, and nothing of the computing, which is the worker's.
//!
//! [`address`], [`words`] and [`table`] are plain functions with tests on the host; all others drive the document and
//! exist in WebAssembly alone. The document itself is `web/index.html`: its elements are found by id, and only what
//! repeats (rows, samples, messages) is made here.

pub mod address;
pub mod table;
pub mod words;

#[cfg(target_family = "wasm")]
mod chart;
#[cfg(target_family = "wasm")]
mod classify;
#[cfg(target_family = "wasm")]
mod compare;
#[cfg(target_family = "wasm")]
mod confusion;
#[cfg(target_family = "wasm")]
mod digits;
#[cfg(target_family = "wasm")]
mod distil;
#[cfg(target_family = "wasm")]
mod dom;
#[cfg(target_family = "wasm")]
mod files;
#[cfg(target_family = "wasm")]
mod lesson;
#[cfg(target_family = "wasm")]
mod notice;
#[cfg(target_family = "wasm")]
mod page;
#[cfg(target_family = "wasm")]
mod picture;
#[cfg(target_family = "wasm")]
mod place;
#[cfg(target_family = "wasm")]
mod run;
#[cfg(target_family = "wasm")]
mod shelf;
#[cfg(target_family = "wasm")]
mod store;
#[cfg(target_family = "wasm")]
mod worker;

#[cfg(target_family = "wasm")]
pub use page::start;

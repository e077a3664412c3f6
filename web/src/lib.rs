//! The page: classify with a distilled vision transformer, distil a student live, see teacher beside student.
//!
//! Two programs run in the browser. The *worker*, built from this crate, owns WebAssembly's models and the device; the
//! *page*, the crate in `page/`, shows what the worker says. They speak [`protocol`].
//!
//! Everything but the browser itself is in this library and knows no browser, so that the host's tests run it.
#![recursion_limit = "256"]

mod beside;
pub mod classify;
pub mod data;
pub mod distil;
pub mod look;
mod older;
pub mod plan;
pub mod session;
pub mod snapshot;

pub use potstill_protocol as protocol;

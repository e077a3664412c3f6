//! The page: classify with a distilled vision transformer, distil a student live, see teacher beside student.
//!
//! Two programs run in the browser. The *worker*, built from this crate, owns WebAssembly's models and the device; the
//! *page*, the crate in `page/`, shows what the worker says. They speak [`protocol`].

pub use potstill_protocol as protocol;

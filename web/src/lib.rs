//! The page: classify with a distilled vision transformer, distil a student live, see teacher beside student.
//!
//! Two programs are built from this crate. The *worker* owns WebAssembly's models and the device; the *page* shows what
//! the worker says. They speak [`protocol`].

pub mod protocol;

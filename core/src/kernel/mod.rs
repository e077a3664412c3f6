//! Operations with a WGSL fast path and a portable definition.

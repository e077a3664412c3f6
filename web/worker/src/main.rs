//! The worker: commands in, answers and news out.
//!
//! In a browser it is a dedicated worker that owns WebAssembly's heap and the device. On the host the same program speaks
//! the same messages through standard input and output, on the CPU: tests hold the one against the other.
#![recursion_limit = "256"]

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
mod browser;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
mod device;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod host;

fn main() {
    #[cfg(all(target_family = "wasm", target_os = "unknown"))]
    browser::start();
    #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
    host::run();
}

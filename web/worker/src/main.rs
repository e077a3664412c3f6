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

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
unsafe extern "C" {
    /// Runs every constructor of the libraries, which the linker has gathered.
    fn __wasm_call_ctors();
}

fn main() {
    #[cfg(all(target_family = "wasm", target_os = "unknown"))]
    {
        // A program that never calls it has it called by the linker, before each call from JavaScript: the thousands of
        // constructors of cubecl's intermediate form took nine tenths of a training step on WebGPU.
        //
        // SAFETY: called once, before anything that the constructors prepare.
        unsafe { __wasm_call_ctors() };
        browser::start();
    }
    #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
    host::run();
}

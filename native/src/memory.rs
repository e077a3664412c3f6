//! The memory of the host: the allocator, what it keeps, and what is free.
//!
//! Why an allocator of its own: a training step allocates and frees the same few hundred megabytes of tensors every time.
//! An allocator that hands them back to the kernel pays for every page again at its first touch, which the kernel clears:
//! a fifth of a step of a small transformer on the CPU. This one keeps what it has until the process ends.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, the same number in mimalloc 2 and 3; the crate does not name it.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
}

/// Keeps freed memory for the next step; `MIMALLOC_PURGE_DELAY`, in milliseconds, says otherwise. To be called before any
/// other thread is started.
pub fn keep() {
    // SAFETY: mimalloc is linked in by `ALLOCATOR`; the option is one of its own, and no other thread reads it yet.
    unsafe { mi_option_set_default(PURGE_DELAY, -1) };
}

/// Bytes of memory that the operating system could give now, where it says so in a file (Linux).
pub fn free() -> Option<u64> {
    available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_read_from_what_linux_writes() {
        let text = "MemTotal:       24689292 kB\nMemFree:         1 kB\nMemAvailable:   23068672 kB\nBuffers: 3 kB\n";
        assert_eq!(available(text), Some(22 << 30));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(available("MemAvailable: many\n"), None);
    }
}

//! Memory over many training steps. A test binary of its own, since its allocator counts every byte of the process.
#![recursion_limit = "256"]

mod common;
#[path = "common/course.rs"]
mod course;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::Device;
use common::devices;
use course::{course, drive, recipe};
use potstill_core::method::Preset;
use potstill_core::model::{NetworkConfig, Pool, VitConfig};
use potstill_core::train::AdamWConfig;

/// The system's allocator, which says how many bytes are in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// Sound: the system's allocator does the work, with what it is handed.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes in use of the device, bytes it has reserved, bytes in use of the process; no device counts those of the CPU.
type Held = (Option<[u64; 2]>, usize);

/// What is held after every fiftieth step of `steps`.
fn distil(device: &Device, steps: u64) -> Vec<Held> {
    // A block each: a software adapter takes milliseconds for every few launches.
    let config = NetworkConfig::Vit(VitConfig {
        image_size: 28,
        patch_size: 14,
        channels: 1,
        classes: 10,
        width: 16,
        depth: 1,
        heads: 2,
        mlp_ratio: 2.0,
        pool: Pool::Mean,
        class_token: false,
        ..VitConfig::default()
    });
    let teacher = config.init(1, device).expect("a valid model");
    let kd = Preset::named("KD").expect("a known method");
    let recipe = recipe(2, 1e-3, AdamWConfig { clip_norm: Some(1.0), ..AdamWConfig::default() });
    let mut course = course(&config, 2, (&kd, Some(&teacher)), recipe, steps, device);
    let mut held = Vec::new();
    for step in (50..=steps).step_by(50) {
        // As often as a run reads its losses.
        let taken = drive(&mut [&mut course], 50, 10, device).remove(0);
        assert!(course.step() == step && taken.iter().all(|taken| taken.loss.is_finite()));
        device.sync().expect("a device that works");
        let on_device = device.memory_pool_usage().map(|usage| [usage.bytes_in_use, usage.bytes_reserved]);
        held.push((on_device, IN_USE.load(Ordering::Relaxed)));
    }
    held
}

#[test]
fn memory_stays_flat_over_hundreds_of_steps() {
    // cubecl keeps the 512 blocks of scalars that were launched with last, and every update has one of its own: until they are
    // full a few bytes a step are no leak, and from then on not a byte may be left behind. What holds over some steps then
    // holds over thousands, which a software adapter takes minutes for.
    const FULL: usize = 550;
    const SCALARS: u64 = 64 * 1024;
    for (name, device) in devices() {
        let held = distil(&device, if name == "flex" { 1000 } else { 700 });
        println!("{name}: bytes of device and process after every 50 steps: {held:?}");
        let (first, full) = (held[0], held[FULL / 50 - 1]);
        for (index, (on_device, process)) in held.iter().enumerate() {
            let step = 50 * (index + 1);
            if let (Some([used, _]), Some([before, _])) = (on_device, first.0) {
                assert!(*used > 0 && *used <= before + SCALARS, "{name}: {used} bytes in use after {step}: {held:?}");
            }
            if step > FULL {
                assert_eq!(*on_device, full.0, "{name}: the device's memory after {step} steps: {held:?}");
                // An image alone is 3 KiB a step; what this leaves room for are Burn's tables, which grow now and then.
                let allowed = full.1 + 1024 * (step - FULL);
                assert!(*process <= allowed, "{name}: {process} bytes in use after {step} steps: {held:?}");
            }
        }
    }
}

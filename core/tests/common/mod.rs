//! The devices that tests run on.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::vec;

use burn::tensor::{Device, DeviceKind, DeviceType, Tensor};

/// The adapter of the tests: the software one where there is one, since it is the same everywhere; else any.
fn adapter() -> Option<Device> {
    static ADAPTER: OnceLock<Option<Device>> = OnceLock::new();
    let found = ADAPTER.get_or_init(|| {
        let opened = |kind| {
            catch_unwind(AssertUnwindSafe(|| {
                let device = Device::wgpu(kind);
                let sum = Tensor::<1>::ones([2], &device).sum().into_data();
                assert_eq!(sum.iter::<f32>().next(), Some(2.0));
                device
            }))
            .ok()
        };
        let adapters = catch_unwind(|| Device::enumerate(DeviceType::Wgpu).into_vec()).unwrap_or_default();
        if adapters.is_empty() {
            return None;
        }
        if std::env::var_os("CUBECL_WGPU_DEFAULT_DEVICE").is_some() {
            return opened(DeviceKind::DefaultDevice);
        }
        opened(DeviceKind::Cpu).or_else(|| opened(DeviceKind::DefaultDevice))
    });
    if found.is_none() {
        println!("skipped: no Vulkan adapter (or other wgpu adapter) on this machine; only the CPU backend was tested");
    }
    found.clone()
}

/// The devices by their names, for one test of the process at a time.
///
/// Why: a backward pass of one thread frees what the graphs of others have left, and Burn's lazy stream drops an input too
/// early where that happens between its look at how often the input is held and its own letting go
/// (`FusionTensor::into_ir`): "Should have handle for tensor".
pub struct Devices {
    left: vec::IntoIter<(&'static str, Device)>,
    alone: Option<MutexGuard<'static, ()>>,
}

static ALONE: Mutex<()> = Mutex::new(());

thread_local! {
    static HELD: Cell<bool> = const { Cell::new(false) };
}

pub fn devices() -> Devices {
    // Within the loop of another call, this thread is alone already.
    let alone = (!HELD.replace(true)).then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner));
    let mut devices = vec![("flex", Device::flex())];
    devices.extend(adapter().map(|device| ("wgpu", device)));
    Devices { left: devices.into_iter(), alone }
}

impl Iterator for Devices {
    type Item = (&'static str, Device);

    fn next(&mut self) -> Option<Self::Item> {
        self.left.next()
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        if self.alone.is_some() {
            HELD.set(false);
        }
    }
}

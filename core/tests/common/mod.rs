//! The devices that tests run on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

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

/// Name, device, and whether it runs WGSL.
pub fn devices() -> Vec<(&'static str, Device)> {
    let mut devices = vec![("flex", Device::flex())];
    devices.extend(adapter().map(|device| ("wgpu", device)));
    devices
}

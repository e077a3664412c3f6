//! The devices of the tests, an adapter twice: as its kernels are by default, and as they may be chosen.

use std::sync::OnceLock;

use burn::cubecl::future::block_on;
use burn::cubecl::wgpu::wgpu;
use burn::tensor::Device;
use potstill_core::op::{Choice, Reduction, Tiles, choose};

use crate::adapters;

/// Whether each adapter has subgroups, of the API that the library takes, the first that has any: which of them the tests
/// take is its choice.
fn everywhere() -> bool {
    use wgpu::Backends;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = |api| block_on(instance.enumerate_adapters(api));
    let apis = [Backends::METAL, Backends::VULKAN, Backends::DX12, Backends::GL];
    let taken = apis.into_iter().map(adapters).find(|adapters| !adapters.is_empty()).unwrap_or_default();
    taken.iter().all(|adapter| adapter.features().contains(wgpu::Features::SUBGROUP))
}

/// Sums by subgroup operations, unless an adapter has none, and tiles as measured.
fn chosen() -> Choice {
    static EVERYWHERE: OnceLock<bool> = OnceLock::new();
    let reduction = if *EVERYWHERE.get_or_init(everywhere) {
        Reduction::Subgroups
    } else {
        println!("skipped: sums by subgroups, because there is an adapter without them on this machine");
        Reduction::Plain
    };
    Choice { reduction, tiles: Tiles::Measured }
}

pub struct Devices {
    adapters: adapters::Devices,
    again: Option<Device>,
}

/// Those of all tests, and adapters again with the other choices.
pub fn devices() -> Devices {
    Devices { adapters: adapters::devices(), again: None }
}

impl Iterator for Devices {
    type Item = (&'static str, Device);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, device, choice) = match self.again.take() {
            Some(device) => ("wgpu by subgroups and measured tiles", device, chosen()),
            None => {
                let (name, device) = self.adapters.next()?;
                self.again = (name != "flex").then(|| device.clone());
                (name, device, Choice::default())
            }
        };
        // What was launched lazily goes by the choice of before.
        device.sync().expect("a device that works");
        choose(&device, choice);
        Some((name, device))
    }
}

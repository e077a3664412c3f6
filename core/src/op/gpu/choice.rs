//! What the caller chooses for a device: how its kernels sum over the invocations of a row, and how their tiles are chosen.

use std::sync::{PoisonError, RwLock};

use burn::backend::DispatchDevice;
use burn::cubecl;
use burn::tensor::Device;

/// How kernels sum over the invocations of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Through workgroup memory, as every device can.
    #[default]
    Plain,
    /// By subgroup operations. They are the caller's promise that the device was opened with them: without them a launch
    /// fails. Why it is asked for and not found out: cubecl hides the subgroups of adapters that compute on the CPU, where
    /// the tests run. A browser has none, since wgpu enables none there.
    Subgroups,
}

/// How the tiles of a pass are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tiles {
    /// The least work by a count, on every device the same.
    #[default]
    Counted,
    /// The fastest on the device, measured at the first launch on new sizes. Without the feature `autotune`, as in a browser,
    /// the same as counted.
    Measured,
}

/// What is chosen for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// How kernels sum over the invocations of a row.
    pub reduction: Reduction,
    /// How the tiles of a pass are chosen.
    pub tiles: Tiles,
}

static CHOICES: RwLock<Vec<(cubecl::Device, Choice)>> = RwLock::new(Vec::new());

/// Has what is launched on `device` from now on go by `choice`. The CPU launches nothing and has no choice.
///
/// Work that a lazy stream has not launched yet goes by it too: [`Device::sync`] comes before a change.
pub fn choose(device: &Device, choice: Choice) {
    let device = device.clone().inner();
    let DispatchDevice::Cube(device) = device.as_dispatch() else { return };
    let mut choices = CHOICES.write().unwrap_or_else(PoisonError::into_inner);
    choices.retain(|(other, _)| other != device);
    choices.push((device.clone(), choice));
}

/// What was chosen for a device.
pub(super) fn choice(device: &cubecl::Device) -> Choice {
    let choices = CHOICES.read().unwrap_or_else(PoisonError::into_inner);
    choices.iter().find(|(other, _)| other == device).map_or_else(Choice::default, |(_, choice)| *choice)
}

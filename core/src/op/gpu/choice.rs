//! The caller's choices for a device: how kernels sum over the invocations of a row, and how tiles are chosen.

use std::sync::{PoisonError, RwLock};

use burn::backend::DispatchDevice;
use burn::cubecl;
use burn::tensor::Device;

/// How kernels sum over the invocations of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Through workgroup memory. Every device can do this.
    #[default]
    Plain,
    /// With subgroup operations. The caller promises that the device was opened with them, otherwise a launch fails. Why the caller
    /// chooses: cubecl hides the subgroups of adapters that compute on the CPU, and the tests run on these. A browser has no
    /// subgroups, since wgpu does not enable them there.
    Subgroups,
}

/// How the tiles of a pass are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tiles {
    /// The tiles with the least work, by a count. They are the same on every device.
    #[default]
    Counted,
    /// The fastest tiles on the device, measured at the first launch with new sizes. Without the feature `autotune`, as in a
    /// browser, this is the same as `Counted`.
    Measured,
}

/// The choices for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// How kernels sum over the invocations of a row.
    pub reduction: Reduction,
    /// How the tiles of a pass are chosen.
    pub tiles: Tiles,
}

static CHOICES: RwLock<Vec<(cubecl::Device, Choice)>> = RwLock::new(Vec::new());

/// Sets the choices for everything that is launched on `device` from now on. The CPU launches nothing and has no choices.
///
/// They also apply to work that a lazy stream has not launched yet. Call [`Device::sync`] before a change.
pub fn choose(device: &Device, choice: Choice) {
    let device = device.clone().inner();
    let DispatchDevice::Cube(device) = device.as_dispatch() else { return };
    let mut choices = CHOICES.write().unwrap_or_else(PoisonError::into_inner);
    choices.retain(|(other, _)| other != device);
    choices.push((device.clone(), choice));
}

/// The choices for a device.
pub(super) fn choice(device: &cubecl::Device) -> Choice {
    let choices = CHOICES.read().unwrap_or_else(PoisonError::into_inner);
    choices.iter().find(|(other, _)| other == device).map_or_else(Choice::default, |(_, choice)| *choice)
}

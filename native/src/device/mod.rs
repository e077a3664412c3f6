//! The devices of the machine: which there are, which one a command uses, and why.
//!
//! Why the library does not choose: without a GPU it would take a software adapter, which is slower than the CPU path. And it
//! opens a device when it is first used, so that a failure is a panic in the middle of the work.
//!
//! Invariants
//! * `auto` chooses a real GPU if there is one, otherwise the CPU. Only `software` chooses a software adapter ([`choice`]).
//! * The listed device is the one that is opened. Adapters are listed API by API in cubecl's own order, and those of a kind are
//!   numbered like cubecl numbers them ([`probe`]). The API is pinned when an adapter is opened.
//! * A device is opened before any work, so that every fault of the device is one line of text ([`opening`]).
//! * If the CPU is requested, the graphics drivers are not used at all.

mod choice;
mod opening;
mod probe;

use std::fmt;
use std::sync::OnceLock;

use burn::tensor::Device;
use potstill_core::op::{Reduction, Tiles};
use serde::{Deserialize, Serialize};

pub use choice::{DeviceChoice, Listed, choose, list};

/// The command line's choices for kernels: how they sum over a row, and how their tiles are chosen, if given.
static PREFERENCE: OnceLock<(Reduction, Option<Tiles>)> = OnceLock::new();

/// Sets the command line's choices for kernels, for every device that is opened from now on. The first call counts.
pub fn prefer(reduction: Reduction, tiles: Option<Tiles>) {
    PREFERENCE.get_or_init(|| (reduction, tiles));
}

fn preference() -> (Reduction, Option<Tiles>) {
    PREFERENCE.get().copied().unwrap_or_default()
}

/// The kind of hardware. The order is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A GPU with its own memory.
    DiscreteGpu,
    /// A GPU that shares the machine's memory.
    IntegratedGpu,
    /// A GPU of the host, seen from a virtual machine.
    VirtualGpu,
    /// A GPU whose driver does not say its kind, such as OpenGL's.
    OtherGpu,
    /// The CPU, through Flex.
    Cpu,
    /// The CPU, through a graphics adapter.
    Software,
}

impl Kind {
    /// Whether this is a real GPU.
    pub fn is_gpu(self) -> bool {
        !matches!(self, Self::Cpu | Self::Software)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DiscreteGpu => "discrete-gpu",
            Self::IntegratedGpu => "integrated-gpu",
            Self::VirtualGpu => "virtual-gpu",
            Self::OtherGpu => "other-gpu",
            Self::Cpu => "cpu",
            Self::Software => "software",
        })
    }
}

/// The interface between the tensors and the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// Burn's own CPU backend.
    Flex,
    /// Vulkan.
    Vulkan,
    /// Metal.
    Metal,
    /// Direct3D 12.
    Dx12,
    /// OpenGL.
    Gl,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Flex => "flex",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Dx12 => "dx12",
            Self::Gl => "gl",
        })
    }
}

/// The description of a device, for reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// The kind of hardware.
    pub kind: Kind,
    /// Its name, from the driver or the operating system.
    pub name: String,
    /// The interface.
    pub api: Api,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.kind, self.api)
    }
}

/// An open device.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The device for tensors, without gradients.
    pub device: Device,
    /// Its description.
    pub info: DeviceInfo,
    /// Why it was chosen, as part of a sentence.
    pub reason: String,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.info, self.reason)
    }
}

//! The devices that a command runs on: what there is, which is taken, and why.
//!
//! Why not leave it to the library: its own choice takes a software adapter when there is no GPU (slower than the CPU
//! path), and opens lazily, where a failure is a panic in the middle of the work.
//!
//! Invariants
//! * `auto` takes a real GPU, else the CPU; a software adapter is taken only when `software` is asked for ([`choice`]).
//! * What is listed is what is opened: adapters are asked for API by API in cubecl's own order and counted a kind as
//!   cubecl counts them ([`probe`]), and the API is pinned when one is opened.
//! * A device is opened before any work, so that everything that can go wrong with it is one line of text ([`opening`]).
//! * Nothing asks the graphics drivers for anything when the CPU is asked for.

mod choice;
mod opening;
mod probe;

use std::fmt;
use std::sync::OnceLock;

use burn::tensor::Device;
use potstill_core::op::{Reduction, Tiles};
use serde::{Deserialize, Serialize};

pub use choice::{DeviceChoice, Listed, choose, list};

/// What the command line says of kernels: how they sum over a row, and how their tiles are chosen if it says that.
static PREFERENCE: OnceLock<(Reduction, Option<Tiles>)> = OnceLock::new();

/// Has kernels go by what the command line says, on every device that is opened from now on. Once it is said, it stays.
pub fn prefer(reduction: Reduction, tiles: Option<Tiles>) {
    PREFERENCE.get_or_init(|| (reduction, tiles));
}

fn preference() -> (Reduction, Option<Tiles>) {
    PREFERENCE.get().copied().unwrap_or_default()
}

/// What kind of hardware computes. The order is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A GPU with memory of its own.
    DiscreteGpu,
    /// A GPU that shares the machine's memory.
    IntegratedGpu,
    /// A GPU of the host, seen from a virtual machine.
    VirtualGpu,
    /// A GPU whose driver does not say what it is, as OpenGL's do not.
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

/// What stands between the tensors and the hardware.
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

/// A device as reports name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// What computes.
    pub kind: Kind,
    /// Its name, from the driver or the operating system.
    pub name: String,
    /// What stands between.
    pub api: Api,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.kind, self.api)
    }
}

/// A device that was opened.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// What tensors are made on; without gradients.
    pub device: Device,
    /// What it is.
    pub info: DeviceInfo,
    /// Half a sentence on why it was taken.
    pub reason: String,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.info, self.reason)
    }
}

//! Opening a device, so that no later use of it can fail for want of one.

use burn::cubecl::config::autotune::AutotuneLevel;
use burn::cubecl::config::cache::CacheConfig;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use burn::cubecl::wgpu::{AutoGraphicsApi, RuntimeOptions, WgpuInitError, try_init_setup};
use burn::tensor::Device;
use potstill_core::op::{self, Choice, Reduction, Tiles};

use super::preference;
use super::probe::Adapter;
use super::{Api, Chosen, DeviceInfo, Kind};
use crate::error::{Failure, Result};

/// The CPU.
pub(super) fn cpu(reason: String) -> Chosen {
    Chosen { device: Device::flex(), info: cpu_info(), reason }
}

/// Opens an adapter, so that no later use of it can fail for want of a device.
pub(super) fn open(adapter: &Adapter, reason: String) -> Result<Chosen> {
    let name = &adapter.info.name;
    if let Some(flaw) = &adapter.flaw {
        return Err(Failure::work(format!("{name} cannot be used: {flaw}")));
    }
    let (reduction, tiles) = preference();
    if reduction == Reduction::Subgroups && !adapter.subgroups {
        return Err(Failure::work(format!("--shaders subgroups: {name} has none; leave it out")));
    }
    configure(adapter.info.kind);
    let opened = RuntimeOptions::try_default()
        .and_then(|options| try_init_setup::<AutoGraphicsApi>(&adapter.selector, options).map(|_| ()));
    match opened {
        // Registered before: it is open.
        Ok(()) | Err(WgpuInitError::Registration { .. }) => {}
        Err(error) => return Err(Failure::work(format!("{name} could not be opened: {error}"))),
    }
    let device = Device::from(adapter.selector.clone());
    // Measuring on a software adapter takes longer than it can save.
    let usual = if adapter.info.kind.is_gpu() { Tiles::Measured } else { Tiles::Counted };
    op::choose(&device, Choice { reduction, tiles: tiles.unwrap_or(usual) });
    Ok(Chosen { device, info: adapter.info.clone(), reason })
}

/// Keeps what is measured in the user's cache folder, and tuning short on a software adapter, where measuring a kernel takes
/// longer than tuning can save. What the environment or a configuration file says goes first. The configuration is read
/// once a process, at the first opening.
fn configure(kind: Kind) {
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    // The default, a folder below that of some Cargo.toml above, is not for a program's users.
    if matches!(config.environment.path, CacheConfig::Target) {
        config.environment.path = CacheConfig::Global;
    }
    let level = &mut config.autotune.level;
    let asked = std::env::var_os("CUBECL_AUTOTUNE_LEVEL").is_some();
    if kind == Kind::Software && !asked && matches!(level, AutotuneLevel::Balanced) {
        *level = AutotuneLevel::Minimal;
    }
    // False where the configuration was read before; then it stays as it is, which is only slower.
    CubeClRuntimeConfig::try_set(config);
}

/// The CPU, as reports name it.
pub(super) fn cpu_info() -> DeviceInfo {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let model = cpu_model().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
    DeviceInfo { kind: Kind::Cpu, name: format!("{model}, {threads}"), api: Api::Flex }
}

/// The processor's name where the operating system keeps it in a file; a report is better with it and complete without.
fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let model = line.split_once(':')?.1.split_whitespace().collect::<Vec<_>>().join(" ");
    (!model.is_empty()).then_some(model)
}

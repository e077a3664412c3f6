//! Opening a device, so that later uses do not fail because it is missing.

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

/// Opens an adapter, so that later uses do not fail because the device is missing.
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
        // It was registered before, so it is open.
        Ok(()) | Err(WgpuInitError::Registration { .. }) => {}
        Err(error) => return Err(Failure::work(format!("{name} could not be opened: {error}"))),
    }
    let device = Device::from(adapter.selector.clone());
    // On a software adapter, measuring takes longer than it saves.
    let usual = if adapter.info.kind.is_gpu() { Tiles::Measured } else { Tiles::Counted };
    op::choose(&device, Choice { reduction, tiles: tiles.unwrap_or(usual) });
    Ok(Chosen { device, info: adapter.info.clone(), reason })
}

/// Sets the folder for measured kernels to the user's cache folder (used with the feature `autotune-cache`). On a software
/// adapter it also keeps tuning short, since measuring a kernel takes longer there than tuning saves. The environment and a
/// configuration file take precedence. The configuration is read once in a process, when the first device is opened.
fn configure(kind: Kind) {
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    // The default is a folder beside a Cargo.toml. That is not suitable for users of a program.
    if matches!(config.environment.path, CacheConfig::Target) {
        config.environment.path = CacheConfig::Global;
    }
    let level = &mut config.autotune.level;
    let asked = std::env::var_os("CUBECL_AUTOTUNE_LEVEL").is_some();
    if kind == Kind::Software && !asked && matches!(level, AutotuneLevel::Balanced) {
        *level = AutotuneLevel::Minimal;
    }
    // False if the configuration was read before. Then it does not change, which is only slower.
    CubeClRuntimeConfig::try_set(config);
}

/// The description of the CPU, for reports.
pub(super) fn cpu_info() -> DeviceInfo {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let model = cpu_model().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
    DeviceInfo { kind: Kind::Cpu, name: format!("{model}, {threads}"), api: Api::Flex }
}

/// The processor's name, if the operating system has it in a file. It is a useful part of a report, but not necessary.
fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let model = line.split_once(':')?.1.split_whitespace().collect::<Vec<_>>().join(" ");
    (!model.is_empty()).then_some(model)
}

//! Which device a command runs on, and why.
//!
//! Why not leave it to the library: its own choice takes a software adapter when there is no GPU (slower than the CPU
//! path), and opens lazily, where a failure is a panic in the middle of the work.
//!
//! Invariants
//! * `auto` takes a real GPU, else the CPU; a software adapter is taken only when `software` is asked for.
//! * What is listed is what is opened: adapters are asked for API by API in cubecl's own order and counted a kind as
//!   cubecl counts them, and the API is pinned when one is opened.
//! * A device is opened here, before any work, so that everything that can go wrong with it is one line of text.
//! * Nothing asks the graphics drivers for anything when the CPU is asked for.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use burn::cubecl::config::autotune::AutotuneLevel;
use burn::cubecl::config::cache::CacheConfig;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use burn::cubecl::future::block_on;
use burn::cubecl::wgpu::{
    AutoGraphicsApi, RuntimeOptions, WgpuBackend, WgpuDevice, WgpuDeviceKind, WgpuInitError, try_init_setup, wgpu,
};
use burn::tensor::Device;
use potstill_core::op::{self, Choice, Reduction, Tiles};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this number, or the first that can be used.
    Gpu(Option<usize>),
    /// A graphics adapter that computes on the CPU; for tests.
    Software,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            // The reference projects' word for a GPU, if there is one.
            "auto" | "cuda" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "gpu" => return Ok(Self::Gpu(None)),
            "software" => return Ok(Self::Software),
            other => {
                if let Some(Ok(number)) = other.strip_prefix("gpu:").map(str::parse) {
                    return Ok(Self::Gpu(Some(number)));
                }
            }
        }
        Err("it must be auto, cpu, gpu, gpu:N (N as `potstill devices` numbers them) or software".to_owned())
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(None) => f.write_str("gpu"),
            Self::Gpu(Some(number)) => write!(f, "gpu:{number}"),
            Self::Software => f.write_str("software"),
        }
    }
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

impl Api {
    /// The graphics APIs that cubecl tries on this platform, best first.
    fn chain() -> Vec<Self> {
        AutoGraphicsApi::chain()
            .into_iter()
            .filter_map(|api| match api {
                wgpu::Backend::Vulkan => Some(Self::Vulkan),
                wgpu::Backend::Metal => Some(Self::Metal),
                wgpu::Backend::Dx12 => Some(Self::Dx12),
                wgpu::Backend::Gl => Some(Self::Gl),
                wgpu::Backend::Noop | wgpu::Backend::BrowserWebGpu => None,
            })
            .collect()
    }

    /// As wgpu calls it, and as cubecl pins it.
    fn backends(self) -> Option<(wgpu::Backend, WgpuBackend)> {
        match self {
            Self::Flex => None,
            Self::Vulkan => Some((wgpu::Backend::Vulkan, WgpuBackend::Vulkan)),
            // Not pinned: a pinned Metal device demands the Metal compiler, which this build leaves out for WGSL, and on
            // Apple's systems Metal is the only API there is.
            Self::Metal => Some((wgpu::Backend::Metal, WgpuBackend::Auto)),
            Self::Dx12 => Some((wgpu::Backend::Dx12, WgpuBackend::Dx12)),
            Self::Gl => Some((wgpu::Backend::Gl, WgpuBackend::Gl)),
        }
    }
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

/// A line of `devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The number of a GPU, as `gpu:N` takes it; the CPU and software adapters have none.
    pub index: Option<usize>,
    /// What `--device` takes it by.
    pub device: String,
    /// What it is.
    #[serde(flatten)]
    pub info: DeviceInfo,
    /// Its driver, where there is one.
    pub driver: String,
    /// Whether `auto` takes it.
    pub default: bool,
    /// Whether the kernels can run on it.
    pub usable: bool,
    /// Why it is, or is not, taken.
    pub reason: String,
}

/// A graphics adapter that this machine has.
#[derive(Clone, Debug)]
struct Adapter {
    info: DeviceInfo,
    /// Whether it has subgroup operations.
    subgroups: bool,
    driver: String,
    /// What opens it.
    selector: WgpuDevice,
    /// Why the kernels cannot run on it.
    flaw: Option<String>,
}

/// The graphics adapters of a machine, in the order of their numbers.
#[derive(Clone, Debug, Default)]
struct Adapters {
    gpus: Vec<Adapter>,
    software: Vec<Adapter>,
}

/// Least that the kernels need: bindings a pass, bytes of workgroup memory, invocations of a workgroup.
const STORAGE_BUFFERS: u32 = 8;
const WORKGROUP_BYTES: u32 = 16 * 1024;
const INVOCATIONS: u32 = 256;

/// Parts of names of adapters that compute on the CPU and do not always say so.
const SOFTWARE_NAMES: [&str; 4] = ["llvmpipe", "lavapipe", "swiftshader", "microsoft basic render"];

impl Adapters {
    /// Asks the drivers. The API that is taken is the first with a real GPU; the same GPU under a second API would be
    /// listed twice. Machines without any loader or driver have no adapters, and that is no error.
    fn find() -> Self {
        let mut found = Self::default();
        for api in Api::chain() {
            let (gpus, software): (Vec<_>, Vec<_>) = probe(api).into_iter().partition(|a| a.info.kind.is_gpu());
            if found.software.is_empty() {
                found.software = software;
            }
            if !gpus.is_empty() {
                found.gpus = gpus;
                break;
            }
        }
        // Stable: within a kind the driver's order stays.
        found.gpus.sort_by_key(|adapter| adapter.info.kind);
        found
    }

    /// The GPUs that `auto` tries, with their numbers.
    fn usable(&self) -> impl Iterator<Item = (usize, &Adapter)> {
        self.gpus.iter().enumerate().filter(|(_, adapter)| adapter.flaw.is_none())
    }

    /// Why there is no GPU to use, in words.
    fn lack(&self) -> String {
        if let [first, ..] = self.gpus.as_slice() {
            let flaw = first.flaw.as_deref().unwrap_or("it could not be opened");
            return match self.gpus.len() {
                1 => format!("the only GPU, {}, cannot be used: {flaw}", first.info.name),
                n => format!("none of the {n} GPUs can be used; {}: {flaw}", first.info.name),
            };
        }
        match self.software.as_slice() {
            [] => "no GPU was found (no graphics driver has an adapter)".to_owned(),
            [only] => format!("no GPU was found (adapters: {}, a software one)", only.info.name),
            [first, ..] => {
                let n = self.software.len();
                format!("no GPU was found (adapters: {} and {} more, all software)", first.info.name, n - 1)
            }
        }
    }

    /// What else could be asked for.
    fn advice(&self) -> &'static str {
        match self.software.is_empty() {
            true => "use --device cpu",
            false => "use --device cpu, or --device software to run on that",
        }
    }
}

/// The adapters of one API, in the driver's order.
fn probe(api: Api) -> Vec<Adapter> {
    let Some((backend, pinned)) = api.backends() else { return Vec::new() };
    if !wgpu::Instance::enabled_backend_features().contains(backend.into()) {
        return Vec::new();
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: backend.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    // Every kind counts from zero on its own, and all software adapters share one selector, as in cubecl.
    let [mut discrete, mut integrated, mut virtual_, mut other, mut software] = [0; 5];
    let next = |counter: &mut usize| {
        *counter += 1;
        *counter - 1
    };
    block_on(instance.enumerate_adapters(backend.into()))
        .into_iter()
        .map(|adapter| {
            let (about, limits) = (adapter.get_info(), adapter.limits());
            let (kind, selector) = match about.device_type {
                wgpu::DeviceType::DiscreteGpu => (Kind::DiscreteGpu, WgpuDeviceKind::DiscreteGpu(next(&mut discrete))),
                wgpu::DeviceType::IntegratedGpu => {
                    (Kind::IntegratedGpu, WgpuDeviceKind::IntegratedGpu(next(&mut integrated)))
                }
                wgpu::DeviceType::VirtualGpu => (Kind::VirtualGpu, WgpuDeviceKind::VirtualGpu(next(&mut virtual_))),
                wgpu::DeviceType::Other => (Kind::OtherGpu, WgpuDeviceKind::Other(next(&mut other))),
                wgpu::DeviceType::Cpu => (Kind::Software, WgpuDeviceKind::Cpu),
            };
            let kind = if is_software(&about.name) { Kind::Software } else { kind };
            let unreachable = about.device_type == wgpu::DeviceType::Cpu && next(&mut software) > 0;
            let flaw = match unreachable {
                true => Some("only the first software adapter can be opened".to_owned()),
                false => flaw(&limits),
            };
            let driver = [about.driver, about.driver_info].join(" ").trim().to_owned();
            let info = DeviceInfo { kind, name: about.name, api };
            let subgroups = adapter.features().contains(wgpu::Features::SUBGROUP);
            Adapter { info, subgroups, driver, selector: WgpuDevice::new(selector).on(pinned), flaw }
        })
        .collect()
}

fn is_software(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SOFTWARE_NAMES.iter().any(|part| name.contains(part))
}

/// Which limit is below what the kernels need.
fn flaw(limits: &wgpu::Limits) -> Option<String> {
    [
        ("storage buffers a pass", limits.max_storage_buffers_per_shader_stage, STORAGE_BUFFERS),
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size, WORKGROUP_BYTES),
        ("invocations in a workgroup", limits.max_compute_invocations_per_workgroup, INVOCATIONS),
    ]
    .into_iter()
    .find(|(_, found, needed)| found < needed)
    .map(|(what, found, needed)| format!("it allows {found} {what}, and the kernels need {needed}"))
}

/// What the command line says of kernels: how they sum over a row, and how their tiles are chosen if it says that.
static PREFERENCE: OnceLock<(Reduction, Option<Tiles>)> = OnceLock::new();

/// Has kernels go by what the command line says, on every device that is opened from now on. The first word stands.
pub fn prefer(reduction: Reduction, tiles: Option<Tiles>) {
    PREFERENCE.get_or_init(|| (reduction, tiles));
}

fn preference() -> (Reduction, Option<Tiles>) {
    PREFERENCE.get().copied().unwrap_or_default()
}

/// Opens the device that is asked for. Meant to be called once a process: what an adapter was opened with stays.
///
/// # Errors
/// Exit code 1, with what was found and what to do, if there is no such device or it cannot be opened.
pub fn choose(choice: &DeviceChoice) -> Result<Chosen> {
    let chosen = find(choice)?;
    if preference().0 == Reduction::Subgroups && chosen.info.kind == Kind::Cpu {
        let reason = &chosen.reason;
        return Err(Failure::usage(format!("--shaders subgroups: the CPU runs no shaders ({reason}); leave it out")));
    }
    Ok(chosen)
}

fn find(choice: &DeviceChoice) -> Result<Chosen> {
    let asked = format!("asked for with --device {choice}");
    match choice {
        DeviceChoice::Cpu => Ok(cpu(asked)),
        DeviceChoice::Auto => Ok(best(&Adapters::find())),
        DeviceChoice::Gpu(None) => {
            let adapters = Adapters::find();
            let Some((_, adapter)) = adapters.usable().next() else {
                return Err(Failure::work(format!("{}; {}", adapters.lack(), adapters.advice())));
            };
            open(adapter, asked)
        }
        DeviceChoice::Gpu(Some(number)) => {
            let adapters = Adapters::find();
            if adapters.gpus.is_empty() {
                return Err(Failure::work(format!("{}; {}", adapters.lack(), adapters.advice())));
            }
            let Some(adapter) = adapters.gpus.get(*number) else {
                let count = adapters.gpus.len();
                let have = match count {
                    1 => "the only GPU is gpu:0".to_owned(),
                    _ => format!("the GPUs are gpu:0 to gpu:{}", count - 1),
                };
                return Err(Failure::work(format!("there is no gpu:{number}; {have} (see `potstill devices`)")));
            };
            open(adapter, asked)
        }
        DeviceChoice::Software => {
            let adapters = Adapters::find();
            match adapters.software.first() {
                Some(adapter) => open(adapter, asked),
                None => Err(Failure::work(
                    "no software adapter was found; install one (such as Mesa's lavapipe), or use --device cpu",
                )),
            }
        }
    }
}

/// The first GPU that opens, else the CPU.
fn best(adapters: &Adapters) -> Chosen {
    let count = adapters.gpus.len();
    let mut refused = None;
    for (number, adapter) in adapters.usable() {
        let reason = match (count, number) {
            (1, _) => "the only GPU".to_owned(),
            (_, 0) => format!("the first of {count} GPUs"),
            _ => format!("the first of {count} GPUs that can be used"),
        };
        match open(adapter, reason) {
            Ok(chosen) => return chosen,
            Err(failure) => refused = refused.or(Some(failure.to_string())),
        }
    }
    cpu(refused.unwrap_or_else(|| adapters.lack()))
}

fn cpu(reason: String) -> Chosen {
    Chosen { device: Device::flex(), info: cpu_info(), reason }
}

/// Opens an adapter, so that no later use of it can fail for want of a device.
fn open(adapter: &Adapter, reason: String) -> Result<Chosen> {
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

/// Everything that `--device` can take, the CPU last of the usable ones.
pub fn list() -> Vec<Listed> {
    let adapters = Adapters::find();
    let taken = adapters.usable().next().map(|(number, _)| number);
    let line = |adapter: &Adapter, index: Option<usize>, device: String, reason: &str| Listed {
        index,
        device,
        info: adapter.info.clone(),
        driver: adapter.driver.clone(),
        default: index.is_some() && index == taken,
        usable: adapter.flaw.is_none(),
        reason: adapter.flaw.clone().unwrap_or_else(|| reason.to_owned()),
    };
    let mut lines = Vec::new();
    for (number, adapter) in adapters.gpus.iter().enumerate() {
        let reason = match taken == Some(number) {
            true => "taken by auto",
            false => "an earlier one is taken by auto",
        };
        lines.push(line(adapter, Some(number), DeviceChoice::Gpu(Some(number)).to_string(), reason));
    }
    lines.push(Listed {
        index: None,
        device: DeviceChoice::Cpu.to_string(),
        info: cpu_info(),
        driver: String::new(),
        default: taken.is_none(),
        usable: true,
        reason: match taken {
            Some(_) => "a GPU is taken by auto".to_owned(),
            None => "taken by auto: there is no GPU to use".to_owned(),
        },
    });
    for adapter in &adapters.software {
        lines.push(line(adapter, None, DeviceChoice::Software.to_string(), "for tests; slower than the CPU path"));
    }
    lines
}

fn cpu_info() -> DeviceInfo {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(kind: Kind, name: &str, flaw: Option<&str>) -> Adapter {
        Adapter {
            info: DeviceInfo { kind, name: name.to_owned(), api: Api::Vulkan },
            subgroups: false,
            driver: String::new(),
            selector: WgpuDevice::new(WgpuDeviceKind::Cpu),
            flaw: flaw.map(str::to_owned),
        }
    }

    #[test]
    fn spellings_are_read_and_written() {
        for text in ["auto", "cpu", "gpu", "gpu:0", "gpu:12", "software"] {
            assert_eq!(text.parse::<DeviceChoice>().map(|choice| choice.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "gpu:", "gpu:-1", "gpu:x", "gpu0", "rocm", "gpu:99999999999999999999"] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(error.contains("gpu:N") && error.contains("software"), "{text}: {error}");
        }
    }

    #[test]
    fn limits_below_the_kernels_needs_are_named() {
        let enough = wgpu::Limits {
            max_storage_buffers_per_shader_stage: 8,
            max_compute_workgroup_storage_size: 16384,
            max_compute_invocations_per_workgroup: 256,
            ..Default::default()
        };
        assert_eq!(flaw(&enough), None);
        let few = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..enough };
        assert_eq!(flaw(&few).as_deref(), Some("it allows 4 storage buffers a pass, and the kernels need 8"));
    }

    #[test]
    fn software_is_known_by_name_too() {
        for name in ["llvmpipe (LLVM 19.1.7, 256 bits)", "SwiftShader Device", "Microsoft Basic Render Driver"] {
            assert!(is_software(name), "{name}");
        }
        assert!(!is_software("AMD Radeon RX 7900 XTX (RADV NAVI31)"));
    }

    #[test]
    fn a_lack_of_gpus_says_what_there_is() {
        let none = Adapters::default();
        assert!(none.lack().starts_with("no GPU was found"));
        let soft = Adapters { software: vec![adapter(Kind::Software, "llvmpipe", None)], ..Default::default() };
        assert_eq!(soft.lack(), "no GPU was found (adapters: llvmpipe, a software one)");
        assert!(soft.advice().contains("--device software"));
        let weak = Adapters { gpus: vec![adapter(Kind::OtherGpu, "Tiny", Some("it is small"))], ..Default::default() };
        assert_eq!(weak.lack(), "the only GPU, Tiny, cannot be used: it is small");
        assert_eq!(best(&weak).info.kind, Kind::Cpu);
    }

    #[test]
    fn the_cpu_is_always_there() {
        let chosen = choose(&DeviceChoice::Cpu).expect("the CPU");
        assert_eq!((chosen.info.kind, chosen.info.api), (Kind::Cpu, Api::Flex));
        assert_eq!(chosen.reason, "asked for with --device cpu");
        assert_eq!(serde_json::to_value(&chosen.info).expect("serialises")["kind"], "cpu");
    }
}

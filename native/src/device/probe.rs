//! The adapters that the graphics drivers offer.

use burn::cubecl::future::block_on;
use burn::cubecl::wgpu::{AutoGraphicsApi, WgpuBackend, WgpuDevice, WgpuDeviceKind, wgpu};

use super::{Api, DeviceInfo, Kind};

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

    /// Its name in wgpu, and in cubecl.
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

/// A graphics adapter of this machine.
#[derive(Clone, Debug)]
pub(super) struct Adapter {
    pub info: DeviceInfo,
    /// Whether it has subgroup operations.
    pub subgroups: bool,
    pub driver: String,
    /// The selector that opens it.
    pub selector: WgpuDevice,
    /// Why the kernels cannot run on it, if they cannot.
    pub flaw: Option<String>,
}

/// The graphics adapters of the machine, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Adapters {
    pub gpus: Vec<Adapter>,
    pub software: Vec<Adapter>,
}

/// What the kernels need at least: bindings in a pass, bytes of workgroup memory, invocations of a workgroup.
const STORAGE_BUFFERS: u32 = 8;
const WORKGROUP_BYTES: u32 = 16 * 1024;
const INVOCATIONS: u32 = 256;

/// Parts of the names of adapters that compute on the CPU. Not all of them report this.
const SOFTWARE_NAMES: [&str; 4] = ["llvmpipe", "lavapipe", "swiftshader", "microsoft basic render"];

impl Adapters {
    /// Asks the drivers. It uses the first API with a real GPU, since a second API would list the same GPU again. A machine
    /// without a loader or driver has no adapters; this is not an error.
    pub fn find() -> Self {
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
    pub fn usable(&self) -> impl Iterator<Item = (usize, &Adapter)> {
        self.gpus.iter().enumerate().filter(|(_, adapter)| adapter.flaw.is_none())
    }

    /// Why there is no usable GPU, as a text.
    pub fn lack(&self) -> String {
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

    /// What else `--device` could ask for.
    pub fn advice(&self) -> &'static str {
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

/// The limit that is too low for the kernels, if one is.
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn adapter(kind: Kind, name: &str, flaw: Option<&str>) -> Adapter {
        Adapter {
            info: DeviceInfo { kind, name: name.to_owned(), api: Api::Vulkan },
            subgroups: false,
            driver: String::new(),
            selector: WgpuDevice::new(WgpuDeviceKind::Cpu),
            flaw: flaw.map(str::to_owned),
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
    }
}

//! The kernels that sum over the invocations of a row, by subgroup operations: the tests of `kernels` again, in a process
//! of their own, since a process chooses once.
#![recursion_limit = "256"]

#[path = "../kernels/adamw.rs"]
mod adamw;
#[path = "../common/mod.rs"]
mod adapters;
#[path = "../kernels/attention.rs"]
mod attention;
#[path = "../kernels/layer_norm.rs"]
mod layer_norm;
#[path = "../kernels/losses.rs"]
mod losses;
#[path = "../kernels/numbers.rs"]
mod numbers;
#[path = "../kernels/residual_norm.rs"]
mod residual_norm;

mod common {
    use std::sync::OnceLock;

    use burn::cubecl::future::block_on;
    use burn::cubecl::wgpu::wgpu;
    use burn::tensor::Device;
    use potstill_core::kernel::{Reduction, choose_reduction};

    /// Whether each adapter has them of the API that the library takes, the first that has any: which of them the tests
    /// take is its choice.
    fn everywhere() -> bool {
        use wgpu::Backends;
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapters = |api| block_on(instance.enumerate_adapters(api));
        let apis = [Backends::METAL, Backends::VULKAN, Backends::DX12, Backends::GL];
        let taken = apis.into_iter().map(adapters).find(|adapters| !adapters.is_empty()).unwrap_or_default();
        taken.iter().all(|adapter| adapter.features().contains(wgpu::Features::SUBGROUP))
    }

    /// Those of the other tests, after the choice; the CPU alone where an adapter has no subgroups.
    pub fn devices() -> Vec<(&'static str, Device)> {
        static EVERYWHERE: OnceLock<bool> = OnceLock::new();
        assert!(choose_reduction(Reduction::Subgroups), "chosen before a kernel is launched");
        let mut devices = super::adapters::devices();
        if !EVERYWHERE.get_or_init(everywhere) {
            println!("skipped: there is an adapter without subgroups on this machine; only the CPU backend was tested");
            devices.truncate(1);
        }
        devices
    }
}

#[test]
fn the_choice_stands() {
    use potstill_core::kernel::{Reduction, choose_reduction, reduction};
    common::devices();
    assert!(!choose_reduction(Reduction::Plain) && choose_reduction(Reduction::Subgroups));
    assert_eq!(reduction(), Reduction::Subgroups);
}

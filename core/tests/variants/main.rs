//! The tests of `kernels` again on what a process chooses once and they leave as it is: sums over the invocations of a row by
//! subgroup operations, and the tiles of attention and its maps as measured.
#![recursion_limit = "256"]

#[path = "../kernels/adamw.rs"]
mod adamw;
#[path = "../common/mod.rs"]
mod adapters;
#[path = "../kernels/attention.rs"]
mod attention;
#[path = "../kernels/attention_map.rs"]
mod attention_map;
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
    use potstill_core::kernel::{Reduction, Tiles, choose_reduction, choose_tiles};

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

    /// What sums over the invocations of a row: subgroups, unless an adapter has none.
    pub fn available() -> Reduction {
        static EVERYWHERE: OnceLock<bool> = OnceLock::new();
        match EVERYWHERE.get_or_init(everywhere) {
            true => Reduction::Subgroups,
            false => Reduction::Plain,
        }
    }

    /// Those of the other tests, after the choices.
    pub fn devices() -> super::adapters::Devices {
        if available() == Reduction::Plain {
            println!(
                "skipped: there is an adapter without subgroups on this machine; sums are tested as `kernels` does"
            );
        }
        assert!(choose_reduction(available()) && choose_tiles(Tiles::Measured), "chosen before a kernel is launched");
        super::adapters::devices()
    }
}

/// Large enough to be measured, three sizes of tile in each pass; and a second time, when all are known.
#[test]
fn attention_by_measured_tiles_matches_its_definition() {
    use burn::tensor::Device;
    use numbers::{error, evaluate, wave};

    let (shape, scale) = ([6, 65, 3, 6, 32], 0.2);
    let input = wave(shape.iter().product(), 0.37, 0.1, 1.5);
    let composed = |qkv| attention::composed_attention(qkv, scale);
    let expected = evaluate(&Device::flex(), &input, shape, composed);
    for (name, device) in common::devices() {
        for _ in 0..2 {
            let found = evaluate(&device, &input, shape, |qkv| potstill_core::kernel::attention(qkv, scale));
            let [forward, gradient] = [0, 1].map(|i| error(&found[i], &expected[i]));
            assert!(forward <= 1e-5 && gradient <= 1e-4, "{name}: {forward:e} and {gradient:e}");
        }
    }
}

#[test]
fn the_choices_stand() {
    use potstill_core::kernel::{Reduction, Tiles, choose_reduction, choose_tiles, reduction, tiles};
    common::devices();
    let other = match common::available() {
        Reduction::Plain => Reduction::Subgroups,
        Reduction::Subgroups => Reduction::Plain,
    };
    assert!(!choose_reduction(other) && choose_reduction(common::available()));
    assert_eq!(reduction(), common::available());
    assert!(!choose_tiles(Tiles::Counted) && choose_tiles(Tiles::Measured));
    assert_eq!(tiles(), Tiles::Measured);
}

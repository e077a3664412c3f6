//! Names of models and the configurations they stand for: timm's names where timm has the model.
//!
//! A name stands for sizes and initial values. The preprocessing that published weights expect is not part of it.

#[cfg(feature = "all-models")]
use super::distillvit::DistillVitConfig;
use super::init::WeightInit;
use super::network::NetworkConfig;
#[cfg(feature = "all-models")]
use super::regnet::RegNetConfig;
#[cfg(feature = "all-models")]
use super::resnet::ResNetConfig;
use super::vit::{Pool, VitConfig};

/// Every name that [`named`] knows, with a description.
pub const MODELS: &[(&str, &str)] = &[
    ("vit_tiny_patch16_224", "12 blocks of width 192, 3 heads, class token"),
    ("vit_small_patch16_224", "12 blocks of width 384, 6 heads, class token"),
    ("vit_base_patch16_224", "12 blocks of width 768, 12 heads, class token"),
    ("vit_large_patch16_224", "24 blocks of width 1024, 16 heads, class token"),
    ("deit_tiny_patch16_224", "DeiT-Ti: the sizes of vit_tiny_patch16_224"),
    ("deit_small_patch16_224", "DeiT-S: the sizes of vit_small_patch16_224"),
    ("deit_base_patch16_224", "DeiT-B: the sizes of vit_base_patch16_224"),
    ("deit_tiny_distilled_patch16_224", "DeiT-Ti with a distillation token and a head for it"),
    ("deit_small_distilled_patch16_224", "DeiT-S with a distillation token and a head for it"),
    ("deit_base_distilled_patch16_224", "DeiT-B with a distillation token and a head for it"),
    #[cfg(feature = "all-models")]
    ("regnetx_004", "RegNetX of 400 million multiplications, as timm and pycls have it: last width 384"),
    #[cfg(feature = "all-models")]
    ("regnetx_004_tv", "the same as torchvision has it (regnet_x_400mf): last width 400"),
    #[cfg(feature = "all-models")]
    ("regnety_160", "RegNetY of 16 billion multiplications, with squeeze-and-excitation; DeiT's teacher"),
    #[cfg(feature = "all-models")]
    ("resnet18", "18 layers, basic blocks"),
    #[cfg(feature = "all-models")]
    ("resnet50", "50 layers, bottlenecks"),
    ("deit_tiny_cifar10", "DeiT-Ti with normalised patches, one head for both tokens, and dropout; 10 classes"),
    #[cfg(feature = "all-models")]
    ("distillvit_teacher", "DistillViT: 6 blocks on 3 x 3 patches of 90 x 90 grey images"),
    #[cfg(feature = "all-models")]
    ("distillvit_student", "DistillViT: 3 blocks on 3 x 3 patches of 90 x 90 grey images"),
    ("vit_pytorch_patch32_224", "6 blocks of width 1024, 8 heads of 64, 2 classes, drawn as vit-pytorch draws"),
    ("digits_teacher", "6 blocks of width 64 on 28 x 28 grey images, patch 7, mean pooling"),
    ("digits_student", "3 blocks of width 64 on 28 x 28 grey images, patch 7, mean pooling"),
    #[cfg(feature = "all-models")]
    ("pictures_teacher", "10 layers of a narrow ResNet on 64 x 64 pictures, for few of one's own"),
    ("pictures_student", "4 blocks of width 96 on 64 x 64 pictures, patch 8, mean pooling, for few of one's own"),
];

/// A model's name without what a hub puts around it: `hf-hub:timm/deit_tiny_patch16_224.fb_in1k` is
/// `deit_tiny_patch16_224`, and `facebook/deit-tiny-patch16-224` too.
pub fn plain_name(name: &str) -> String {
    let within = name.strip_prefix("hf-hub:").or_else(|| name.strip_prefix("hf_hub:")).unwrap_or(name);
    let own = within.rsplit('/').next().unwrap_or(within);
    // timm's tag says which weights, not which network.
    let own = own.split('.').next().unwrap_or(own);
    if within.contains('/') { own.replace('-', "_") } else { own.to_owned() }
}

/// The configuration behind a model's name, or `None` for a name that is not in [`MODELS`].
pub fn named(name: &str) -> Option<NetworkConfig> {
    let vit = |width, depth, heads| VitConfig { width, depth, heads, ..VitConfig::default() };
    let (tiny, small, base) = (vit(192, 12, 3), vit(384, 12, 6), vit(768, 12, 12));
    let distilled = |config| VitConfig { distillation_token: true, ..config };
    let digits = VitConfig {
        image_size: 28,
        patch_size: 7,
        channels: 1,
        classes: 10,
        mlp_ratio: 2.0,
        pool: Pool::Mean,
        class_token: false,
        init: WeightInit::Xavier,
        ..vit(64, 6, 4)
    };
    // Both come from the same code: a linear layer makes the tokens, with PyTorch's initial values.
    let vit_pytorch = |config| VitConfig { layer_norm_eps: 1e-5, init: WeightInit::Pytorch, ..config };
    Some(match name {
        "vit_tiny_patch16_224" | "deit_tiny_patch16_224" => tiny.into(),
        "vit_small_patch16_224" | "deit_small_patch16_224" => small.into(),
        "vit_base_patch16_224" | "deit_base_patch16_224" => base.into(),
        "vit_large_patch16_224" => vit(1024, 24, 16).into(),
        "deit_tiny_distilled_patch16_224" => distilled(tiny).into(),
        "deit_small_distilled_patch16_224" => distilled(small).into(),
        "deit_base_distilled_patch16_224" => distilled(base).into(),
        #[cfg(feature = "all-models")]
        "regnetx_004" => RegNetConfig::default().into(),
        #[cfg(feature = "all-models")]
        "regnetx_004_tv" => {
            RegNetConfig { widths: [32, 64, 160, 400], zero_init_last: false, ..RegNetConfig::default() }.into()
        }
        #[cfg(feature = "all-models")]
        "regnety_160" => RegNetConfig {
            widths: [224, 448, 1232, 3024],
            depths: [2, 4, 11, 1],
            group_width: 112,
            gate_ratio: 0.25,
            ..RegNetConfig::default()
        }
        .into(),
        #[cfg(feature = "all-models")]
        "resnet18" => ResNetConfig::default().into(),
        #[cfg(feature = "all-models")]
        "resnet50" => ResNetConfig { depths: [3, 4, 6, 3], bottleneck: true, ..ResNetConfig::default() }.into(),
        "deit_tiny_cifar10" => vit_pytorch(VitConfig {
            classes: 10,
            shared_head: true,
            patch_norm: true,
            embedding_dropout: 0.1,
            attention_dropout: 0.1,
            ..distilled(tiny)
        })
        .into(),
        #[cfg(feature = "all-models")]
        "distillvit_teacher" => DistillVitConfig::default().into(),
        #[cfg(feature = "all-models")]
        "distillvit_student" => DistillVitConfig { depth: 3, ..DistillVitConfig::default() }.into(),
        "vit_pytorch_patch32_224" => vit_pytorch(VitConfig {
            patch_size: 32,
            classes: 2,
            mlp_ratio: 2.0,
            head_size: Some(64),
            qkv_bias: false,
            embedding_dropout: 0.1,
            dropout: 0.1,
            ..vit(1024, 6, 8)
        })
        .into(),
        "digits_teacher" => digits.into(),
        "digits_student" => VitConfig { depth: 3, ..digits }.into(),
        #[cfg(feature = "all-models")]
        "pictures_teacher" => {
            ResNetConfig { image_size: 64, width: 24, depths: [1; 4], ..ResNetConfig::default() }.into()
        }
        "pictures_student" => VitConfig {
            image_size: 64,
            patch_size: 8,
            mlp_ratio: 2.0,
            pool: Pool::Mean,
            class_token: false,
            ..vit(96, 4, 4)
        }
        .into(),
        _ => return None,
    })
}

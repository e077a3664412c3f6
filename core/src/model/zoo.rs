//! Names of models and the configurations they stand for.

use super::init::WeightInit;
use super::network::NetworkConfig;
use super::vit::{Pool, VitConfig};

/// Every name that [`named`] knows, with a line on what it is.
pub const MODELS: [(&str, &str); 2] = [
    ("digits_teacher", "6 blocks of width 64 on 28 x 28 grey images, patch 7, mean pooling"),
    ("digits_student", "3 blocks of width 64 on 28 x 28 grey images, patch 7, mean pooling"),
];

/// The configuration behind a model's name, or `None` for a name that is not in [`MODELS`].
pub fn named(name: &str) -> Option<NetworkConfig> {
    let digits = VitConfig {
        image_size: 28,
        patch_size: 7,
        channels: 1,
        classes: 10,
        width: 64,
        depth: 6,
        heads: 4,
        mlp_ratio: 2.0,
        pool: Pool::Mean,
        class_token: false,
        distillation_token: false,
        drop_path: 0.0,
        layer_norm_eps: 1e-6,
        init: WeightInit::Xavier,
    };
    match name {
        "digits_teacher" => Some(digits.into()),
        "digits_student" => Some(VitConfig { depth: 3, ..digits }.into()),
        _ => None,
    }
}

//! A vision transformer small enough for steps in a test.

use potstill_core::model::init::WeightInit;
use potstill_core::model::{Pool, VitConfig};

/// For drawn digits, its prediction read from the mean of 16 tokens.
pub fn tiny() -> VitConfig {
    VitConfig {
        image_size: 28,
        patch_size: 7,
        channels: 1,
        classes: 10,
        width: 16,
        depth: 2,
        heads: 2,
        mlp_ratio: 2.0,
        pool: Pool::Mean,
        class_token: false,
        distillation_token: false,
        init: WeightInit::Xavier,
        ..VitConfig::default()
    }
}

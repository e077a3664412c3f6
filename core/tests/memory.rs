//! A run's memory does not grow with its steps. Alone in its process: what a runtime counts is of all that use the device.
#![recursion_limit = "256"]

mod common;
#[path = "common/digits.rs"]
mod digits;

use common::devices;
use digits::{batch, values};
use potstill_core::model::{Network, NetworkConfig, Pool, Training, VitConfig};
use potstill_core::objective::{LogitDistillation, Objective};
use potstill_core::train::{AdamW, AdamWConfig, Learner, training_step};

/// Steps after which every buffer that a step needs has been made, and steps after which memory is looked at again.
const SETTLED: u64 = 30;
const STEPS: u64 = 150;

#[test]
fn a_distillation_holds_no_more_memory_after_many_steps_than_after_some() {
    let network = VitConfig {
        image_size: 28,
        patch_size: 14,
        channels: 1,
        classes: 10,
        width: 8,
        depth: 1,
        heads: 1,
        pool: Pool::Mean,
        class_token: false,
        ..VitConfig::default()
    };
    for (name, device) in devices() {
        if device.memory_pool_usage().is_none() {
            println!("skipped on {name}: its runtime counts no bytes");
            continue;
        }
        let teacher = NetworkConfig::Vit(network.clone()).init(1, &device).expect("a valid network");
        let student = network.init(2, &device.clone().autodiff()).expect("a valid network");
        let mut learner: Learner = Network::from(student).into();
        let mut optimiser = AdamW::new(AdamWConfig { clip_norm: Some(1.0), ..AdamWConfig::default() });
        let objective = Objective::Kd(LogitDistillation::default());
        let mut after = Vec::new();
        for step in 0..STEPS {
            let batch = batch(step, 8, &device);
            let teacher = Some(&teacher);
            let report;
            (learner, report) =
                training_step(learner, teacher, &mut optimiser, &objective, batch, &Training::default(), 1e-3);
            if step + 1 == SETTLED || step + 1 == STEPS {
                device.sync().expect("the device works");
                let usage = device.memory_pool_usage().expect("it told before");
                println!(
                    "{name}, after step {}: {} bytes in use, {} reserved",
                    step + 1,
                    usage.bytes_in_use,
                    usage.bytes_reserved
                );
                after.push([usage.bytes_in_use, usage.bytes_reserved]);
                // Last, since reading takes memory of its own.
                assert!(values(report.values)[0].is_finite());
            }
        }
        let [settled, last] = [after[0], after[1]];
        assert!(last.iter().zip(&settled).all(|(last, settled)| last <= settled), "{name}: {settled:?}, then {last:?}");
    }
}

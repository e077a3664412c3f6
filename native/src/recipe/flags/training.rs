//! How every network of a run is trained.

use potstill_core::method::Readout;
use potstill_core::train::{Decay, Schedule};
use toml::Value;

use super::{Flag, Given, words};
use crate::error::{Failure, Result};
use crate::recipe::layers::Layer;

const TRAINING: &str = "Training";

// A key of both networks.
macro_rules! both {
    ($key:literal) => {
        &[concat!("teacher.", $key), concat!("student.", $key)]
    };
}

pub(super) const FLAGS: &[Flag] = &[
    Flag::whole("batch-size", "B", "Samples a step").does(batch_size),
    Flag::whole("epochs", "E", "Passes over the training samples, for every network of the run").sets(both!("epochs")),
    Flag::number("lr", "LR", "Peak learning rate, for every network of the run").sets(both!("lr")),
    Flag::word("opt", "OPT", words::<Decay>, "The optimiser").sets(both!("optimiser.kind")).under(TRAINING),
    Flag::number("opt-eps", "EPS", "ε in the optimiser's denominator").sets(both!("optimiser.epsilon")).under(TRAINING),
    Flag::new("opt-betas", super::Kind::Numbers(2), "B1 B2", "Decays of the optimiser's moments")
        .does(betas)
        .under(TRAINING),
    Flag::number("weight-decay", "WD", "Weight decay").sets(both!("optimiser.weight_decay")).under(TRAINING),
    Flag::number("clip-grad", "NORM", "Largest norm of all gradients together")
        .sets(both!("optimiser.clip_norm"))
        .under(TRAINING),
    Flag::text("sched", "NAME", "The schedule: constant, step, cosine, deit or epoch-cosine")
        .does(sched)
        .under(TRAINING),
    Flag::whole("warmup-epochs", "E", "Epochs of warm-up")
        .sets(both!("schedule.warmup_epochs?"))
        .each_or(schedule)
        .under(TRAINING),
    Flag::number("warmup-lr", "LR", "The rate that a warm-up starts from")
        .sets(both!("schedule.warmup_lr?"))
        .each_or(schedule)
        .under(TRAINING),
    Flag::number("min-lr", "LR", "The rate that a schedule ends at")
        .sets(both!("schedule.min_lr?"))
        .each_or(schedule)
        .under(TRAINING),
    Flag::whole("decay-epochs", "E", "Epochs between two steps of the schedule step")
        .sets(both!("schedule.every?"))
        .each_or(schedule)
        .under(TRAINING),
    Flag::number("decay-rate", "F", "What a step multiplies the rate by")
        .sets(both!("schedule.factor?"))
        .each_or(schedule)
        .under(TRAINING),
    Flag::whole("lr-batch", "B", "The batch that --lr is meant for; the rate is in proportion to the batch")
        .sets(both!("lr_batch"))
        .under(TRAINING),
    Flag::whole("accumulate", "N", "Run each batch in this many parts and add up their gradients")
        .sets(both!("accumulate"))
        .under(TRAINING),
    Flag::switch("model-ema", "true", "Keep an exponential mean of the parameters beside them")
        .does(keep_mean)
        .under(TRAINING),
    Flag::number("model-ema-decay", "D", "The mean's decay at every step").sets(both!("optimiser.ema")).under(TRAINING),
    Flag::switch("no-model-ema", "true", "Keep none").does(keep_no_mean).under(TRAINING),
    Flag::switch("linear-probe", "head", "Train the last linear layers alone").sets(both!("trainable")).under(TRAINING),
    Flag::word("readout", "HOW", words::<Readout>, "How two heads make one prediction")
        .sets(both!("readout"))
        .under(TRAINING),
];

// The parts that a batch is run in keep their size: it is what memory holds, and what some losses compare within.
fn batch_size(layer: &mut Layer, given: &Given) -> Result<()> {
    let Some(batch) = given.parsed::<usize>("batch-size")? else { return Ok(()) };
    layer.rewrite(|recipe| {
        for network in [recipe.teacher.as_mut(), recipe.student.as_mut()].into_iter().flatten() {
            if network.accumulate > 1 {
                let part = network.batch_size.div_ceil(network.accumulate).max(1);
                network.accumulate = batch.div_ceil(part);
            }
            network.batch_size = batch;
        }
        Ok(())
    })
}

fn betas(layer: &mut Layer, given: &Given) -> Result<()> {
    let betas = given.all("opt-betas").unwrap_or_default();
    for (keys, beta) in [both!("optimiser.beta_1"), both!("optimiser.beta_2")].into_iter().zip(betas) {
        let beta: f64 = beta.parse().map_err(|_| Failure::usage(format!("--opt-betas are numbers, not {beta:?}")))?;
        for key in keys {
            layer.set(key, &Value::Float(beta))?;
        }
    }
    Ok(())
}

// DeiT's decay, where the recipe has none.
fn keep_mean(layer: &mut Layer, _: &Given) -> Result<()> {
    layer.rewrite(|recipe| {
        for network in [recipe.teacher.as_mut(), recipe.student.as_mut()].into_iter().flatten() {
            network.optimiser.ema.get_or_insert(0.99996);
        }
        Ok(())
    })
}

fn keep_no_mean(layer: &mut Layer, _: &Given) -> Result<()> {
    layer.rewrite(|recipe| {
        for network in [recipe.teacher.as_mut(), recipe.student.as_mut()].into_iter().flatten() {
            network.optimiser.ema = None;
        }
        Ok(())
    })
}

fn schedule(layer: &Layer) -> String {
    let named = layer.learner().and_then(|network| network.get("schedule")?.get("kind")?.as_str());
    let named = named.unwrap_or("of the recipe");
    format!("the schedule {named}; name another with --sched, for example --sched deit")
}

fn sched(layer: &mut Layer, given: &Given) -> Result<()> {
    let name = given.text("sched").unwrap_or_default();
    let mut table = toml::Table::new();
    table.insert("kind".into(), name.into());
    if name == "step" {
        table.insert("every".into(), 30.into());
        table.insert("factor".into(), 0.1.into());
    }
    let named: Schedule = Value::Table(table).try_into().map_err(|_| {
        Failure::usage(format!(
            "there is no schedule {name:?}; there are constant, step, cosine, deit and epoch-cosine"
        ))
    })?;
    layer.rewrite(|recipe| {
        for network in [recipe.teacher.as_mut(), recipe.student.as_mut()].into_iter().flatten() {
            // DeiT calls its own schedule cosine.
            let own = network.schedule.name();
            if name != own && (name, own) != ("cosine", "deit") {
                network.schedule = named;
            }
        }
        Ok(())
    })
}

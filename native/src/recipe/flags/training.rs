//! How every network of a run is trained.

use potstill_core::method::Readout;
use potstill_core::train::{Decay, Schedule};
use toml::Value;

use super::flag::Flag;
use crate::error::{Failure, Result};
use crate::given::{Given, words};
use crate::recipe::layer::Layer;

// A key of both networks.
macro_rules! both {
    ($key:literal) => {
        &[concat!("teacher.", $key), concat!("student.", $key)]
    };
}

pub(super) const COMMON: &[Flag] = &[
    Flag::whole("batch-size", "B", "Samples a step").does(batch_size),
    Flag::whole("epochs", "E", "Passes over the training samples, for every network of the run").sets(both!("epochs")),
    Flag::number("lr", "LR", "Peak learning rate, for every network of the run").sets(both!("lr")),
];

pub(super) const FLAGS: &[Flag] = &[
    Flag::word("opt", "OPT", words::<Decay>, "The optimiser").sets(both!("optimiser.kind")),
    Flag::number("opt-eps", "EPS", "ε in the optimiser's denominator").sets(both!("optimiser.epsilon")),
    Flag::new("opt-betas", super::Kind::Numbers(2), "B1 B2", "Decays of the optimiser's moments").does(betas),
    Flag::number("weight-decay", "WD", "Weight decay").sets(both!("optimiser.weight_decay")),
    Flag::number("clip-grad", "NORM", "Largest norm of all gradients together").sets(both!("optimiser.clip_norm")),
    Flag::text("sched", "NAME", "The schedule: constant, step, cosine, deit or epoch-cosine").does(sched),
    Flag::whole("warmup-epochs", "E", "Epochs of warm-up").sets(both!("schedule.warmup_epochs?")).each_or(schedule),
    Flag::number("warmup-lr", "LR", "The rate that a warm-up starts from")
        .sets(both!("schedule.warmup_lr?"))
        .each_or(schedule),
    Flag::number("min-lr", "LR", "The rate that a schedule ends at").sets(both!("schedule.min_lr?")).each_or(schedule),
    Flag::whole("decay-epochs", "E", "Epochs between two steps of the schedule step")
        .sets(both!("schedule.every?"))
        .each_or(schedule),
    Flag::number("decay-rate", "F", "What a step multiplies the rate by")
        .sets(both!("schedule.factor?"))
        .each_or(schedule),
    Flag::whole("lr-batch", "B", "The batch that --lr is meant for; the rate is in proportion to the batch")
        .sets(both!("lr_batch")),
    Flag::whole("accumulate", "N", "Run each batch in this many parts and add up their gradients")
        .sets(both!("accumulate")),
    Flag::switch("model-ema", "true", "Keep an exponential mean of the parameters beside them").does(keep_mean),
    Flag::number("model-ema-decay", "D", "The mean's decay at every step").sets(both!("optimiser.ema")),
    Flag::switch("no-model-ema", "true", "Keep none").does(keep_no_mean),
    Flag::switch(
        "keep-best",
        "best",
        "Keep the network with the best accuracy on the validation split, not the last one",
    )
    .sets(both!("keep")),
    Flag::whole("early-stop", "E", "End a training after E epochs without a better accuracy on the validation split")
        .sets(both!("early_stop")),
    Flag::switch("linear-probe", "head", "Train the last linear layers alone").sets(both!("trainable")),
    Flag::word("readout", "HOW", words::<Readout>, "How two heads make one prediction").sets(both!("readout")),
];

// The parts that a batch is run in keep their size: it is what memory holds, and what some losses compare within.
fn batch_size(layer: &mut Layer, given: &Given) -> Result<()> {
    let Some(batch) = given.parsed::<usize>("batch-size")? else { return Ok(()) };
    layer.each(|network| {
        if network.accumulate > 1 {
            let part = network.batch_size.div_ceil(network.accumulate).max(1);
            network.accumulate = batch.div_ceil(part);
        }
        network.batch_size = batch;
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
    layer.each(|network| {
        network.optimiser.ema.get_or_insert(0.99996);
    })
}

fn keep_no_mean(layer: &mut Layer, _: &Given) -> Result<()> {
    layer.each(|network| {
        network.optimiser.ema = None;
    })
}

fn schedule(layer: &Layer, key: &str) -> String {
    let name = layer.text(&[key.split('.').next().unwrap_or_default(), "schedule", "kind"]).unwrap_or_default();
    format!("the schedule {name}; name another with --sched, for example --sched deit")
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
    layer.each(|network| {
        // DeiT calls its own schedule cosine.
        let own = network.schedule.name();
        if name != own && (name, own) != ("cosine", "deit") {
            network.schedule = named;
        }
    })
}

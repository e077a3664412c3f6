//! AdamW (Loshchilov and Hutter, 2019) and Adam (Kingma and Ba, 2015) over one flat vector of all parameters.
//!
//! A network has hundreds of small tensors, and an update of each costs a dozen dispatches. Here the gradients are joined once.
//! The moments and the master copy of the parameters are three flat vectors. So a step costs the same few operations at any
//! depth. Parameters whose length keeps the next one aligned for a GPU's bindings come first. The network then reads its parts of
//! the flat vector in place, without copies. The global norm of the gradient is one sum, and is never read back. The state is two
//! vectors with a layout. A checkpoint stores them by parameter path.
//!
//! `g ← g · min(1, c / ‖g‖)`, `p ← p − lr λ p` for parameters that decay,
//! `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`, `p ← p − lr · m̂ / (√v̂ + ε)`.
//!
//! In Adam, the decay is part of the gradient instead: `g ← g + λ p`.
//!
//! As in DeiT, one-dimensional parameters (biases, norms) do not decay, nor do those that the network names, such as tokens and the
//! position embedding. With [`AdamWConfig::decay_all`] all parameters decay.
//!
//! The gradients of several parts of a batch can be gathered for one update. The optimiser can also keep an exponential mean of the
//! parameters, which starts from the initial values: `a ← d a + (1 − d) p` after every update.
//! Running statistics, which no gradient reaches, have such a mean too: timm averages every buffer.

use std::collections::{HashMap, HashSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, ExecutionError, Gradients, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::op::{self, AdamWNumbers};
use crate::weights::Path;

/// How weight decay enters an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Separately from the gradient.
    #[default]
    AdamW,
    /// As part of the gradient.
    Adam,
}

/// The optimiser's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// AdamW or Adam. They differ in the weight decay.
    pub kind: Decay,
    /// Decay β₁ of the first moment.
    pub beta_1: f64,
    /// Decay β₂ of the second moment.
    pub beta_2: f64,
    /// ε in the denominator.
    pub epsilon: f64,
    /// Weight decay λ.
    pub weight_decay: f64,
    /// Whether biases, norms, tokens and the position embedding decay too.
    pub decay_all: bool,
    /// Largest global norm c of the gradient; `None` for no clipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Decay d of the parameters' exponential mean; `None` for no mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            kind: Decay::default(),
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.05,
            decay_all: false,
            clip_norm: None,
            ema: None,
        }
    }
}

/// The optimiser with its state for one network.
pub struct AdamW {
    config: AdamWConfig,
    undecayed: &'static [&'static str],
    state: Option<State>,
}

/// The optimiser's state in a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamWRecord {
    /// Steps taken.
    pub steps: u64,
    /// The trained parameters by name, in the order of the flat vectors.
    pub moments: Vec<Moments>,
    /// The exponential means of running statistics, by name; none where no mean is kept.
    pub statistics: Vec<(String, Vec<f32>)>,
}

/// The moments of one parameter, row-major in Burn's layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The checkpoint's name of the parameter.
    pub path: String,
    /// First moments.
    pub first: Vec<f32>,
    /// Second moments.
    pub second: Vec<f32>,
    /// The parameter's exponential mean, if one is kept.
    pub average: Option<Vec<f32>>,
}

struct State {
    steps: u64,
    layout: Vec<Slot>,
    parameters: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    // The exponential mean of the parameters, if one is kept.
    average: Option<Tensor<1>>,
    // The same of running statistics.
    statistics: Option<Statistics>,
    // Gradients that wait for the rest of their batch.
    gathered: Option<Tensor<1>>,
    // 1 where decayed, 0 elsewhere
    decayed: Tensor<1>,
}

struct Slot {
    id: ParamId,
    path: String,
    length: usize,
}

// The exponential means of running statistics, end to end.
struct Statistics {
    layout: Vec<Slot>,
    average: Tensor<1>,
}

impl Statistics {
    // What a module has now; `None` where it has none.
    fn of<M: Module>(module: &M) -> Option<Self> {
        let mut found = Running::default();
        module.visit(&mut found);
        let layout = found.slots;
        (!layout.is_empty()).then(|| Self { layout, average: Tensor::cat(found.values, 0) })
    }

    fn update<M: Module>(&mut self, module: &M, decay: f64) {
        if let Some(now) = Self::of(module) {
            self.average = self.average.clone().mul_scalar(decay) + now.average.mul_scalar(1.0 - decay);
        }
    }
}

impl AdamW {
    /// An optimiser before its first step.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, undecayed: &[], state: None }
    }

    /// Excludes matrices whose names end like this from weight decay. A [`Network`](crate::model::Network) lists these names.
    pub fn leaving(self, undecayed: &'static [&'static str]) -> Self {
        Self { undecayed, ..self }
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.steps)
    }

    /// One update of `module` with `gradients`, at learning rate `lr`.
    ///
    /// The first step decides which parameters are trained. Parameters without a gradient in that step (frozen or unused) never
    /// change later and do not decay. A gradient that is missing later counts as zero.
    pub fn step<M: Module>(&mut self, module: M, gradients: Gradients, lr: f64) -> M {
        self.gather(&module, gradients, 1.0);
        self.update(module, lr)
    }

    /// Adds the gradients of a part of a batch, times the part's share of the batch, to the gradients of the next update.
    pub fn gather<M: Module>(&mut self, module: &M, gradients: Gradients, share: f64) {
        let gradients = GradientsParams::from_grads(gradients, module);
        let slots = self.state.is_none().then(Vec::new);
        let Self { config, undecayed, .. } = self;
        let mut join = Join { gradients, slots, undecayed, decay_all: config.decay_all, ..Join::default() };
        module.visit(&mut join);
        let averaged = self.config.ema.is_some();
        let start = || {
            let statistics = averaged.then(|| Statistics::of(module)).flatten();
            Some(State { statistics, ..State::start(join.slots.unwrap_or_default(), averaged)? })
        };
        let Some(state) = self.state.take().or_else(start) else { return };
        let state = self.state.insert(state);
        let gradient = state.join(join.flat_gradients);
        let gradient = if share == 1.0 { gradient } else { gradient.mul_scalar(share) };
        state.gathered = Some(match state.gathered.take() {
            Some(gathered) => gathered + gradient,
            None => gradient,
        });
    }

    /// Updates `module` at learning rate `lr` with the gathered gradients. Without any, `module` does not change.
    pub fn update<M: Module>(&mut self, module: M, lr: f64) -> M {
        let Some((state, gradient)) = self.state.as_mut().and_then(|state| {
            let gradient = state.gathered.take()?;
            Some((state, gradient))
        }) else {
            return module;
        };
        state.update(&self.config, gradient, lr);
        if let (Some(statistics), Some(decay)) = (&mut state.statistics, self.config.ema) {
            statistics.update(&module, decay);
        }
        module.map(&mut Split { pieces: pieces(&state.layout, &state.parameters), tracked: true })
    }

    /// `module` with the exponential mean in place of its parameters, or `None` if no mean is kept.
    pub fn averaged<M: Module>(&self, module: M) -> Option<M> {
        let state = self.state.as_ref()?;
        let average = state.average.as_ref()?;
        let mut all = pieces(&state.layout, average);
        all.extend(state.statistics.iter().flat_map(|own| pieces(&own.layout, &own.average)));
        Some(module.map(&mut Split { pieces: all, tracked: false }))
    }

    /// Reads the state back from the device, or `None` before the first step.
    ///
    /// # Errors
    /// The device's own error if it was lost or could not be read.
    pub async fn record(&self) -> Result<Option<AdamWRecord>, ExecutionError> {
        let Some(state) = &self.state else { return Ok(None) };
        let first: Vec<f32> = state.first.clone().into_data_async().await?.iter().collect();
        let second: Vec<f32> = state.second.clone().into_data_async().await?.iter().collect();
        let average: Option<Vec<f32>> = match &state.average {
            Some(average) => Some(average.clone().into_data_async().await?.iter().collect()),
            None => None,
        };
        let mut statistics = Vec::new();
        if let Some(Statistics { layout, average }) = &state.statistics {
            let values: Vec<f32> = average.clone().into_data_async().await?.iter().collect();
            let mut rest = values.as_slice();
            for slot in layout {
                let (own, tail) = rest.split_at(slot.length);
                statistics.push((slot.path.clone(), own.to_vec()));
                rest = tail;
            }
        }
        let mut start = 0;
        let moments = state
            .layout
            .iter()
            .map(|slot| {
                let range = start..start + slot.length;
                start = range.end;
                Moments {
                    path: slot.path.clone(),
                    first: first[range.clone()].to_vec(),
                    second: second[range.clone()].to_vec(),
                    average: average.as_ref().map(|average| average[range].to_vec()),
                }
            })
            .collect();
        Ok(Some(AdamWRecord { steps: state.steps, moments, statistics }))
    }

    /// The optimiser that continues from `record`, with the current parameters of `module`. `None` if the record has a parameter
    /// that the module does not have, or that has another size.
    pub fn resume<M: Module>(self, record: AdamWRecord, module: &M) -> Option<Self> {
        let Self { config, undecayed, .. } = self;
        if record.moments.is_empty() {
            return (record.steps == 0).then(|| Self::new(config).leaving(undecayed));
        }
        let mut recorded: HashMap<String, Moments> = record.moments.into_iter().map(|m| (m.path.clone(), m)).collect();
        let paths = Some(recorded.keys().cloned().collect());
        let slots = Some(Vec::new());
        let mut join = Join { recorded: paths, slots, undecayed, decay_all: config.decay_all, ..Join::default() };
        module.visit(&mut join);
        let mut state = State::start(join.slots.unwrap_or_default(), false)?;
        let (mut first, mut second, mut average) = (Vec::new(), Vec::new(), Vec::new());
        for slot in &state.layout {
            let moments = recorded.remove(&slot.path)?;
            if moments.first.len() != slot.length || moments.second.len() != slot.length {
                return None;
            }
            first.extend(moments.first);
            second.extend(moments.second);
            if config.ema.is_some() {
                average.extend(moments.average.filter(|average| average.len() == slot.length)?);
            }
        }
        if !recorded.is_empty() {
            return None;
        }
        let device = state.parameters.device();
        let [length] = state.parameters.dims();
        let vector = |mut values: Vec<f32>| {
            values.resize(length, 0.0);
            Tensor::from_data(TensorData::new(values, [length]), &device)
        };
        if config.ema.is_some() {
            state.statistics = Statistics::of(module);
        }
        // A record of before they were kept has none: their means go on from what they are now.
        if let Some(Statistics { layout, average }) =
            state.statistics.as_mut().filter(|_| !record.statistics.is_empty())
        {
            let mut kept: HashMap<String, Vec<f32>> = record.statistics.into_iter().collect();
            let own = layout.iter().map(|slot| kept.remove(&slot.path).filter(|own| own.len() == slot.length));
            let values = own.collect::<Option<Vec<_>>>()?.concat();
            let length = values.len();
            *average = Tensor::from_data(TensorData::new(values, [length]), &device);
        }
        state.steps = record.steps;
        state.first = vector(first);
        state.second = vector(second);
        state.average = config.ema.map(|_| vector(average));
        Some(Self { config, undecayed, state: Some(state) })
    }
}

impl State {
    // `None` if no parameter is trained.
    fn start(mut slots: Vec<(Slot, Tensor<1>, bool)>, averaged: bool) -> Option<Self> {
        let device = slots.first()?.1.device();
        slots.sort_by_key(|(slot, ..)| !slot.length.is_multiple_of(ALIGNMENT));
        let mut mask = Vec::new();
        for (slot, _, decayed) in &slots {
            mask.extend(std::iter::repeat_n(f32::from(u8::from(*decayed)), slot.length));
        }
        // Zeros at the end, so that the end of the last vector is aligned too.
        mask.resize(mask.len().next_multiple_of(ALIGNMENT), 0.0);
        let length = mask.len();
        let decayed = Tensor::from_data(TensorData::new(mask, [length]), &device);
        let (layout, values): (Vec<_>, Vec<_>) =
            slots.into_iter().map(|(slot, parameter, _)| (slot, Some(parameter))).unzip();
        let parameters = joined(&layout, values, length, &device);
        let zeros = parameters.zeros_like();
        let average = averaged.then(|| parameters.clone());
        Some(Self {
            steps: 0,
            layout,
            parameters,
            first: zeros.clone(),
            second: zeros,
            average,
            statistics: None,
            gathered: None,
            decayed,
        })
    }

    // The gradients in the order of the layout. A missing gradient is zero.
    fn join(&self, mut gradients: HashMap<ParamId, Tensor<1>>) -> Tensor<1> {
        let gradients = self.layout.iter().map(|slot| gradients.remove(&slot.id)).collect();
        joined(&self.layout, gradients, self.parameters.dims()[0], &self.parameters.device())
    }

    fn update(&mut self, config: &AdamWConfig, gradient: Tensor<1>, lr: f64) {
        self.steps += 1;
        let (decay, pull) = match config.kind {
            Decay::AdamW => (lr * config.weight_decay, 0.0),
            Decay::Adam => (0.0, config.weight_decay),
        };
        let correction = |beta: f64| 1.0 - libm::pow(beta, self.steps as f64);
        let numbers = AdamWNumbers {
            beta_1: config.beta_1 as f32,
            beta_2: config.beta_2 as f32,
            epsilon: config.epsilon as f32,
            step_size: (lr / correction(config.beta_1)) as f32,
            correction_2: correction(config.beta_2) as f32,
            decay: decay as f32,
            pull: pull as f32,
            limit: config.clip_norm.map_or(f32::INFINITY, |limit| limit as f32),
        };
        // Taken out so that nothing shares them, and a moment can be updated in place.
        let first = std::mem::replace(&mut self.first, gradient.clone());
        let second = std::mem::replace(&mut self.second, gradient.clone());
        let state = [self.parameters.clone(), first, second];
        [self.parameters, self.first, self.second] = op::adamw(state, gradient, self.decayed.clone(), numbers);
        if let (Some(decay), Some(average)) = (config.ema, self.average.take()) {
            self.average = Some(average.mul_scalar(decay) + self.parameters.clone().mul_scalar(1.0 - decay));
        }
    }
}

// Cuts a flat vector up by parameter.
fn pieces(layout: &[Slot], flat: &Tensor<1>) -> HashMap<ParamId, Tensor<1>> {
    let mut offset = 0;
    let piece = |slot: &Slot| {
        let piece = flat.clone().narrow(0, offset, slot.length);
        offset += slot.length;
        (slot.id, piece)
    };
    layout.iter().map(piece).collect()
}

/// Numbers in 256 bytes, the strictest alignment of bindings that WebGPU allows a device to require.
const ALIGNMENT: usize = 64;

// The vectors of the layout, one after the other. A missing vector, and the rest after the last one, are zeros.
fn joined(layout: &[Slot], vectors: Vec<Option<Tensor<1>>>, length: usize, device: &Device) -> Tensor<1> {
    let mut start = 0;
    let pieces = layout.iter().zip(vectors).filter_map(|(slot, vector)| {
        let place = start;
        start += slot.length;
        Some((place, vector?))
    });
    op::join(length, pieces.collect(), device)
}

// Collects gradients and, if there are `slots`, the trained parameters, in the order of the module's fields.
#[derive(Default)]
struct Join {
    gradients: GradientsParams,
    // When resuming: the paths of the trained parameters.
    recorded: Option<HashSet<String>>,
    undecayed: &'static [&'static str],
    decay_all: bool,
    path: Path,
    // Each with the parameter's values, and whether it decays.
    slots: Option<Vec<(Slot, Tensor<1>, bool)>>,
    flat_gradients: HashMap<ParamId, Tensor<1>>,
}

impl ModuleVisitor for Join {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.leave();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = self.gradients.remove::<D>(param.id).map(|gradient| gradient.flatten::<1>(0, D - 1));
        let found = gradient.is_some();
        self.flat_gradients.extend(gradient.map(|gradient| (param.id, gradient)));
        let Some(slots) = &mut self.slots else { return };
        let path = self.path.name();
        if self.recorded.as_ref().map_or(found, |recorded| recorded.contains(&path)) {
            let plain = D > 1 && !path.rsplit('.').next().is_some_and(|last| self.undecayed.contains(&last));
            let slot = Slot { id: param.id, path, length: param.lazy_shape().num_elements() };
            slots.push((slot, param.val().inner().flatten(0, D - 1), plain || self.decay_all));
        }
    }
}

// Collects running statistics.
#[derive(Default)]
struct Running {
    path: Path,
    slots: Vec<Slot>,
    values: Vec<Tensor<1>>,
}

impl ModuleVisitor for Running {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.leave();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.name();
        if path.ends_with(".running_mean") || path.ends_with(".running_var") {
            self.slots.push(Slot { id: param.id, path, length: param.lazy_shape().num_elements() });
            self.values.push(param.val().inner().flatten(0, D - 1));
        }
    }
}

// Gives each parameter its part of the flat vector.
struct Split {
    pieces: HashMap<ParamId, Tensor<1>>,
    // Whether the parameters continue to track gradients.
    tracked: bool,
}

impl ModuleMapper for Split {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(piece) = self.pieces.remove(&param.id) else { return param };
        param.map(|old| match self.tracked {
            true => Tensor::from_inner(piece.reshape(old.shape())).require_grad(),
            false => piece.reshape(old.shape()),
        })
    }
}

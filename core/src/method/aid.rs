//! Layers that are trained with a student and discarded afterwards. They map its features to a teacher's width.

use burn::module::{Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use crate::model::init::{Initialiser, WeightInit};
use crate::model::layers::project;
use crate::op;

/// A handle to one of the [`Aids`], which [`Ask::aid`](super::Ask::aid) returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AidTap(pub(super) usize);

/// One linear layer, or two with a GELU between them.
#[derive(Module, Debug)]
pub struct Aid {
    fc1: Linear,
    fc2: Option<Linear>,
}

impl Aid {
    /// A layer from the first width to the last, through the width between them if there is one. Its values are drawn from (seed,
    /// name).
    pub fn new(name: &str, widths: &[usize], seed: u64, device: &Device) -> Self {
        let draw = Initialiser::new(seed, device);
        let linear = |index: usize| {
            let (inputs, outputs) = (widths[index], widths[index + 1]);
            draw.linear(&format!("{name}.fc{}", index + 1), WeightInit::TruncatedNormal, inputs, outputs, 1)
        };
        Self { fc1: linear(0), fc2: (widths.len() > 2).then(|| linear(1)) }
    }

    /// Maps `[.., first width]` to `[.., last width]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let x = project(&self.fc1, x);
        match &self.fc2 {
            Some(last) => project(last, op::gelu(x)),
            None => x,
        }
    }
}

/// All layers that are trained with a student, by name.
///
/// Why by name and not as a list: a checkpoint then calls a parameter `projector.fc1.weight`, whatever other layers there are.
#[derive(Clone, Debug, Default)]
pub struct Aids(Vec<(String, Aid)>);

impl Aids {
    /// The layers that were requested, with values drawn from `seed`.
    pub(crate) fn new(asked: &[(String, Vec<usize>)], seed: u64, device: &Device) -> Self {
        let aid = |(name, widths): &(String, Vec<usize>)| (name.clone(), Aid::new(name, widths, seed, device));
        Self(asked.iter().map(aid).collect())
    }

    /// The given layers, in the order in which they are requested.
    pub fn of(aids: Vec<(String, Aid)>) -> Self {
        Self(aids)
    }

    /// Applies a layer to `x`.
    pub fn run<const D: usize>(&self, tap: AidTap, x: Tensor<D>) -> Tensor<D> {
        self.0[tap.0].1.forward(x)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn each(self, change: impl Fn(Aid) -> Aid) -> Self {
        Self(self.0.into_iter().map(|(name, aid)| (name, change(aid))).collect())
    }
}

/// Tells a visitor of a module's parameters that it enters or leaves an aid.
const CONTAINER: &str = "Aids";

impl Module for Aids {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.0.iter().fold(devices, |devices, (_, aid)| aid.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        self.each(|aid| aid.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|aid| aid.to_device(device))
    }

    fn train(self) -> Self {
        self.each(Module::train)
    }

    fn valid(&self) -> Self {
        self.clone().each(|aid| aid.valid())
    }

    fn materialize(self) -> Self {
        self.each(Module::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (name, aid) in &self.0 {
            visitor.enter_module(name, CONTAINER);
            aid.visit(visitor);
            visitor.exit_module(name, CONTAINER);
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let map = |(name, aid): (String, Aid)| {
            mapper.enter_module(&name, CONTAINER);
            let aid = aid.map(mapper);
            mapper.exit_module(&name, CONTAINER);
            (name, aid)
        };
        Self(self.0.into_iter().map(map).collect())
    }
}

impl ModuleDisplayDefault for Aids {
    fn content(&self, content: Content) -> Option<Content> {
        self.0.iter().fold(content, |content, (name, aid)| content.add(name, aid)).optional()
    }
}

impl ModuleDisplay for Aids {}

//! What a forward pass hands to objectives and read-outs, and how they ask for it.
//!
//! Who asks says so through [`Taps`] before the pass and gets a handle for each thing asked for; with the handle the thing
//! is read from the [`Trace`] after the pass. So nobody counts whose tokens stand where, and nothing else is kept.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::tensor::{FloatDType, Tensor};

use crate::op::{QueriesAndKeys, attention_map};

/// The tokens after a block, as asked for: see [`Taps::tokens`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokensTap(usize);

/// The queries and keys of a block, as asked for: see [`Taps::queries_and_keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueriesAndKeysTap(usize);

/// The attention map of a block, as asked for: see [`Taps::attention_map`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionMapTap(usize);

/// The features that the class head reads, as asked for: see [`Taps::features`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeaturesTap(());

/// What is asked of a forward pass beside logits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taps {
    tokens: Vec<usize>,
    queries_and_keys: Vec<usize>,
    attention_maps: Vec<usize>,
    features: bool,
}

impl Taps {
    /// Asks for the tokens after `block`, from 0.
    pub fn tokens(&mut self, block: usize) -> TokensTap {
        TokensTap(place(&mut self.tokens, block))
    }

    /// Asks for the queries and keys of `block`, from 0.
    pub fn queries_and_keys(&mut self, block: usize) -> QueriesAndKeysTap {
        QueriesAndKeysTap(place(&mut self.queries_and_keys, block))
    }

    /// Asks for the head-averaged attention of `block`, from 0. No gradient flows through it.
    pub fn attention_map(&mut self, block: usize) -> AttentionMapTap {
        AttentionMapTap(place(&mut self.attention_maps, block))
    }

    /// Asks for what the class head reads.
    pub fn features(&mut self) -> FeaturesTap {
        self.features = true;
        FeaturesTap(())
    }

    /// Whether logits alone are asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

// The place of `block` in the list, which grows where it is new.
fn place(blocks: &mut Vec<usize>, block: usize) -> usize {
    blocks.iter().position(|known| *known == block).unwrap_or_else(|| {
        blocks.push(block);
        blocks.len() - 1
    })
}

/// What a forward pass hands to objectives and read-outs.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Class logits `[B, classes]`.
    pub logits: Tensor<2>,
    /// Logits of the distillation head `[B, classes]`, where there is one.
    pub distillation_logits: Option<Tensor<2>>,
    /// How many of the tokens are no patches; they come first.
    pub prefix_tokens: usize,
    /// In a training pass: the running statistics after this batch, for [`Network::with_statistics`].
    ///
    /// [`Network::with_statistics`]: super::Network::with_statistics
    pub statistics: Statistics,
    tokens: Vec<Tensor<3>>,
    queries_and_keys: Vec<QueriesAndKeys>,
    attention_maps: Vec<Tensor<3>>,
    features: Option<Tensor<2>>,
}

/// New values of a network's running statistics, after one training pass. Empty where nothing is normalised by batch.
#[derive(Clone, Debug, Default)]
pub struct Statistics(pub(super) Vec<(ParamId, Tensor<1>)>);

impl Trace {
    /// A trace of class logits `[B, classes]` alone, such as those computed before.
    pub fn of_logits(logits: Tensor<2>) -> Self {
        Self {
            logits,
            distillation_logits: None,
            prefix_tokens: 0,
            statistics: Statistics::default(),
            tokens: Vec::new(),
            queries_and_keys: Vec::new(),
            attention_maps: Vec::new(),
            features: None,
        }
    }

    /// The same with logits `[B, classes]` of a distillation head.
    pub fn with_distillation_logits(mut self, logits: Tensor<2>) -> Self {
        self.distillation_logits = Some(logits);
        self
    }

    /// The same with the running statistics that a training pass leaves.
    #[cfg(feature = "all-models")]
    pub(super) fn with_statistics(mut self, statistics: Statistics) -> Self {
        self.statistics = statistics;
        self
    }

    /// The residual stream `[B, N, D]` after the block that was asked for.
    ///
    /// # Panics
    /// Like all that takes a tap: if the trace is of a pass that was not asked.
    pub fn tokens(&self, tap: TokensTap) -> Tensor<3> {
        self.tokens[tap.0].clone()
    }

    /// What attention was computed from in the block that was asked for, packed `[B, N, 3, H, D]`.
    pub fn queries_and_keys(&self, tap: QueriesAndKeysTap) -> QueriesAndKeys {
        self.queries_and_keys[tap.0].clone()
    }

    /// The [`attention_map()`] `[B, N, N]` of the block that was asked for.
    pub fn attention_map(&self, tap: AttentionMapTap) -> Tensor<3> {
        self.attention_maps[tap.0].clone()
    }

    /// What the class head reads, `[B, D]`: the class token after the last normalisation, the mean of the tokens where there
    /// is none, the pooled features of a convolutional network.
    pub fn features(&self, FeaturesTap(()): FeaturesTap) -> Tensor<2> {
        self.features.clone().expect("a pass that was asked for features")
    }

    // The same in `f32`.
    pub(super) fn single(self) -> Self {
        let cast = |tensors: Vec<Tensor<3>>| tensors.into_iter().map(|tensor| tensor.cast(FloatDType::F32)).collect();
        Self {
            logits: self.logits.cast(FloatDType::F32),
            distillation_logits: self.distillation_logits.map(|logits| logits.cast(FloatDType::F32)),
            tokens: cast(self.tokens),
            queries_and_keys: self
                .queries_and_keys
                .into_iter()
                .map(|QueriesAndKeys { packed, lse }| QueriesAndKeys { packed: packed.cast(FloatDType::F32), lse })
                .collect(),
            features: self.features.map(|features| features.cast(FloatDType::F32)),
            ..self
        }
    }
}

/// Keeps what taps ask for while a network's blocks run, and makes the [`Trace`] of it. A module of one's own that is to be
/// distilled uses it as the networks here do.
pub struct Recorder<'a> {
    taps: &'a Taps,
    // By block, of those that are asked for.
    tokens: HashMap<usize, Tensor<3>>,
    queries_and_keys: HashMap<usize, QueriesAndKeys>,
    attention_maps: HashMap<usize, Tensor<3>>,
    features: Option<Tensor<2>>,
}

impl<'a> Recorder<'a> {
    /// A recorder of a pass that `taps` ask something of.
    pub fn new(taps: &'a Taps) -> Self {
        let (tokens, queries_and_keys, attention_maps, features) = Default::default();
        Self { taps, tokens, queries_and_keys, attention_maps, features }
    }

    /// Whether anything of a block's attention is asked for.
    pub fn wants_attention(&self, block: usize) -> bool {
        [&self.taps.queries_and_keys, &self.taps.attention_maps].into_iter().any(|of| of.contains(&block))
    }

    /// Keeps what is asked for of a block's attention, a map without what it follows from.
    pub fn attention(&mut self, block: usize, attended: QueriesAndKeys) {
        if self.taps.queries_and_keys.contains(&block) {
            self.queries_and_keys.insert(block, attended.clone());
        }
        if self.taps.attention_maps.contains(&block) {
            self.attention_maps.insert(block, attention_map(attended));
        }
    }

    /// Keeps the tokens `[B, N, D]` after a block, if they are asked for.
    pub fn tokens(&mut self, block: usize, tokens: &Tensor<3>) {
        if self.taps.tokens.contains(&block) {
            self.tokens.insert(block, tokens.clone());
        }
    }

    /// Keeps what the class head reads, `[B, D]`, if it is asked for.
    pub fn features(&mut self, features: impl FnOnce() -> Tensor<2>) {
        self.features = self.taps.features.then(features);
    }

    /// The trace with class logits `[B, classes]`, those of a distillation head where there is one, and how many of the
    /// tokens are no patches.
    ///
    /// # Panics
    /// If a tap names a block that did not run.
    pub fn trace(self, logits: Tensor<2>, distillation_logits: Option<Tensor<2>>, prefix_tokens: usize) -> Trace {
        Trace {
            distillation_logits,
            prefix_tokens,
            tokens: named(&self.taps.tokens, &self.tokens),
            queries_and_keys: named(&self.taps.queries_and_keys, &self.queries_and_keys),
            attention_maps: named(&self.taps.attention_maps, &self.attention_maps),
            features: self.features,
            ..Trace::of_logits(logits)
        }
    }
}

/// Where a block's attention leaves what is asked for.
pub(super) struct Tap<'l, 'a> {
    recorder: &'l mut Recorder<'a>,
    block: usize,
}

impl<'l, 'a> Tap<'l, 'a> {
    /// Of a block, if anything of its attention is asked for.
    pub(super) fn of(recorder: &'l mut Recorder<'a>, block: usize) -> Option<Self> {
        recorder.wants_attention(block).then_some(Self { recorder, block })
    }

    /// Keeps what is asked for.
    pub(super) fn leave(self, attended: QueriesAndKeys) {
        self.recorder.attention(self.block, attended);
    }
}

// What each tap named, in the order of the taps.
fn named<T: Clone>(taps: &[usize], left: &HashMap<usize, T>) -> Vec<T> {
    let block = |index| left.get(index).cloned().unwrap_or_else(|| panic!("there is no block {index} to tap"));
    taps.iter().map(block).collect()
}

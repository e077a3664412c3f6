//! The result of a forward pass, and how its parts are requested.
//!
//! Before the pass, a term requests what it needs from [`Taps`] and gets a handle for each request. After the pass, the handle
//! reads the result from the [`Trace`]. So no term has to compute positions in a list, and nothing is stored that was not
//! requested.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::tensor::{FloatDType, Tensor};

use crate::op::{QueriesAndKeys, attention_map};

/// A handle to the tokens after a block, from [`Taps::tokens`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokensTap(usize);

/// A handle to the queries and keys of a block, from [`Taps::queries_and_keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueriesAndKeysTap(usize);

/// A handle to the attention map of a block, from [`Taps::attention_map`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionMapTap(usize);

/// A handle to the features that the class head reads, from [`Taps::features`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeaturesTap(());

/// Requests to a forward pass, besides the logits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taps {
    tokens: Vec<usize>,
    queries_and_keys: Vec<usize>,
    attention_maps: Vec<usize>,
    features: bool,
}

impl Taps {
    /// Requests the tokens after `block`, from 0.
    pub fn tokens(&mut self, block: usize) -> TokensTap {
        TokensTap(place(&mut self.tokens, block))
    }

    /// Requests the queries and keys of `block`, from 0.
    pub fn queries_and_keys(&mut self, block: usize) -> QueriesAndKeysTap {
        QueriesAndKeysTap(place(&mut self.queries_and_keys, block))
    }

    /// Requests the attention of `block`, from 0, averaged over the heads. No gradient flows through it.
    pub fn attention_map(&mut self, block: usize) -> AttentionMapTap {
        AttentionMapTap(place(&mut self.attention_maps, block))
    }

    /// Requests the features that the class head reads.
    pub fn features(&mut self) -> FeaturesTap {
        self.features = true;
        FeaturesTap(())
    }

    /// Whether nothing is requested besides the logits.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

// The index of `block` in the list. A new block is added.
fn place(blocks: &mut Vec<usize>, block: usize) -> usize {
    blocks.iter().position(|known| *known == block).unwrap_or_else(|| {
        blocks.push(block);
        blocks.len() - 1
    })
}

/// The result of a forward pass, for objectives and read-outs.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Class logits `[B, classes]`.
    pub logits: Tensor<2>,
    /// Logits of the distillation head `[B, classes]`, if there is one.
    pub distillation_logits: Option<Tensor<2>>,
    /// The number of prefix tokens, which are not patches. They come first.
    pub prefix_tokens: usize,
    /// The running statistics after this batch, in a training pass, for [`Network::with_statistics`].
    ///
    /// [`Network::with_statistics`]: super::Network::with_statistics
    pub statistics: Statistics,
    tokens: Vec<Tensor<3>>,
    queries_and_keys: Vec<QueriesAndKeys>,
    attention_maps: Vec<Tensor<3>>,
    features: Option<Tensor<2>>,
}

/// New values of a network's running statistics, after one training pass. Empty if the network has no batch normalisation.
#[derive(Clone, Debug, Default)]
pub struct Statistics(pub(super) Vec<(ParamId, Tensor<1>)>);

impl Trace {
    /// A trace with only class logits `[B, classes]`, for example logits that were computed earlier.
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

    /// Adds logits `[B, classes]` of a distillation head.
    pub fn with_distillation_logits(mut self, logits: Tensor<2>) -> Self {
        self.distillation_logits = Some(logits);
        self
    }

    /// Adds the running statistics of a training pass.
    #[cfg(feature = "all-models")]
    pub(super) fn with_statistics(mut self, statistics: Statistics) -> Self {
        self.statistics = statistics;
        self
    }

    /// The residual stream `[B, N, D]` after the requested block.
    ///
    /// # Panics
    /// If the pass did not get this request. This holds for all functions that take a tap.
    pub fn tokens(&self, tap: TokensTap) -> Tensor<3> {
        self.tokens[tap.0].clone()
    }

    /// The inputs of attention in the requested block, packed `[B, N, 3, H, D]`.
    pub fn queries_and_keys(&self, tap: QueriesAndKeysTap) -> QueriesAndKeys {
        self.queries_and_keys[tap.0].clone()
    }

    /// The [`attention_map()`] `[B, N, N]` of the requested block.
    pub fn attention_map(&self, tap: AttentionMapTap) -> Tensor<3> {
        self.attention_maps[tap.0].clone()
    }

    /// The features that the class head reads, `[B, D]`: the class token after the last normalisation, or the mean of the tokens
    /// if there is no class token, or the pooled features of a convolutional network.
    pub fn features(&self, FeaturesTap(()): FeaturesTap) -> Tensor<2> {
        self.features.clone().expect("a pass that was asked for features")
    }

    // The trace in `f32`.
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

/// Stores what taps request while the blocks of a network run, and makes the [`Trace`]. A module of your own uses it in the same
/// way as the networks here.
pub struct Recorder<'a> {
    taps: &'a Taps,
    // By requested block.
    tokens: HashMap<usize, Tensor<3>>,
    queries_and_keys: HashMap<usize, QueriesAndKeys>,
    attention_maps: HashMap<usize, Tensor<3>>,
    features: Option<Tensor<2>>,
}

impl<'a> Recorder<'a> {
    /// A recorder for a pass with these requests.
    pub fn new(taps: &'a Taps) -> Self {
        let (tokens, queries_and_keys, attention_maps, features) = Default::default();
        Self { taps, tokens, queries_and_keys, attention_maps, features }
    }

    /// Whether something of a block's attention is requested.
    pub fn wants_attention(&self, block: usize) -> bool {
        [&self.taps.queries_and_keys, &self.taps.attention_maps].into_iter().any(|of| of.contains(&block))
    }

    /// Stores what is requested of a block's attention. For a map, the inputs are not kept.
    pub fn attention(&mut self, block: usize, attended: QueriesAndKeys) {
        if self.taps.queries_and_keys.contains(&block) {
            self.queries_and_keys.insert(block, attended.clone());
        }
        if self.taps.attention_maps.contains(&block) {
            self.attention_maps.insert(block, attention_map(attended));
        }
    }

    /// Stores the tokens `[B, N, D]` after a block, if they are requested.
    pub fn tokens(&mut self, block: usize, tokens: &Tensor<3>) {
        if self.taps.tokens.contains(&block) {
            self.tokens.insert(block, tokens.clone());
        }
    }

    /// Stores the features that the class head reads, `[B, D]`, if they are requested.
    pub fn features(&mut self, features: impl FnOnce() -> Tensor<2>) {
        self.features = self.taps.features.then(features);
    }

    /// The trace with class logits `[B, classes]`, the logits of a distillation head if there is one, and the number of prefix
    /// tokens.
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

/// The place where a block's attention stores what is requested.
pub(super) struct Tap<'l, 'a> {
    recorder: &'l mut Recorder<'a>,
    block: usize,
}

impl<'l, 'a> Tap<'l, 'a> {
    /// The place for a block, if something of its attention is requested.
    pub(super) fn of(recorder: &'l mut Recorder<'a>, block: usize) -> Option<Self> {
        recorder.wants_attention(block).then_some(Self { recorder, block })
    }

    /// Stores what is requested.
    pub(super) fn leave(self, attended: QueriesAndKeys) {
        self.recorder.attention(self.block, attended);
    }
}

// The requested results, in the order of the taps.
fn named<T: Clone>(taps: &[usize], left: &HashMap<usize, T>) -> Vec<T> {
    let block = |index| left.get(index).cloned().unwrap_or_else(|| panic!("there is no block {index} to tap"));
    taps.iter().map(block).collect()
}

//! RegNet (Radosavovic et al., 2020): four stages of bottleneck blocks with grouped convolutions, with or without
//! squeeze-and-excitation (RegNetY, RegNetX), with timm's parameter paths.
//!
//! A block consists of a 1 x 1 convolution, a grouped 3 x 3 convolution, a gate, and a 1 x 1 convolution. Each convolution is
//! followed by batch normalisation, and the sum with the shortcut by a ReLU. The first block of a stage halves the image.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::check::{ConfigError, divides, range, real};
use super::conv::{Collected, ConvNorm, ConvSize, Head, SqueezeExcitation, conv_norm_parameters, mean_over_image};
use super::init::Initialiser;
use super::layers::project;
use super::shape::NetworkShape;
use super::trace::{Recorder, Statistics, Taps, Trace};
use super::training::Training;

/// The sizes of a RegNet. The default is timm's `regnetx_004`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegNetConfig {
    /// Side of the square input, in pixels. Any side from 32 on works with the same parameters.
    pub image_size: usize,
    /// Input channels.
    pub channels: usize,
    /// Outputs of the head.
    pub classes: usize,
    /// Channels of the stem.
    pub stem_width: usize,
    /// Channels of each stage.
    pub widths: [usize; 4],
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Channels of a group. The number divides every width.
    pub group_width: usize,
    /// Channels in the middle of the gate, relative to those of the block's input; 0 for no gate.
    pub gate_ratio: f64,
    /// Whether each residual branch starts as zero, as in timm.
    pub zero_init_last: bool,
}

impl Default for RegNetConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            channels: 3,
            classes: 1000,
            stem_width: 32,
            widths: [32, 64, 160, 384],
            depths: [1, 2, 7, 12],
            group_width: 16,
            gate_ratio: 0.0,
            zero_init_last: true,
        }
    }
}

/// The sizes of one block. They determine its layers and the number of its parameters.
#[derive(Clone, Copy)]
struct BlockSize {
    inputs: usize,
    outputs: usize,
    stride: usize,
    groups: usize,
    // Channels in the middle of the gate; 0 for no gate.
    gate: usize,
}

impl BlockSize {
    fn convolutions(self) -> [ConvSize; 3] {
        let Self { inputs, outputs, stride, groups, .. } = self;
        [
            ConvSize::pointwise(inputs, outputs),
            ConvSize { inputs: outputs, outputs, kernel: 3, stride, groups },
            ConvSize::pointwise(outputs, outputs),
        ]
    }

    fn shortcut(self) -> Option<ConvSize> {
        let Self { inputs, outputs, stride, .. } = self;
        (inputs != outputs || stride != 1).then_some(ConvSize { inputs, outputs, kernel: 1, stride, groups: 1 })
    }

    fn parameters(self) -> u64 {
        let (channels, gate) = (self.outputs as u64, self.gate as u64);
        let gate = if gate == 0 { 0 } else { 2 * channels * gate + channels + gate };
        self.convolutions().into_iter().chain(self.shortcut()).map(conv_norm_parameters).sum::<u64>() + gate
    }
}

impl RegNetConfig {
    /// The smallest side of an image that it reads completely.
    pub fn least_side(&self) -> usize {
        32
    }

    /// A small network of the same kind, for a short test run: one block in each stage, for images of `side`.
    pub fn reduced(&self, _depth: usize, side: usize) -> Self {
        let (image_size, depths, stem_width, group_width) = (side, [1; 4], 8, 8);
        Self { image_size, depths, stem_width, group_width, widths: [8, 16, 16, 32], ..self.clone() }
    }

    /// Checks every number before anything is allocated.
    ///
    /// # Errors
    /// [`ConfigError`] naming the number.
    pub fn validate(&self) -> Result<(), ConfigError> {
        range("image_size", self.image_size, 4096)?;
        range("channels", self.channels, 64)?;
        range("classes", self.classes, 1_000_000)?;
        range("stem_width", self.stem_width, 4096)?;
        range("group_width", self.group_width, 4096)?;
        real("gate_ratio", self.gate_ratio, 0.0, 4.0)?;
        for (width, depth) in self.widths.into_iter().zip(self.depths) {
            range("widths", width, 16_384)?;
            range("depths", depth, 256)?;
            // A group is not wider than its stage.
            divides("widths", width, "group_width", self.group_width.min(width))?;
        }
        real("the number of parameters", self.parameters() as f64, 1.0, 4e9)
    }

    fn blocks(&self, stage: usize) -> impl Iterator<Item = BlockSize> {
        let before = if stage == 0 { self.stem_width } else { self.widths[stage - 1] };
        let outputs = self.widths[stage];
        let (group_width, gate_ratio) = (self.group_width.min(outputs), self.gate_ratio);
        (0..self.depths[stage]).map(move |index| {
            let (inputs, stride) = if index == 0 { (before, 2) } else { (outputs, 1) };
            // Python rounds halves to the even number.
            let gate = libm::rint(inputs as f64 * gate_ratio) as usize;
            let gate = if gate_ratio > 0.0 { gate.max(1) } else { 0 };
            BlockSize { inputs, outputs, stride, groups: outputs / group_width, gate }
        })
    }

    fn stem(&self) -> ConvSize {
        ConvSize { inputs: self.channels, outputs: self.stem_width, kernel: 3, stride: 2, groups: 1 }
    }

    /// Trainable values of the network, without building it.
    pub fn parameters(&self) -> u64 {
        let blocks: u64 = (0..4).flat_map(|stage| self.blocks(stage)).map(BlockSize::parameters).sum();
        conv_norm_parameters(self.stem()) + blocks + (self.widths[3] as u64 + 1) * self.classes as u64
    }

    /// The sizes by which it is compared with another network. It has no tokens.
    pub fn shape(&self) -> NetworkShape {
        NetworkShape::without_tokens(self.classes)
    }

    /// Builds the network on `device` with values drawn from `seed`.
    ///
    /// # Errors
    /// Whatever [`RegNetConfig::validate`] finds.
    pub fn init(&self, seed: u64, device: &Device) -> Result<RegNet, ConfigError> {
        self.validate()?;
        Ok(self.build(&Initialiser::new(seed, device)))
    }

    /// Builds a validated network with values from `draw`.
    pub(super) fn build(&self, draw: &Initialiser) -> RegNet {
        let stage = |index: usize| {
            let block = |(number, size)| {
                Block::new(&format!("s{}.b{}", index + 1, number + 1), size, self.zero_init_last, draw)
            };
            Stage { b: self.blocks(index).enumerate().map(block).collect() }
        };
        let fc = Linear {
            weight: draw.normal("head.fc.weight", [self.widths[3], self.classes], 0.01),
            bias: Some(draw.constant([self.classes], 0.0)),
        };
        RegNet {
            stem: ConvNorm::new("stem", self.stem(), 1, 1.0, draw),
            s1: stage(0),
            s2: stage(1),
            s3: stage(2),
            s4: stage(3),
            head: Head { fc },
        }
    }
}

/// The network. See the module's documentation.
#[derive(Module, Debug)]
pub struct RegNet {
    stem: ConvNorm,
    s1: Stage,
    s2: Stage,
    s3: Stage,
    s4: Stage,
    head: Head,
}

/// Blocks, which timm counts from 1: `b1`, `b2`, ...
#[derive(Module, Debug)]
struct Stage {
    b: Vec<Block>,
}

#[derive(Module, Debug)]
struct Block {
    conv1: ConvNorm,
    conv2: ConvNorm,
    se: Option<SqueezeExcitation>,
    conv3: ConvNorm,
    downsample: Option<ConvNorm>,
}

impl Block {
    fn new(path: &str, size: BlockSize, zero_init_last: bool, draw: &Initialiser) -> Self {
        let path = |part: &str| format!("{path}.{part}");
        // In timm, the fan out is the outputs of a group.
        let conv = |part: &str, size: ConvSize, gain| ConvNorm::new(&path(part), size, size.groups, gain, draw);
        let [first, second, third] = size.convolutions();
        Self {
            conv1: conv("conv1", first, 1.0),
            conv2: conv("conv2", second, 1.0),
            se: (size.gate > 0).then(|| SqueezeExcitation::new(&path("se"), size.outputs, size.gate, draw)),
            conv3: conv("conv3", third, if zero_init_last { 0.0 } else { 1.0 }),
            downsample: size.shortcut().map(|shortcut| conv("downsample", shortcut, 1.0)),
        }
    }

    fn forward(&self, x: Tensor<4>, mut collected: Collected) -> Tensor<4> {
        let y = relu(self.conv1.forward(x.clone(), collected.as_deref_mut()));
        let y = relu(self.conv2.forward(y, collected.as_deref_mut()));
        let y = match &self.se {
            Some(gate) => gate.forward(y),
            None => y,
        };
        let y = self.conv3.forward(y, collected.as_deref_mut());
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.forward(x, collected),
            None => x,
        };
        relu(y + shortcut)
    }
}

impl RegNet {
    /// The names of the linear layers that give logits, the class head first.
    pub const HEADS: &[&str] = &["head.fc"];
    /// The last parts of the names of the matrices without weight decay.
    pub const UNDECAYED: &[&str] = &[];

    /// The type of its parameters.
    pub(super) fn dtype(&self) -> DType {
        self.head.fc.weight.val().dtype()
    }

    /// Its sizes.
    pub fn shape(&self) -> NetworkShape {
        NetworkShape::without_tokens(self.head.fc.weight.dims()[1])
    }

    /// Runs the network on `images` `[B, C, S, S]`; `training` is `None` outside training. Stores what `taps` request.
    ///
    /// # Panics
    /// If a tap requests tokens, which a convolutional network does not have.
    pub fn forward_with(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace {
        let mut statistics = Statistics::default();
        let mut collected: Collected = training.map(|_| &mut statistics);
        let mut x = relu(self.stem.forward(images, collected.as_deref_mut()));
        for block in [&self.s1, &self.s2, &self.s3, &self.s4].into_iter().flat_map(|stage| &stage.b) {
            x = block.forward(x, collected.as_deref_mut());
        }
        let features = mean_over_image(x);
        let mut recorder = Recorder::new(taps);
        recorder.features(|| features.clone());
        recorder.trace(project(&self.head.fc, features), None, 0).with_statistics(statistics)
    }

    /// The elements and branches that a training pass of this network drops: nothing.
    pub fn draw_training(&self, _: u64, _: u64, _: usize, _: &Device) -> Training {
        Training::default()
    }
}

//! ResNet (He et al., 2016), version 1.5, with the parameter paths of timm and torchvision: a 7 x 7 stem, a 3 x 3 maximum, and
//! four stages of residual blocks. In a bottleneck, the 3 x 3 convolution has the stride.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::check::{ConfigError, range, real};
use super::conv::{BatchNorm, Collected, Conv, ConvSize, conv_norm_parameters, mean_over_image};
use super::init::{Initialiser, WeightInit};
use super::layers::project;
use super::shape::NetworkShape;
use super::trace::{Recorder, Statistics, Taps, Trace};
use super::training::Training;

/// The sizes of a ResNet. The default is `resnet18`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetConfig {
    /// Side of the square input, in pixels. Any side from 32 on works with the same parameters.
    pub image_size: usize,
    /// Input channels.
    pub channels: usize,
    /// Outputs of the head.
    pub classes: usize,
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Channels of the stem and of the first stage's 3 x 3 convolutions. They double with each stage.
    pub width: usize,
    /// Whether a block is a bottleneck: 1 x 1, 3 x 3, and 1 x 1 with four times the channels. Otherwise it is 3 x 3, 3 x 3.
    pub bottleneck: bool,
    /// Whether each residual branch starts as zero, as in timm. In torchvision it does not.
    pub zero_init_last: bool,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            channels: 3,
            classes: 1000,
            depths: [2, 2, 2, 2],
            width: 64,
            bottleneck: false,
            zero_init_last: true,
        }
    }
}

/// The sizes of one block. They determine its layers and the number of its parameters.
struct BlockSize {
    convolutions: Vec<ConvSize>,
    shortcut: Option<ConvSize>,
}

impl ResNetConfig {
    /// The smallest side of an image that it reads completely.
    pub fn least_side(&self) -> usize {
        32
    }

    /// A small network of the same kind, for a short test run: one block in each stage, for images of `side`.
    pub fn reduced(&self, _depth: usize, side: usize) -> Self {
        Self { image_size: side, depths: [1; 4], width: 8, ..self.clone() }
    }

    /// Checks every number before anything is allocated.
    ///
    /// # Errors
    /// [`ConfigError`] naming the number.
    pub fn validate(&self) -> Result<(), ConfigError> {
        range("image_size", self.image_size, 4096)?;
        range("channels", self.channels, 64)?;
        range("classes", self.classes, 1_000_000)?;
        range("width", self.width, 1024)?;
        for depth in self.depths {
            range("depths", depth, 256)?;
        }
        real("the number of parameters", self.parameters() as f64, 1.0, 4e9)
    }

    // Channels after a stage, relative to those of its 3 x 3 convolutions.
    fn expansion(&self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }

    // Channels that the head reads.
    fn features(&self) -> usize {
        8 * self.width * self.expansion()
    }

    fn blocks(&self, stage: usize) -> impl Iterator<Item = BlockSize> {
        let middle = self.width << stage;
        let (expansion, bottleneck) = (self.expansion(), self.bottleneck);
        let outputs = middle * expansion;
        let before = if stage == 0 { self.width } else { outputs / 2 };
        (0..self.depths[stage]).map(move |index| {
            let inputs = if index == 0 { before } else { outputs };
            let stride = if index == 0 && stage > 0 { 2 } else { 1 };
            let three = |inputs, outputs, stride| ConvSize { inputs, outputs, kernel: 3, stride, groups: 1 };
            let convolutions = if bottleneck {
                let (first, last) = (ConvSize::pointwise(inputs, middle), ConvSize::pointwise(middle, outputs));
                vec![first, three(middle, middle, stride), last]
            } else {
                vec![three(inputs, middle, stride), three(middle, middle, 1)]
            };
            let shortcut = ConvSize { stride, ..ConvSize::pointwise(inputs, outputs) };
            BlockSize { convolutions, shortcut: (inputs != outputs || stride != 1).then_some(shortcut) }
        })
    }

    fn stem(&self) -> ConvSize {
        ConvSize { inputs: self.channels, outputs: self.width, kernel: 7, stride: 2, groups: 1 }
    }

    /// Trainable values of the network, without building it.
    pub fn parameters(&self) -> u64 {
        let blocks = (0..4).flat_map(|stage| self.blocks(stage));
        let convolutions = blocks.flat_map(|block| block.convolutions.into_iter().chain(block.shortcut));
        let body: u64 = convolutions.chain([self.stem()]).map(conv_norm_parameters).sum();
        body + (self.features() as u64 + 1) * self.classes as u64
    }

    /// The sizes by which it is compared with another network. It has no tokens.
    pub fn shape(&self) -> NetworkShape {
        NetworkShape::without_tokens(self.classes)
    }

    /// Builds the network on `device` with values drawn from `seed`.
    ///
    /// # Errors
    /// Whatever [`ResNetConfig::validate`] finds.
    pub fn init(&self, seed: u64, device: &Device) -> Result<ResNet, ConfigError> {
        self.validate()?;
        Ok(self.build(&Initialiser::new(seed, device)))
    }

    /// Builds a validated network with values from `draw`.
    pub(super) fn build(&self, draw: &Initialiser) -> ResNet {
        let stage = |stage: usize| {
            let block =
                |(index, size)| Block::new(&format!("layer{}.{index}", stage + 1), size, self.zero_init_last, draw);
            self.blocks(stage).enumerate().map(block).collect()
        };
        ResNet {
            conv1: Conv::new("conv1", self.stem(), 1, draw),
            bn1: BatchNorm::new(self.width, 1.0, draw),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            fc: draw.linear("fc", WeightInit::Pytorch, self.features(), self.classes, 1),
        }
    }
}

/// The network. See the module's documentation.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
    fc: Linear,
}

/// A block with two convolutions, or with three in a bottleneck.
#[derive(Module, Debug)]
struct Block {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    conv3: Option<Conv>,
    bn3: Option<BatchNorm>,
    // Called 0 and 1, as in PyTorch, where the two are a sequence.
    downsample: Option<(Conv, BatchNorm)>,
}

impl Block {
    fn new(path: &str, size: BlockSize, zero_init_last: bool, draw: &Initialiser) -> Self {
        let conv = |part: &str, size: ConvSize| Conv::new(&format!("{path}.{part}"), size, 1, draw);
        let norm = |size: ConvSize, last: bool| {
            BatchNorm::new(size.outputs, if last && zero_init_last { 0.0 } else { 1.0 }, draw)
        };
        let (first, second) = (size.convolutions[0], size.convolutions[1]);
        let third = size.convolutions.get(2).copied();
        Self {
            conv1: conv("conv1", first),
            bn1: norm(first, false),
            conv2: conv("conv2", second),
            bn2: norm(second, third.is_none()),
            conv3: third.map(|third| conv("conv3", third)),
            bn3: third.map(|third| norm(third, true)),
            downsample: size.shortcut.map(|shortcut| (conv("downsample.0", shortcut), norm(shortcut, false))),
        }
    }

    fn forward(&self, x: Tensor<4>, mut collected: Collected) -> Tensor<4> {
        let y = relu(self.bn1.forward(self.conv1.forward(x.clone()), collected.as_deref_mut()));
        let mut y = self.bn2.forward(self.conv2.forward(y), collected.as_deref_mut());
        if let (Some(conv3), Some(bn3)) = (&self.conv3, &self.bn3) {
            y = bn3.forward(conv3.forward(relu(y)), collected.as_deref_mut());
        }
        let shortcut = match &self.downsample {
            Some((conv, norm)) => norm.forward(conv.forward(x), collected),
            None => x,
        };
        relu(y + shortcut)
    }
}

impl ResNet {
    /// The names of the linear layers that give logits, the class head first.
    pub const HEADS: &[&str] = &["fc"];
    /// The last parts of the names of the matrices without weight decay.
    pub const UNDECAYED: &[&str] = &[];

    /// The type of its parameters.
    pub(super) fn dtype(&self) -> DType {
        self.fc.weight.val().dtype()
    }

    /// Its sizes.
    pub fn shape(&self) -> NetworkShape {
        NetworkShape::without_tokens(self.fc.weight.dims()[1])
    }

    /// Runs the network on `images` `[B, C, S, S]`; `training` is `None` outside training. Stores what `taps` request.
    ///
    /// # Panics
    /// If a tap requests tokens, which a convolutional network does not have.
    pub fn forward_with(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace {
        let mut statistics = Statistics::default();
        let mut collected: Collected = training.map(|_| &mut statistics);
        let x = relu(self.bn1.forward(self.conv1.forward(images), collected.as_deref_mut()));
        let mut x =
            max_pool2d(x, MaxPoolOptions { stride: [2; 2], padding: [(1, 1); 2], ..MaxPoolOptions::new([3; 2]) });
        for block in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten() {
            x = block.forward(x, collected.as_deref_mut());
        }
        let features = mean_over_image(x);
        let mut recorder = Recorder::new(taps);
        recorder.features(|| features.clone());
        recorder.trace(project(&self.fc, features), None, 0).with_statistics(statistics)
    }

    /// The elements and branches that a training pass of this network drops: nothing.
    pub fn draw_training(&self, _: u64, _: u64, _: usize, _: &Device) -> Training {
        Training::default()
    }
}

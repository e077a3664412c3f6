//! Options of `train` about its images, by the names that DeiT's and timm's command lines give them.

use clap::{Args, ValueEnum};
use potstill_core::data::{EraseMode, Interpolation};

/// How training images are varied and mixed.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Images")]
pub struct Images {
    /// A policy of random operations: rand-m9-mstd0.5-inc1, torchvision-n2-m9, or none.
    #[arg(long, value_name = "POLICY")]
    pub aa: Option<String>,
    /// Amount of random brightness, contrast and saturation; taken where there is no --aa.
    #[arg(long, visible_alias = "color_jitter", value_name = "AMOUNT")]
    pub color_jitter: Option<f64>,
    /// Filter of random crops and of a policy's maps.
    #[arg(long, visible_alias = "train_interpolation", value_enum)]
    pub train_interpolation: Option<Filter>,
    /// How often a rectangle of an image is erased.
    #[arg(long, value_name = "P")]
    pub reprob: Option<f64>,
    /// What an erased rectangle shows.
    #[arg(long, value_enum)]
    pub remode: Option<Remode>,
    /// How many rectangles share the erased area.
    #[arg(long, value_name = "N")]
    pub recount: Option<u32>,
    /// α of Mixup; 0 is none.
    #[arg(long, value_name = "A")]
    pub mixup: Option<f64>,
    /// α of CutMix; 0 is none.
    #[arg(long, value_name = "A")]
    pub cutmix: Option<f64>,
    /// How often a batch is mixed.
    #[arg(long, visible_alias = "mixup_prob", value_name = "P")]
    pub mixup_prob: Option<f64>,
    /// How often, of the two, a batch is mixed by CutMix.
    #[arg(long, visible_alias = "mixup_switch_prob", value_name = "P")]
    pub mixup_switch_prob: Option<f64>,
    /// Whole batches are mixed.
    #[arg(long, visible_alias = "mixup_mode", value_parser = ["batch"])]
    pub mixup_mode: Option<String>,
    /// Visit a sample three times in an epoch that visits it.
    #[arg(long, visible_alias = "repeated_aug")]
    pub repeated_aug: bool,
    /// Visit each sample once.
    #[arg(long, visible_alias = "no_repeated_aug", conflicts_with = "repeated_aug")]
    pub no_repeated_aug: bool,
    /// The network's side over the side that a held-out image is resized to.
    #[arg(long, visible_alias = "eval_crop_ratio", value_name = "SHARE")]
    pub eval_crop_ratio: Option<f64>,
    /// Threads that read images; 0 takes as many as there are cores.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
}

/// Filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Filter {
    /// Linear along each axis.
    Bilinear,
    /// Cubic.
    Bicubic,
}

impl From<Filter> for Interpolation {
    fn from(filter: Filter) -> Self {
        match filter {
            Filter::Bilinear => Self::Bilinear,
            Filter::Bicubic => Self::Bicubic,
        }
    }
}

/// What an erased rectangle shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Remode {
    /// Noise.
    Pixel,
    /// The mean.
    #[value(alias = "constant")]
    Const,
}

impl From<Remode> for EraseMode {
    fn from(mode: Remode) -> Self {
        match mode {
            Remode::Pixel => Self::Pixel,
            Remode::Const => Self::Constant,
        }
    }
}

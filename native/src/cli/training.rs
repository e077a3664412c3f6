//! Options of `train` beside the commonest: how a network is trained, by which method, and what the reference projects'
//! command lines say that has no meaning here.
//!
//! Names are the references' own where they have one, and both their spellings are taken (`--min-lr`, `--min_lr`).

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use potstill_core::method::{Mode, Readout};
use potstill_core::train::Decay;

use super::readout;

/// How a network is trained; for every network of the run.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Training")]
pub struct Numbers {
    /// The optimiser.
    #[arg(long, value_enum)]
    pub opt: Option<Optimiser>,
    /// ε in the optimiser's denominator.
    #[arg(long, visible_alias = "opt_eps", value_name = "EPS")]
    pub opt_eps: Option<f64>,
    /// Decays of the optimiser's moments.
    #[arg(long, visible_alias = "opt_betas", num_args = 2, value_names = ["B1", "B2"])]
    pub opt_betas: Option<Vec<f64>>,
    /// Weight decay.
    #[arg(long, visible_alias = "weight_decay", value_name = "WD")]
    pub weight_decay: Option<f64>,
    /// Largest norm of all gradients together.
    #[arg(long, visible_alias = "clip_grad", value_name = "NORM")]
    pub clip_grad: Option<f64>,
    /// The schedule: constant, step, cosine, deit or epoch-cosine.
    #[arg(long, value_name = "NAME")]
    pub sched: Option<String>,
    /// Epochs of warm-up.
    #[arg(long, visible_alias = "warmup_epochs", value_name = "E")]
    pub warmup_epochs: Option<u64>,
    /// The rate that a warm-up starts from.
    #[arg(long, visible_alias = "warmup_lr", value_name = "LR")]
    pub warmup_lr: Option<f64>,
    /// The rate that a schedule ends at.
    #[arg(long, visible_alias = "min_lr", value_name = "LR")]
    pub min_lr: Option<f64>,
    /// Epochs between two steps of the schedule step.
    #[arg(long, visible_alias = "decay_epochs", value_name = "E")]
    pub decay_epochs: Option<u64>,
    /// What a step multiplies the rate by.
    #[arg(long, visible_alias = "decay_rate", value_name = "F")]
    pub decay_rate: Option<f64>,
    /// The batch that --lr is meant for; the rate is in proportion to the batch.
    #[arg(long, visible_alias = "lr_batch", value_name = "B")]
    pub lr_batch: Option<usize>,
    /// Run each batch in this many parts and add up their gradients.
    #[arg(long, value_name = "N")]
    pub accumulate: Option<usize>,
    /// Keep an exponential mean of the parameters beside them.
    #[arg(long, visible_alias = "model_ema")]
    pub model_ema: bool,
    /// Keep none.
    #[arg(long, visible_alias = "no_model_ema", conflicts_with = "model_ema")]
    pub no_model_ema: bool,
    /// The mean's decay at every step.
    #[arg(long, visible_alias = "model_ema_decay", value_name = "D")]
    pub model_ema_decay: Option<f64>,
    /// Train the last linear layers alone.
    #[arg(long, visible_alias = "linear_probe")]
    pub linear_probe: bool,
    /// How two heads make one prediction: class, distill, mean-logits or mean-probabilities.
    #[arg(long, value_name = "HOW", value_parser = readout)]
    pub readout: Option<Readout>,
}

/// The optimisers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Optimiser {
    /// Weights decay beside the gradient.
    Adamw,
    /// Weights decay through the gradient.
    Adam,
}

impl Optimiser {
    /// The kind, as core has it.
    pub fn kind(self) -> Decay {
        match self {
            Self::Adamw => Decay::AdamW,
            Self::Adam => Decay::Adam,
        }
    }
}

/// DeiT's `--distillation-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DistillationType {
    /// Labels alone.
    None,
    /// The teacher's softened logits.
    Soft,
    /// The teacher's label.
    Hard,
}

/// The CIFAR-10 project's modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DistillMode {
    None,
    Soft,
    Hard,
    Class,
    Distill,
    Both,
}

impl DistillMode {
    /// The mode, as core has it.
    pub fn mode(self) -> Mode {
        match self {
            Self::None => Mode::None,
            Self::Soft => Mode::Soft,
            Self::Hard => Mode::Hard,
            Self::Class => Mode::Class,
            Self::Distill => Mode::Distill,
            Self::Both => Mode::Both,
        }
    }

    /// The mode's name.
    pub fn name(self) -> &'static str {
        let found = Mode::ALL.into_iter().find(|(_, mode)| *mode == self.mode());
        found.map_or("none", |(name, _)| name)
    }
}

/// By which method, and which networks, in the words of DeiT, CLS-KD, the CIFAR-10 project and learning with
/// retrospection.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Method")]
pub struct Method {
    /// The network that is trained.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The network that teaches.
    #[arg(long, visible_alias = "teacher_model", value_name = "NAME")]
    pub teacher_model: Option<String>,
    /// Start from these weights; the head is replaced where the classes are others.
    #[arg(long, value_name = "FILE")]
    pub finetune: Option<PathBuf>,
    /// Side of the square input of every network, in pixels.
    #[arg(long, visible_alias = "input_size", value_name = "PIXELS")]
    pub input_size: Option<usize>,
    /// Rate at which the last block's residual branches are dropped.
    #[arg(long, visible_alias = "drop_path", value_name = "RATE")]
    pub drop_path: Option<f64>,
    /// Label smoothing.
    #[arg(long, value_name = "EPS")]
    pub smoothing: Option<f64>,
    /// DeiT's distillation.
    #[arg(long, visible_alias = "distillation_type", value_enum)]
    pub distillation_type: Option<DistillationType>,
    /// Weight α of the teacher.
    #[arg(long, visible_alias = "distillation_alpha", value_name = "A")]
    pub distillation_alpha: Option<f64>,
    /// Temperature τ.
    #[arg(long, visible_alias = "distillation_tau", value_name = "T")]
    pub distillation_tau: Option<f64>,
    /// The CIFAR-10 project's mode.
    #[arg(long, visible_alias = "distill_mode", value_enum)]
    pub distill_mode: Option<DistillMode>,
    /// CLS-KD: weight β of the manifold terms.
    #[arg(long, visible_alias = "distillation_beta", value_name = "B")]
    pub distillation_beta: Option<f64>,
    /// CLS-KD: compare how tokens lie to one another, as it does unless told otherwise.
    #[arg(long)]
    pub manifold: bool,
    /// CLS-KD: leave the manifold terms out.
    #[arg(long, visible_alias = "no_manifold", conflicts_with = "manifold")]
    pub no_manifold: bool,
    /// CLS-KD: weight of the class token's term.
    #[arg(long, value_name = "W")]
    pub w_cls: Option<f64>,
    /// CLS-KD: weight of its cosines with the patches.
    #[arg(long, value_name = "W")]
    pub w_atn: Option<f64>,
    /// CLS-KD: extra factor of the last pair of blocks.
    #[arg(long, value_name = "W")]
    pub last_w: Option<f64>,
    /// CLS-KD: weight of the manifold term across images.
    #[arg(long, value_name = "W")]
    pub w_sample: Option<f64>,
    /// CLS-KD: weight of the manifold term within images.
    #[arg(long, value_name = "W")]
    pub w_patch: Option<f64>,
    /// CLS-KD: weight of the manifold term of random rows.
    #[arg(long, value_name = "W")]
    pub w_rand: Option<f64>,
    /// CLS-KD: number of random rows.
    #[arg(long = "K", value_name = "K")]
    pub rows: Option<usize>,
    /// CLS-KD: the student's blocks, from 0.
    #[arg(long, value_name = "BLOCK", num_args = 1..)]
    pub s_id: Option<Vec<usize>>,
    /// CLS-KD: the teacher's blocks, from 0, as many.
    #[arg(long, value_name = "BLOCK", num_args = 1..)]
    pub t_id: Option<Vec<usize>>,
    /// CLS-KD: how class tokens of different widths are compared, projector or relation.
    #[arg(long, value_name = "HOW", value_parser = ["projector", "relation"])]
    pub dim_match: Option<String>,
    /// Learn with retrospection: from the network's own past logits beside the labels.
    #[arg(long)]
    pub retrospect: bool,
    /// Retrospection: epochs between two copies of the past.
    #[arg(long, visible_alias = "lwr_k", value_name = "K")]
    pub lwr_k: Option<u64>,
    /// Retrospection: what the labels lose in all.
    #[arg(long, visible_alias = "lwr_update_rate", value_name = "RATE")]
    pub lwr_update_rate: Option<f64>,
    /// Retrospection: temperature.
    #[arg(long, visible_alias = "lwr_tau", value_name = "T")]
    pub lwr_tau: Option<f64>,
    /// Retrospection: epochs over which the labels lose it.
    #[arg(long, visible_alias = "lwr_max_epochs", value_name = "E")]
    pub lwr_max_epochs: Option<u64>,
}

impl Method {
    /// Whether the line is CLS-KD's.
    pub fn is_cls_kd(&self) -> bool {
        let weights = [self.w_cls, self.w_atn, self.last_w, self.w_sample, self.w_patch, self.w_rand];
        weights.iter().any(Option::is_some)
            || self.manifold
            || self.no_manifold
            || self.distillation_beta.is_some()
            || self.rows.is_some()
            || self.s_id.is_some()
            || self.t_id.is_some()
            || self.dim_match.is_some()
    }
}

/// What reference command lines say that means nothing here: taken, and named in a notice.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Taken without effect")]
pub struct Accepted {
    /// One process trains here.
    #[arg(long, hide = true)]
    pub distributed: bool,
    #[arg(long, hide = true, alias = "dist_eval")]
    pub dist_eval: bool,
    #[arg(long, hide = true, alias = "world_size")]
    pub world_size: Option<u32>,
    #[arg(long, hide = true, alias = "dist_url")]
    pub dist_url: Option<String>,
    #[arg(long, hide = true, alias = "local_rank")]
    pub local_rank: Option<i32>,
    #[arg(long, hide = true, alias = "num_workers")]
    pub num_workers: Option<u32>,
    #[arg(long, hide = true, alias = "pin_mem", alias = "pin-memory")]
    pub pin_mem: bool,
    #[arg(long, hide = true, alias = "no_pin_mem")]
    pub no_pin_mem: bool,
    #[arg(long, hide = true, alias = "start_epoch")]
    pub start_epoch: Option<u64>,
    #[arg(long, hide = true, alias = "cooldown_epochs")]
    pub cooldown_epochs: Option<u64>,
    #[arg(long, hide = true, alias = "patience_epochs")]
    pub patience_epochs: Option<u64>,
    #[arg(long, hide = true)]
    pub momentum: Option<f64>,
    #[arg(long, hide = true, alias = "norm_distill")]
    pub norm_distill: bool,
    #[arg(long, hide = true)]
    pub w_norm: Option<f64>,
    #[arg(long, hide = true)]
    pub w_proj: Option<f64>,
    #[arg(long, hide = true)]
    pub w_relation: Option<f64>,
    #[arg(long, hide = true)]
    pub dim_t: Option<usize>,
    #[arg(long, hide = true, alias = "inat_category")]
    pub inat_category: Option<String>,
}

impl Accepted {
    /// A line for each that was given.
    pub fn notices(&self) -> Vec<String> {
        let one_process = "one process trains here";
        let loader = "the loader takes the threads it needs";
        let unused = "its own code does not use it";
        let given = [
            (self.distributed, "--distributed", one_process),
            (self.dist_eval, "--dist-eval", one_process),
            (self.world_size.is_some(), "--world-size", one_process),
            (self.dist_url.is_some(), "--dist-url", one_process),
            (self.local_rank.is_some(), "--local-rank", one_process),
            (self.num_workers.is_some(), "--num-workers", loader),
            (self.pin_mem, "--pin-mem", loader),
            (self.no_pin_mem, "--no-pin-mem", loader),
            (self.start_epoch.is_some(), "--start-epoch", "--resume goes on where a run was stopped"),
            (self.cooldown_epochs.is_some(), "--cooldown-epochs", "training ends with the schedule"),
            (self.patience_epochs.is_some(), "--patience-epochs", "no schedule here waits for a plateau"),
            (self.momentum.is_some(), "--momentum", "AdamW and Adam have --opt-betas"),
            (self.norm_distill, "--norm-distill", "the norms of patch tokens are not distilled"),
            (self.w_norm.is_some(), "--w-norm", "the norms of patch tokens are not distilled"),
            (self.w_proj.is_some(), "--w-proj", "projector and relation are not taken together"),
            (self.w_relation.is_some(), "--w-relation", "projector and relation are not taken together"),
            (self.dim_t.is_some(), "--dim-t", unused),
            (self.inat_category.is_some(), "--inat-category", "folders of images name their classes"),
        ];
        let line = |(_, flag, why): (bool, &str, &str)| format!("{flag} has no effect: {why}");
        given.into_iter().filter(|(given, ..)| *given).map(line).collect()
    }
}

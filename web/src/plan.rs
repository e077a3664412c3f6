//! A recipe of the page, checked and turned into networks, objectives and schedules.
//!
//! A recipe comes from a form, an address or a saved run, so every number is checked here, before anything is built. The
//! optimiser's numbers are those of the native program's recipe for digits.
//!
//! Every network here has a class token that its head reads: that is what CLS-KD compares, and whose attention is shown.

use potstill_core::model::init::WeightInit;
use potstill_core::model::{NetworkConfig, Pool, VitConfig};
use potstill_core::objective::{
    AttentionForcing, ClassToken, Deit, LogitDistillation, Manifold, Mode, Normalisation, Objective, Retrospection,
    SoftTargets, Sum,
};
use potstill_core::train::{AdamWConfig, WarmupCosine};

use crate::protocol::{DistilRecipe, Method};

/// Share of the steps over which the learning rate rises.
const WARMUP: f64 = 0.1;
/// Told apart from the student's seed as the native program does it.
const TEACHER_SEED: u64 = 0x7eac_4e12;

/// What a recipe comes to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The recipe.
    pub recipe: DistilRecipe,
    /// The student's and the baseline's configuration.
    pub student: NetworkConfig,
    /// What the student is taught.
    pub objective: Objective,
    /// Whether it is also taught by its own past.
    pub retrospection: Option<Retrospection>,
}

/// The architecture of this view: 28 x 28 grey pixels in 16 patches, and a class token.
pub fn network(depth: usize, width: usize) -> NetworkConfig {
    VitConfig {
        image_size: 28,
        patch_size: 7,
        channels: 1,
        classes: 10,
        width,
        depth,
        heads: 4,
        mlp_ratio: 2.0,
        pool: Pool::Class,
        class_token: true,
        layer_norm_eps: 1e-6,
        init: WeightInit::Xavier,
        ..VitConfig::default()
    }
    .into()
}

/// A teacher that is trained on the spot.
pub fn live_teacher() -> NetworkConfig {
    network(6, 64)
}

/// The optimiser's numbers, for every network.
pub fn optimiser() -> AdamWConfig {
    AdamWConfig { weight_decay: 0.05, beta_2: 0.98, clip_norm: Some(1.0), ..AdamWConfig::default() }
}

impl Plan {
    /// Checks `recipe`.
    ///
    /// # Errors
    /// A line that names the number, its value and what is accepted.
    pub fn new(recipe: DistilRecipe) -> Result<Self, String> {
        recipe.check()?;
        let (objective, retrospection) = objective(&recipe);
        objective.validate().map_err(|error| error.to_string())?;
        let student = network(recipe.depth as usize, recipe.width as usize);
        student.validate().map_err(|error| error.to_string())?;
        Ok(Self { recipe, student, objective, retrospection })
    }

    /// The learning rate over `steps`.
    pub fn schedule(&self, steps: u32) -> WarmupCosine {
        let total_steps = u64::from(steps);
        let warmup_steps = (WARMUP * total_steps as f64) as u64;
        WarmupCosine { peak: f64::from(self.recipe.learning_rate), floor: 0.0, warmup_steps, total_steps }
    }

    /// The seed of the student's and the baseline's initial values.
    pub fn seed(&self) -> u64 {
        u64::from(self.recipe.seed)
    }

    /// The seed of a live teacher's initial values.
    pub fn teacher_seed(&self) -> u64 {
        self.seed() ^ TEACHER_SEED
    }
}

// Divergences are means over the batch, so that α means the same for every method.
fn objective(recipe: &DistilRecipe) -> (Objective, Option<Retrospection>) {
    let [alpha, temperature, weight] = [recipe.alpha, recipe.temperature, recipe.weight].map(f64::from);
    let normalisation = Normalisation::Batchmean;
    let labels = Objective::Labels { smoothing: 0.0 };
    let objective = match recipe.method {
        Method::None | Method::Lwr => labels,
        Method::LabelSmoothing => Objective::Labels { smoothing: f64::from(recipe.smoothing) },
        Method::Soft => Objective::Kd(LogitDistillation { alpha, temperature, normalisation, smoothing: 0.0 }),
        Method::Hard => Objective::Deit(Deit { mode: Mode::Hard, alpha, smoothing: 0.0, ..Deit::default() }),
        Method::Saf => Objective::Sum(Sum {
            alpha,
            saf: Some(AttentionForcing { weight, ..AttentionForcing::default() }),
            ..Sum::default()
        }),
        Method::ClsKd => {
            let usual = ClassToken::default();
            Objective::Sum(Sum {
                alpha,
                kd: Some(SoftTargets { weight: 1.0, temperature, normalisation }),
                class_token: Some(ClassToken {
                    weight: weight * usual.weight,
                    map_weight: weight * usual.map_weight,
                    ..usual
                }),
                manifold: Some(Manifold { weight, ..Manifold::default() }),
                ..Sum::default()
            })
        }
    };
    // A run here lasts a few epochs and not 240: every one counts, and the past gains α by the last.
    let batches = (recipe.train_samples / recipe.batch.max(1)).max(1);
    let retrospection = (recipe.method == Method::Lwr).then(|| Retrospection {
        k: 1,
        update_rate: alpha,
        temperature,
        max_epochs: u64::from(recipe.steps.div_ceil(batches)),
    });
    (objective, retrospection)
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: [Method; 7] =
        [Method::None, Method::Soft, Method::Hard, Method::Saf, Method::ClsKd, Method::Lwr, Method::LabelSmoothing];

    #[test]
    fn every_method_fits_the_networks() {
        for method in METHODS {
            let plan = Plan::new(DistilRecipe { method, ..DistilRecipe::default() }).expect("the defaults are valid");
            plan.objective.check(&plan.student.shape(), &live_teacher().shape()).expect("fits");
            let taught = !matches!(method, Method::None | Method::Lwr | Method::LabelSmoothing);
            assert_eq!(plan.objective.needs_teacher(), taught, "{method:?}");
            assert_eq!(plan.retrospection.is_some(), method == Method::Lwr);
        }
    }

    #[test]
    fn the_form_shows_the_options_that_act() {
        let shape = |recipe| {
            let plan = Plan::new(recipe).expect("valid");
            format!("{:?} {:?}", plan.objective, plan.retrospection)
        };
        for method in METHODS {
            let usual = || DistilRecipe { method, ..DistilRecipe::default() };
            for (option, other) in [
                ("temperature", DistilRecipe { temperature: 3.0, ..usual() }),
                ("alpha", DistilRecipe { alpha: 0.25, ..usual() }),
                ("weight", DistilRecipe { weight: 2.0, ..usual() }),
                ("smoothing", DistilRecipe { smoothing: 0.2, ..usual() }),
            ] {
                assert_eq!(shape(other) != shape(usual()), method.uses(option), "{option} for {method:?}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let good = DistilRecipe::default;
        for (recipe, word) in [
            (DistilRecipe { width: 66, ..good() }, "width"),
            (DistilRecipe { width: 0, ..good() }, "width"),
            (DistilRecipe { depth: 99, ..good() }, "blocks"),
            (DistilRecipe { batch: 0, ..good() }, "pictures a step"),
            (DistilRecipe { steps: 0, ..good() }, "steps"),
            (DistilRecipe { train_samples: u32::MAX, ..good() }, "training pictures"),
            (DistilRecipe { learning_rate: f32::NAN, ..good() }, "learning rate"),
            (DistilRecipe { weight: -1.0, ..good() }, "weight"),
            (DistilRecipe { smoothing: 1.0, ..good() }, "smoothing"),
            (DistilRecipe { alpha: 2.0, ..good() }, "share"),
            (DistilRecipe { temperature: 0.0, ..good() }, "temperature"),
        ] {
            let error = Plan::new(recipe.clone()).expect_err("nonsense");
            assert!(error.contains(word), "{recipe:?}: {error}");
        }
    }
}

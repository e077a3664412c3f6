//! A recipe of the page, checked and turned into networks, objectives and schedules.
//!
//! A recipe comes from a form, an address or a saved run, so every number is checked here, before anything is built. How
//! networks are trained is what the command's recipe for digits says, but for the numbers of the form.
//!
//! Every network here has a class token that its head reads: that is what CLS-KD compares, and whose attention is shown.

use potstill_core::data::Telling;
use potstill_core::method::{
    ClassToken, Deit, Lesson, LogitDistillation, Manifold, Mode, Normalisation, Preset, Retrospection, Saf,
    SoftTargets, Sum,
};
use potstill_core::model::init::WeightInit;
use potstill_core::model::{Network, NetworkConfig, Pool, VitConfig};
use potstill_core::train::{TrainingRecipe, teacher_seed};

use crate::protocol::{DistilRecipe, Method};

/// What a recipe comes to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The recipe.
    pub recipe: DistilRecipe,
    /// The student's and the baseline's configuration.
    pub student: NetworkConfig,
    /// What the student is taught.
    pub objective: Preset,
    /// How it is trained.
    pub training: TrainingRecipe,
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

impl Plan {
    /// Checks `recipe`.
    ///
    /// # Errors
    /// A line that names the number, its value and what is accepted.
    pub fn new(recipe: DistilRecipe) -> Result<Self, String> {
        recipe.check()?;
        let (objective, retrospection) = objective(&recipe);
        let training = TrainingRecipe {
            batch_size: recipe.batch as usize,
            lr: typed(recipe.learning_rate),
            epochs: u64::from(epochs(&recipe)),
            retrospection,
            ..TrainingRecipe::digits()
        };
        training.validate().map_err(|error| error.to_string())?;
        objective.validate().map_err(|error| error.to_string())?;
        let student = network(recipe.depth as usize, recipe.width as usize);
        student.validate().map_err(|error| error.to_string())?;
        Ok(Self { recipe, student, objective, training })
    }

    /// What the student is taught by a teacher.
    ///
    /// # Errors
    /// If the two do not go together by this method.
    pub fn lesson(&self, teacher: Network) -> Result<Lesson, String> {
        let lesson = Lesson::new(&self.objective.objective(), &self.student.shape(), Some(teacher.into()));
        lesson.map_err(|mismatch| mismatch.to_string())
    }

    /// What student and baseline are told of the training samples.
    pub fn telling(&self) -> Telling {
        let DistilRecipe { omit, labels, label_noise, .. } = &self.recipe;
        Telling { omit: omit.clone(), labels: labels.map(|labels| labels as usize), noise: typed(*label_noise) }
    }

    /// The seed of the student's and the baseline's initial values.
    pub fn seed(&self) -> u64 {
        u64::from(self.recipe.seed)
    }

    /// The seed of a live teacher's initial values.
    pub fn teacher_seed(&self) -> u64 {
        teacher_seed(self.seed())
    }
}

// A number as a person typed it, which is what the command reads too: 0.6, and not the nearest f32.
fn typed(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::NAN)
}

// Divergences are means over the batch, so that α means the same for every method.
fn objective(recipe: &DistilRecipe) -> (Preset, Option<Retrospection>) {
    let [alpha, temperature, weight] = [recipe.alpha, recipe.temperature, recipe.weight].map(typed);
    let normalisation = Normalisation::Batchmean;
    let labels = Preset::Labels { smoothing: 0.0 };
    let objective = match recipe.method {
        Method::None | Method::Lwr => labels,
        Method::LabelSmoothing => Preset::Labels { smoothing: typed(recipe.smoothing) },
        Method::Soft => Preset::Kd(LogitDistillation { alpha, temperature, normalisation, smoothing: 0.0 }),
        Method::Hard => Preset::Deit(Deit { mode: Mode::Hard, alpha, smoothing: 0.0, ..Deit::default() }),
        Method::Saf => Preset::Sum(Sum { alpha, saf: Some(Saf { weight, ..Saf::default() }), ..Sum::default() }),
        Method::ClsKd => {
            let usual = ClassToken::default();
            Preset::Sum(Sum {
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
    let retrospection = (recipe.method == Method::Lwr).then(|| Retrospection {
        k: 1,
        update_rate: alpha,
        temperature,
        max_epochs: u64::from(epochs(recipe)),
    });
    (objective, retrospection)
}

// The epochs of the student's steps, the last perhaps cut short.
fn epochs(recipe: &DistilRecipe) -> u32 {
    // Digits are as many of each kind; of other sets this is an estimate.
    let samples = recipe.train_samples * (10 - recipe.omit.len().min(9) as u32) / 10;
    let batches = (samples / recipe.batch.max(1)).max(1);
    recipe.steps.div_ceil(batches)
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
            assert_eq!(plan.objective.objective().needs_teacher(), taught, "{method:?}");
            assert_eq!(plan.training.retrospection.is_some(), method == Method::Lwr);
        }
    }

    #[test]
    fn the_form_shows_the_options_that_act() {
        let shape = |recipe| {
            let plan = Plan::new(recipe).expect("valid");
            format!("{:?} {:?}", plan.objective, plan.training.retrospection)
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
            (DistilRecipe { labels: Some(20_000), ..good() }, "labels"),
            (DistilRecipe { label_noise: 1.5, ..good() }, "wrong labels"),
            (DistilRecipe { omit: (0..10).collect(), ..good() }, "left out"),
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

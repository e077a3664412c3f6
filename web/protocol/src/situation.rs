//! Situations in which a teacher helps, or does not: what a person picks in place of numbers.
//!
//! Their numbers were chosen so that each ends within a minute on the CPU path, and so that in the first four the student is
//! ahead of the baseline in each of five seeds; `web/tests/situations.rs` measures that again.

use crate::{DataChoice, DistilRecipe, Method, TeacherChoice};

/// What the student is told of the training pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// Few pictures have a label.
    FewLabels,
    /// None has.
    NoLabels,
    /// There is no 3 among the pictures.
    UnseenThree,
    /// More than half of the labels are wrong.
    WrongLabels,
    /// All labels are there and right.
    AllLabels,
}

impl Situation {
    /// All of them, in the order of the page.
    pub const ALL: [Self; 5] = [Self::FewLabels, Self::NoLabels, Self::UnseenThree, Self::WrongLabels, Self::AllLabels];

    /// As it stands in the address.
    pub fn name(self) -> &'static str {
        match self {
            Self::FewLabels => "few-labels",
            Self::NoLabels => "no-labels",
            Self::UnseenThree => "unseen-three",
            Self::WrongLabels => "wrong-labels",
            Self::AllLabels => "all-labels",
        }
    }

    /// What is trained, with seed 0.
    pub fn recipe(self) -> DistilRecipe {
        let usual = DistilRecipe {
            data: DataChoice::Digits,
            train_samples: 10_000,
            labels: None,
            omit: Vec::new(),
            label_noise: 0.0,
            teacher: TeacherChoice::Shipped,
            teacher_steps: 600,
            method: Method::Soft,
            temperature: 4.0,
            alpha: 0.9,
            weight: 1.0,
            smoothing: 0.1,
            depth: 3,
            width: 64,
            batch: 32,
            learning_rate: 3e-3,
            steps: 500,
            seed: 0,
        };
        match self {
            Self::FewLabels => DistilRecipe { labels: Some(100), ..usual },
            Self::NoLabels => DistilRecipe { labels: Some(0), alpha: 1.0, ..usual },
            Self::UnseenThree => DistilRecipe { omit: vec![3], alpha: 1.0, ..usual },
            Self::WrongLabels => DistilRecipe { label_noise: 0.6, ..usual },
            Self::AllLabels => usual,
        }
    }

    /// The situation of a recipe, whatever its seed.
    pub fn of(recipe: &DistilRecipe) -> Option<Self> {
        Self::ALL.into_iter().find(|one| DistilRecipe { seed: recipe.seed, ..one.recipe() } == *recipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_a_valid_recipe_and_known_again() {
        for one in Situation::ALL {
            let recipe = DistilRecipe { seed: 7, ..one.recipe() };
            assert_eq!((recipe.check(), Situation::of(&recipe)), (Ok(()), Some(one)));
            assert_eq!(Situation::of(&DistilRecipe { steps: 7, ..recipe }), None);
        }
    }
}

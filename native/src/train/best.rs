//! Which of the networks that a training passes through is kept, and when it has gone on long enough. The validation split
//! decides both.

use potstill_core::model::Network;
use potstill_core::train::Course;
use serde::{Deserialize, Serialize};

use super::metrics_log::Check;
use crate::recipe::{KeepNetwork, NetworkRecipe};

/// The best epoch so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Which, from 1.
    pub epoch: u64,
    /// How many samples of the validation split were right after it. A count is the same after its way through text.
    pub right: u64,
}

/// What is to be kept of a training, and what is best of it so far.
#[derive(Clone)]
pub struct Best {
    keep: KeepNetwork,
    early_stop: Option<u64>,
    mark: Option<Mark>,
    kept: Option<(Network, Option<Network>)>,
}

impl Best {
    /// What a network's recipe says of it, before the first epoch.
    pub fn new(recipe: &NetworkRecipe) -> Self {
        Self { keep: recipe.keep, early_stop: recipe.early_stop, mark: None, kept: None }
    }

    /// Goes on where a checkpoint stood.
    pub fn restore(&mut self, mark: Mark, kept: Option<(Network, Option<Network>)>) {
        (self.mark, self.kept) = (Some(mark), kept);
    }

    /// Looks at a course after an epoch. Of equally good networks the earlier is kept.
    pub fn see(&mut self, course: &Course, check: &Check) {
        let right = (check.found.accuracy() * check.samples as f64).round() as u64;
        if self.mark.is_some_and(|mark| right <= mark.right) {
            return;
        }
        self.mark = Some(Mark { epoch: check.epoch, right });
        if self.keep == KeepNetwork::Best {
            self.kept = Some((course.network(), course.average()));
        }
    }

    /// Whether so many epochs brought nothing better that the training ends.
    pub fn ends_at(&self, epoch: u64) -> bool {
        let waited = self.mark.map_or(0, |mark| epoch.saturating_sub(mark.epoch));
        self.early_stop.is_some_and(|patience| waited >= patience)
    }

    /// The best epoch, where one has been seen and something depends on it.
    pub fn mark(&self) -> Option<Mark> {
        self.mark.filter(|_| self.keep == KeepNetwork::Best || self.early_stop.is_some())
    }

    /// The network that is kept and the mean of its parameters, if it is not the last.
    pub fn kept(&self) -> Option<&(Network, Option<Network>)> {
        self.kept.as_ref()
    }
}

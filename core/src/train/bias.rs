//! The biases of classes that a training left out, set by how often each class should be predicted.
//!
//! A student that never saw a class still learns from its teacher what sets the class apart, but not how often it comes: it
//! predicts it far too seldom. Hinton, Vinyals and Dean (2015, arXiv 1503.02531) mend that by one constant on the class's logit.
//! Here the constants follow from images alone. No label is read:
//!
//! * `z` are the logits `[N, C]` of N images, and `π_k` is the share of them that should be of class k. Each left-out class k gets a
//!   constant `b_k`; for every other class j, `b_j` is 0. A prediction is `argmax_j (z_ij + b_j)`, the first of equals.
//! * With all other constants fixed, image i is predicted as k where `b_k` exceeds its margin `max_{j≠k} (z_ij + b_j) − z_ik`. So the
//!   share is met by the midpoint of the m-th and the (m+1)-th least margin, where `m = round(π_k N)`, at least 1 and at most N − 1.
//!   That is where bisection on `b_k` would end. Where both margins are equal the share cannot be met: `b_k` is the margin.
//! * Several classes take turns, in the order of their numbers and from constants of 0, until every one of them is predicted for `m`
//!   images, give or take a thousandth of N, or a round changes nothing. There are at most 100 rounds.
//!
//! A class that is raised takes images from the others, which are then raised further. So constants that begin too low rise to their
//! end, and those that begin too high fall to it.

use super::metrics::argmax;
use crate::method::Readout;
use crate::model::NetworkConfig;
use crate::weights::NamedTensor;

/// By which share of the images a class may miss its own.
const TOLERANCE: f64 = 1e-3;
/// Rounds after which the constants are taken as they are.
const ROUNDS: usize = 100;

/// Constants for the logits of left-out classes, and what they come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    /// What is added to each logit, `[C]`: 0 for a class that was not left out.
    pub added: Vec<f32>,
    /// The share of the images that is then predicted as each class, `[C]`.
    pub shares: Vec<f64>,
}

/// Why there are no such constants.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BiasError {
    /// Fewer than two images.
    #[error("{0} images are too few to set a bias by; it takes two at least")]
    Few(usize),
    /// A logit that is no number.
    #[error("the network's answer to image {0} is not finite, so its biases cannot be set")]
    NotFinite(usize),
    /// Shares that leave nothing for the other classes.
    #[error(
        "the left-out classes are to be predicted for {0} of all images; it must be above 0 and below 1, and so must each class"
    )]
    Shares(f64),
}

/// The constants by which each of the classes `left_out` is predicted for its share of the images with these logits, `[N, C]`
/// row-major. See the module's head.
///
/// # Errors
/// [`BiasError`], for what no constants can be found for.
///
/// # Panics
/// If the logits are no whole rows, or a class is not below `classes`.
pub fn correct(logits: &[f32], classes: usize, left_out: &[(u32, f64)]) -> Result<Correction, BiasError> {
    assert!(classes > 0 && logits.len().is_multiple_of(classes), "{} logits of {classes} classes", logits.len());
    let images = logits.len() / classes;
    if images < 2 {
        return Err(BiasError::Few(images));
    }
    if let Some(place) = logits.iter().position(|logit| !logit.is_finite()) {
        return Err(BiasError::NotFinite(place / classes));
    }
    let total: f64 = left_out.iter().map(|(_, share)| share).sum();
    if !left_out.is_empty() && (left_out.iter().any(|(_, share)| !(*share > 0.0)) || !(total < 1.0)) {
        return Err(BiasError::Shares(total));
    }
    let goal = |share: f64| ((share * images as f64).round() as usize).clamp(1, images - 1);
    let mut goals: Vec<(usize, usize)> =
        left_out.iter().map(|(class, share)| (*class as usize, goal(*share))).collect();
    goals.sort_unstable();
    let allowed = (TOLERANCE * images as f64).floor() as usize;

    let mut added = vec![0.0; classes];
    let mut margins = Vec::with_capacity(images);
    let mut counts = predicted(logits, &added);
    for _ in 0..ROUNDS {
        if goals.iter().all(|(class, goal)| counts[*class].abs_diff(*goal) <= allowed) {
            break;
        }
        let before = added.clone();
        for (class, goal) in &goals {
            margins.clear();
            margins.extend(logits.chunks_exact(classes).map(|row| margin(row, &added, *class)));
            added[*class] = between(&mut margins, *goal);
        }
        counts = predicted(logits, &added);
        if added == before {
            break;
        }
    }
    Ok(Correction { added, shares: counts.into_iter().map(|count| count as f64 / images as f64).collect() })
}

/// How many rows of logits are predicted as each class.
fn predicted(logits: &[f32], added: &[f32]) -> Vec<usize> {
    let mut counts = vec![0; added.len()];
    let mut row = vec![0.0; added.len()];
    for logits in logits.chunks_exact(added.len()) {
        row.iter_mut().zip(logits.iter().zip(added)).for_each(|(sum, (logit, added))| *sum = logit + added);
        counts[argmax(&row) as usize] += 1;
    }
    counts
}

/// How much must be added to the logit of `class` for it to reach the highest of the others.
fn margin(row: &[f32], added: &[f32], class: usize) -> f32 {
    let others = row.iter().zip(added).enumerate().filter(|(other, _)| *other != class);
    others.map(|(_, (logit, added))| logit + added).fold(f32::NEG_INFINITY, f32::max) - row[class]
}

/// The midpoint of the `count`-th and the next least value; `count` is at least 1 and below their number.
fn between(values: &mut [f32], count: usize) -> f32 {
    let (below, above, _) = values.select_nth_unstable_by(count, f32::total_cmp);
    let least = below.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    least + (*above - least) / 2.0
}

/// Adds the constants to the biases of the heads that a network is read by, among its tensors: it then gives corrected logits by
/// itself. `false` where that is impossible, since the mean of two heads' probabilities is no sum of logits; nothing is changed.
///
/// # Panics
/// If a head's bias has not a value a class.
pub fn add_to_heads(tensors: &mut [NamedTensor], config: &NetworkConfig, readout: Readout, added: &[f32]) -> bool {
    let two_heads = config.shape().distillation_token;
    if two_heads && readout == Readout::MeanProbabilities {
        return false;
    }
    let biases: Vec<String> = config.heads().iter().map(|head| format!("{head}.bias")).collect();
    let mut biases: Vec<&mut NamedTensor> = tensors.iter_mut().filter(|tensor| biases.contains(&tensor.name)).collect();
    // A head that both tokens share is there once.
    biases.sort_by_key(|tensor| tensor.name.len());
    let read = match readout {
        Readout::Class => 0..biases.len().min(1),
        Readout::Distill if two_heads => biases.len().saturating_sub(1)..biases.len(),
        _ => 0..biases.len(),
    };
    for tensor in &mut biases[read.clone()] {
        assert_eq!(tensor.values.len(), added.len(), "{} has a value a class", tensor.name);
        tensor.values.iter_mut().zip(added).for_each(|(bias, added)| *bias += added);
    }
    !read.is_empty()
}

#[cfg(test)]
mod tests {
    use burn::backend::read_sync;
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::data::{Purpose, Rng};
    use crate::model::{Network, VitConfig};
    use crate::weights::{assign, read};

    /// Logits drawn at random, class k lower by `low[k]`.
    fn drawn(images: usize, low: &[f32]) -> Vec<f32> {
        let row = |index| {
            let mut rng = Rng::new(5, 0, index, Purpose::Labels);
            low.iter().map(move |low| rng.below(1 << 20) as f32 / 1e5 - low).collect::<Vec<_>>()
        };
        (0..images as u64).flat_map(row).collect()
    }

    #[test]
    fn one_constant_stands_between_two_margins() {
        // Class 1 is below class 0 by 0, 1, ..., 99, in an order that is not theirs.
        let logits: Vec<f32> = (0..100).flat_map(|i| [0.0, -((i * 37 % 100) as f32)]).collect();
        let found = correct(&logits, 2, &[(1, 0.25)]).expect("can be met");
        assert_eq!((found.added, found.shares), (vec![0.0, 24.5], vec![0.75, 0.25]));
        // A class that is predicted too often is lowered.
        let found = correct(&logits, 2, &[(0, 0.25)]).expect("can be met");
        assert_eq!((found.added, found.shares), (vec![-74.5, 0.0], vec![0.25, 0.75]));
        // Where the share is met already, nothing is added.
        assert_eq!(correct(&drawn(100, &[0.0]), 1, &[]).expect("nothing is asked").added, [0.0]);
        let met: Vec<f32> = (0..100).flat_map(|i| [0.0, if i < 25 { 1.0 } else { -1.0 }]).collect();
        assert_eq!(correct(&met, 2, &[(1, 0.25)]).expect("met").added, [0.0; 2]);
    }

    #[test]
    fn several_classes_take_turns_until_each_has_its_share() {
        let low = [0.0, 3.0, 9.0, 0.0, 12.0, 7.0, 4.0, 8.0, 30.0, 5.0];
        let logits = drawn(2_000, &low);
        let asked: Vec<(u32, f64)> = [1, 2, 4, 5, 6, 7, 8, 9].map(|class| (class, 0.1)).to_vec();
        let found = correct(&logits, 10, &asked).expect("can be met");
        for (class, share) in &asked {
            let share = found.shares[*class as usize] - share;
            assert!(share.abs() <= 1e-3, "class {class} is off by {share}");
        }
        assert_eq!((found.added[0], found.added[3]), (0.0, 0.0), "classes that were there keep their logits");
        let backwards: Vec<(u32, f64)> = asked.into_iter().rev().collect();
        assert_eq!(correct(&logits, 10, &backwards).expect("can be met"), found, "the order asked in says nothing");
    }

    #[test]
    fn equal_margins_are_decided_as_any_equal_logits_are() {
        // Four images that cannot be told apart, and one that can.
        let logits = [[0.0, -2.0], [0.0, -2.0], [0.0, -2.0], [0.0, -2.0], [0.0, -5.0]].concat();
        let found = correct(&logits, 2, &[(1, 0.4)]).expect("finite");
        assert_eq!((found.added, found.shares), (vec![0.0, 2.0], vec![1.0, 0.0]));
        let found = correct(&logits, 2, &[(0, 0.4)]).expect("finite");
        assert_eq!((found.added, found.shares), (vec![-2.0, 0.0], vec![1.0, 0.0]));
    }

    #[test]
    fn what_cannot_be_met_is_refused() {
        let logits = drawn(10, &[0.0, 1.0, 2.0]);
        assert_eq!(correct(&logits[..3], 3, &[(1, 0.3)]), Err(BiasError::Few(1)));
        for shares in [[0.5, 0.5], [0.0, 0.5], [f64::NAN, 0.1], [-0.1, 0.5]] {
            let refused = correct(&logits, 3, &[(1, shares[0]), (2, shares[1])]);
            assert!(matches!(refused, Err(BiasError::Shares(_))), "{shares:?}");
        }
        let mut broken = logits;
        broken[7] = f32::NAN;
        assert_eq!(correct(&broken, 3, &[(1, 0.3)]), Err(BiasError::NotFinite(2)));
    }

    #[test]
    fn a_constant_on_a_logit_is_one_on_the_heads_bias() {
        let device = Device::flex();
        let two = VitConfig {
            distillation_token: true,
            image_size: 8,
            patch_size: 4,
            width: 8,
            depth: 1,
            heads: 2,
            channels: 1,
            classes: 3,
            ..VitConfig::default()
        };
        let one = VitConfig { distillation_token: false, ..two.clone() };
        let shared = VitConfig { shared_head: true, ..two.clone() };
        let added = [0.0, 1.5, -2.0];
        let pixels: Vec<f32> = (0..128).map(|pixel| (pixel % 7) as f32 / 7.0).collect();
        for (config, readout) in [
            (&one, Readout::MeanLogits),
            (&one, Readout::MeanProbabilities),
            (&two, Readout::Class),
            (&two, Readout::Distill),
            (&two, Readout::MeanLogits),
            (&shared, Readout::Distill),
        ] {
            let config = NetworkConfig::from(config.clone());
            let network = config.init(1, &device).expect("valid");
            let says = |network: &Network| {
                let images =
                    Tensor::<4>::from_data(burn::tensor::TensorData::new(pixels.clone(), [2, 1, 8, 8]), &device);
                let logits = readout.of(&network.forward(images, None));
                logits.into_data().iter::<f32>().collect::<Vec<_>>()
            };
            let mut tensors = read_sync(read(&network)).expect("readable");
            assert!(add_to_heads(&mut tensors, &config, readout, &added), "{readout:?}");
            let raw = says(&network);
            let corrected = says(&assign(network, tensors).expect("the same names"));
            for (place, (raw, corrected)) in raw.iter().zip(corrected).enumerate() {
                assert!((raw + added[place % 3] - corrected).abs() < 1e-5, "{readout:?}: {raw} and {corrected}");
            }
        }
        let config = NetworkConfig::from(two);
        let mut tensors = read_sync(read(&config.init(1, &device).expect("valid"))).expect("readable");
        let before = tensors.clone();
        assert!(!add_to_heads(&mut tensors, &config, Readout::MeanProbabilities, &added) && tensors == before);
    }
}

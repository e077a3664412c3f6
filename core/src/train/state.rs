//! The state of a course, as named tensors on the host. The command's checkpoints and the page's saved runs contain it.

use std::collections::BTreeMap;

use burn::module::Module;

use super::AdamW;
use super::adamw::{AdamWRecord, Moments};
use crate::method::LogitTable;
use crate::weights::{AssignError, NamedTensor};

/// The state of a course after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Steps taken.
    pub step: u64,
    /// The student's parameters as `student.NAME`, and those of layers that are trained with it.
    pub learner: Vec<NamedTensor>,
    /// The optimiser's vectors by parameter: `first.PATH`, `second.PATH` and, if a mean is kept, `average.PATH`. Empty before the
    /// first step.
    pub moments: Vec<NamedTensor>,
    /// The table of past logits as `latest` and `copy`, row-major. Empty without retrospection.
    pub past: Vec<NamedTensor>,
}

/// Why a state does not belong to a course.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StateError {
    /// Its parameters are not those of the network.
    #[error(transparent)]
    Parameters(#[from] AssignError),
    /// Its optimiser has other parameters.
    #[error("the optimiser's state was made for another network")]
    Optimiser,
    /// Its table of past logits is missing, or belongs to other samples.
    #[error("the past logits were made for other samples")]
    Past,
}

const STUDENT: &str = "student.";

impl State {
    /// The student's parameters with a network's plain names, without layers that are trained with it.
    pub fn student(&self) -> Vec<NamedTensor> {
        let plain = |tensor: &NamedTensor| {
            let name = tensor.name.strip_prefix(STUDENT)?.to_owned();
            Some(NamedTensor { name, ..tensor.clone() })
        };
        self.learner.iter().filter_map(plain).collect()
    }

    /// Parameters with a network's plain names, as those of a learner that has only a student.
    pub fn learner_of(network: Vec<NamedTensor>) -> Vec<NamedTensor> {
        prefixed(STUDENT, network).collect()
    }
}

/// `tensors` with `prefix` in front of their names.
pub fn prefixed(prefix: &str, tensors: Vec<NamedTensor>) -> impl Iterator<Item = NamedTensor> {
    tensors.into_iter().map(move |tensor| NamedTensor { name: format!("{prefix}{}", tensor.name), ..tensor })
}

/// Takes out the tensors whose names begin with `prefix`, and removes the prefix.
pub fn take_prefixed(tensors: &mut Vec<NamedTensor>, prefix: &str) -> Vec<NamedTensor> {
    let plain = |tensor: NamedTensor| NamedTensor { name: tensor.name[prefix.len()..].to_owned(), ..tensor };
    tensors.extract_if(.., |tensor| tensor.name.starts_with(prefix)).map(plain).collect()
}

fn vector(name: String, values: Vec<f32>) -> NamedTensor {
    NamedTensor { name, shape: vec![values.len()], values }
}

const KINDS: [&str; 3] = ["first", "second", "average"];

/// The optimiser's vectors by name.
pub(super) fn of_record(record: AdamWRecord) -> Vec<NamedTensor> {
    let vectors = |Moments { path, first, second, average }: Moments| {
        let vectors = KINDS.into_iter().zip([Some(first), Some(second), average]);
        vectors.filter_map(|(kind, values)| Some(vector(format!("{kind}.{path}"), values?))).collect::<Vec<_>>()
    };
    let statistics = record.statistics.into_iter().map(|(path, values)| vector(format!("average.{path}"), values));
    let statistics: Vec<NamedTensor> = statistics.collect();
    record.moments.into_iter().flat_map(vectors).chain(statistics).collect()
}

/// The optimiser `fresh` after `steps` updates of `module`, from its named vectors.
pub(super) fn to_optimiser<M: Module>(
    fresh: AdamW,
    steps: u64,
    vectors: Vec<NamedTensor>,
    module: &M,
) -> Option<AdamW> {
    let mut moments: BTreeMap<String, [Option<Vec<f32>>; 3]> = BTreeMap::new();
    for tensor in vectors {
        let (kind, path) = tensor.name.split_once('.')?;
        let place = KINDS.iter().position(|known| *known == kind)?;
        moments.entry(path.to_owned()).or_default()[place] = Some(tensor.values);
    }
    let mut statistics = Vec::new();
    let mut kept = Vec::new();
    for (path, vectors) in moments {
        match vectors {
            [Some(first), Some(second), average] => kept.push(Moments { path, first, second, average }),
            // A mean without moments is of what no gradient reaches.
            [None, None, Some(average)] => statistics.push((path, average)),
            _ => return None,
        }
    }
    fresh.resume(AdamWRecord { steps, moments: kept, statistics }, module)
}

/// The table of past logits as two named tensors.
pub(super) fn of_table(table: &LogitTable) -> Vec<NamedTensor> {
    let [latest, copy] = table.contents().map(<[f32]>::to_vec);
    vec![vector("latest".into(), latest), vector("copy".into(), copy)]
}

/// The table with `samples` rows of `classes`, from its two named tensors.
pub(super) fn to_table(tensors: Vec<NamedTensor>, samples: usize, classes: usize) -> Option<LogitTable> {
    let mut by_name: BTreeMap<String, Vec<f32>> = tensors.into_iter().map(|t| (t.name, t.values)).collect();
    let [latest, copy] = ["latest", "copy"].map(|name| by_name.remove(name));
    let latest = latest.filter(|latest| latest.len() == samples * classes)?;
    LogitTable::from_contents(classes, [latest, copy?])
}

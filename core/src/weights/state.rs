//! A network's parameters as a list of named tensors, in checkpoint layout.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{ExecutionError, Tensor, TensorData};

use super::fit::belongs;

/// One parameter on the host, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its shape in the checkpoint.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

/// Why named tensors do not fit a network. All problems are listed, not only the first.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the weights do not fit the model: {}", listed(.problems))]
pub struct AssignError {
    /// One text for each tensor that is missing, unexpected or of the wrong shape. If no name is the model's, one text lists the
    /// names that the file has.
    pub problems: Vec<String>,
}

/// Problems of one kind come in hundreds: more than these are counted.
const SHOWN: usize = 8;

fn listed(problems: &[String]) -> String {
    let shown = problems.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match problems.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown}; and {more} more"),
    }
}

// How the names of tensors begin, and how many begin so, the commonest first.
fn beginnings<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        let end = name.find('.').map_or(name.len(), |dot| dot + 1);
        *counts.entry(&name[..end]).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    counts.iter().take(SHOWN).map(|(begin, count)| format!("{begin} ({count})")).collect::<Vec<_>>().join(", ")
}

/// Reads every parameter of `module` back from its device in one transfer, in the order of the module's fields.
///
/// # Errors
/// The device's own error if it was lost or could not be read.
pub async fn read<M: Module>(module: &M) -> Result<Vec<NamedTensor>, ExecutionError> {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    if collector.flat.is_empty() {
        return Ok(Vec::new());
    }
    let values: Vec<f32> = Tensor::cat(collector.flat, 0).into_data_async().await?.iter().collect();
    let mut rest = values.as_slice();
    let mut take = |shape: &[usize]| {
        let (head, tail) = rest.split_at(shape.iter().product());
        rest = tail;
        head.to_vec()
    };
    Ok(collector.names.into_iter().map(|(name, shape)| NamedTensor { values: take(&shape), name, shape }).collect())
}

/// Replaces every parameter of `module` by the tensor with its name.
///
/// # Errors
/// [`AssignError`] with every tensor that is missing, unexpected or of the wrong shape. The module is then lost.
pub fn assign<M: Module>(module: M, tensors: Vec<NamedTensor>) -> Result<M, AssignError> {
    assign_but(module, tensors, &[])
}

/// The same, but the layers called `kept` keep their values if there are no tensors for them.
pub(super) fn assign_but<M: Module>(module: M, tensors: Vec<NamedTensor>, kept: &[&str]) -> Result<M, AssignError> {
    let tensors = tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let mut assigner = Assigner { path: Path::default(), tensors, kept, found: 0, problems: Vec::new() };
    let module = module.map(&mut assigner);
    let mut problems = assigner.problems;
    if assigner.found == 0 && !assigner.tensors.is_empty() && !problems.is_empty() {
        let (needed, first) = (problems.len(), problems[0].split(' ').next().unwrap_or_default());
        return Err(AssignError {
            problems: vec![format!(
                "none of the {needed} tensors that it needs ({first}, ...) is there by name; there are {} whose names begin \
                 with {}",
                assigner.tensors.len(),
                beginnings(assigner.tensors.keys())
            )],
        });
    }
    problems.extend(assigner.tensors.into_values().map(|t| format!("{} {:?} has no place in it", t.name, t.shape)));
    if problems.is_empty() { Ok(module) } else { Err(AssignError { problems }) }
}

/// The current place of a visitor in a module.
#[derive(Default)]
pub(crate) struct Path {
    // (field or index, container type as Burn's derive names it)
    steps: Vec<(String, String)>,
}

impl Path {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        // Names in checkpoints contain neither the architecture of a `Network` nor the enclosing list of an aid.
        let name =
            if matches!((container, name), ("Enum:Network", _) | ("Struct:Learner", "aids")) { "" } else { name };
        self.steps.push((name.to_owned(), container.to_owned()));
    }

    pub(crate) fn leave(&mut self) {
        self.steps.pop();
    }

    /// The name of the parameter at this place in a checkpoint.
    pub(crate) fn name(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for (name, container) in &self.steps {
            match names.last_mut() {
                // In timm, the blocks of a RegNet's stage count from 1: s1.b1, s1.b2, ...
                Some(last) if container == "Vec" && last == "b" => {
                    *last = format!("b{}", name.parse::<usize>().map_or(0, |index| index + 1));
                }
                _ if name.is_empty() => {}
                _ => names.push(name.clone()),
            }
        }
        if let (Some(last), Some((_, container))) = (names.last_mut(), self.steps.last())
            && container == "Struct:LayerNorm"
        {
            *last = match last.as_str() {
                "gamma" => "weight".to_owned(),
                "beta" => "bias".to_owned(),
                _ => return names.join("."),
            };
        }
        names.join(".")
    }

    /// Whether the checkpoint stores this parameter transposed.
    fn is_transposed(&self, rank: usize) -> bool {
        rank == 2 && self.steps.last().is_some_and(|(_, container)| container == "Struct:Linear")
    }
}

#[derive(Default)]
struct Collector {
    path: Path,
    names: Vec<(String, Vec<usize>)>,
    flat: Vec<Tensor<1>>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.leave();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        let value = if self.path.is_transposed(D) { value.swap_dims(D - 2, D - 1) } else { value };
        self.names.push((self.path.name(), value.dims().to_vec()));
        self.flat.push(value.flatten(0, D - 1));
    }
}

struct Assigner<'a> {
    path: Path,
    tensors: BTreeMap<String, NamedTensor>,
    kept: &'a [&'a str],
    found: usize,
    problems: Vec<String>,
}

impl ModuleMapper for Assigner<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.leave();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let transposed = self.path.is_transposed(D);
        let mut expected = param.lazy_shape().to_vec();
        if transposed {
            expected.swap(D - 2, D - 1);
        }
        let Some(tensor) = self.tensors.remove(&name) else {
            if !self.kept.iter().any(|layer| belongs(&name, layer)) {
                self.problems.push(format!("{name} {expected:?} is missing"));
            }
            return param;
        };
        self.found += 1;
        if tensor.shape != expected || tensor.values.len() != expected.iter().product::<usize>() {
            self.problems.push(format!("{name} is {:?}, the model needs {expected:?}", tensor.shape));
            return param;
        }
        let (mut shape, mut values) = (expected, tensor.values);
        if transposed {
            // Transposed on the host, so that the parameter has the same layout on the device as in training. A transposed view
            // would be multiplied in another way, with different last bits.
            let (rows, columns) = (shape[0], shape[1]);
            let indices = (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column));
            values = indices.map(|index| values[index]).collect();
            shape.swap(0, 1);
        }
        param.map(|old| {
            let device = old.device();
            let tracked = old.is_require_grad();
            let new = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
            if tracked { new.detach().require_grad() } else { new }
        })
    }
}

//! A linear probe: a network in which only the heads learn.
//!
//! Why: it shows how much of a task is already in the features, and it is a cheap way to make a teacher from a pre-trained network.
//! Nothing below the heads is kept for a backward pass.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use crate::weights::Path;

/// `module` with all parameters frozen except those of `heads`, which a [`Network`](crate::model::Network) names.
pub fn heads_alone<M: Module>(module: M, heads: &[&str]) -> M {
    module.map(&mut Freeze { heads, path: Path::default() })
}

struct Freeze<'a> {
    heads: &'a [&'a str],
    path: Path,
}

impl ModuleMapper for Freeze<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.leave();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // A head may have two names in its path, and the network may be part of another module.
        let name = format!(".{}.", self.path.name());
        let learns = self.heads.iter().any(|head| name.contains(&format!(".{head}.")));
        if learns { param } else { param.set_require_grad(false) }
    }
}

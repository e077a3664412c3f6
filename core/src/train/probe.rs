//! A linear probe: a network of which the heads alone learn.
//!
//! Why: it says how much of a task is in the features already, and makes a teacher out of a pre-trained network cheaply:
//! nothing below the heads keeps anything for a backward pass.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use crate::weights::Path;

/// `module` with every parameter frozen that is not of one of `heads`, which a [`Network`](crate::model::Network) names.
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
        // A head may be two names long, and the network a part of something.
        let name = format!(".{}.", self.path.name());
        let learns = self.heads.iter().any(|head| name.contains(&format!(".{head}.")));
        if learns { param } else { param.set_require_grad(false) }
    }
}

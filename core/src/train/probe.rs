//! A linear probe: a network of which the heads alone learn.
//!
//! Why: it says how much of a task is in the features already, and makes a teacher out of a pre-trained network cheaply:
//! nothing below the heads keeps anything for a backward pass.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use crate::weights::Path;

/// The names under which timm's and torchvision's networks keep their last linear layers.
const HEADS: [&str; 3] = ["head", "head_dist", "fc"];

/// `module` with every parameter frozen that is not a head's.
pub fn heads_alone<M: Module>(module: M) -> M {
    module.map(&mut Freeze::default())
}

#[derive(Default)]
struct Freeze {
    path: Path,
}

impl ModuleMapper for Freeze {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.leave();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let learns = self.path.name().split('.').any(|name| HEADS.contains(&name));
        if learns { param } else { param.set_require_grad(false) }
    }
}

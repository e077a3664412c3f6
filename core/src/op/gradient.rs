//! The backward step of most operations: one input has a gradient, and all other inputs are constants.

use std::fmt::Debug;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

/// Computes the gradient of the input from the input, the kept tensors, and the gradient of the output.
type Step<B, K> = fn(FloatTensor<B>, K, FloatTensor<B>) -> FloatTensor<B>;

struct OneInput<B: Backend, K>(Step<B, K>);

impl<B: Backend, K> Debug for OneInput<B, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OneInput")
    }
}

impl<B: Backend, K: Clone + Send + Debug + 'static> Backward<B, 1> for OneInput<B, K> {
    /// The node of the input, and the kept tensors.
    type State = (NodeId, K);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (input, kept) = ops.state;
        let gradient = grads.consume::<B>(&ops.node);
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(input);
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<B>(node.id, self.0(input, kept, gradient));
        }
    }
}

/// Runs `forward` on `input`, and registers `backward` in the graph of gradients. `forward` returns the output, and what to keep
/// for the backward pass besides the input. Both are returned.
pub(super) fn track<B: Backend, C: CheckpointStrategy, K: Clone + Send + Debug + 'static>(
    input: FloatTensor<Autodiff<B, C>>,
    forward: impl FnOnce(FloatTensor<B>) -> (FloatTensor<B>, K),
    backward: Step<B, K>,
) -> (FloatTensor<Autodiff<B, C>>, K) {
    match OneInput::<B, K>(backward).prepare::<C>([input.node()]).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let node = prep.checkpoint(&input);
            let (output, kept) = forward(input.into_primitive());
            (prep.finish((node, kept.clone()), output), kept)
        }
        OpsKind::UnTracked(prep) => {
            let (output, kept) = forward(input.into_primitive());
            (prep.finish(output), kept)
        }
    }
}

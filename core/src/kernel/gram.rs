//! The squared difference of two Gram matrices, which keeps neither.
//!
//! Why: under automatic differentiation each loss between Gram matrices keeps its difference `[M, R, R]` for the backward
//! pass, for every pair of blocks; of 197 tokens or a large batch that is more than the features themselves. Here both
//! directions make the matrices again, of one pair of blocks at a time.
//!
//! With rows X of the student and Y of the teacher, and M pairs of matrices:
//!
//! ```text
//! E = X Xᵀ - Y Yᵀ        square_m = Σ_ij E_ij²        dX = 4 g_m E X,  given the gradient g of the squares
//! ```
//!
//! Invariants: `X`, `Y` and nothing else are kept. The products are the backend's own, which are the fastest at hand; so
//! there is no shader, and the portable definition serves every backend.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Shape, TensorMetadata};
use burn::tensor::Tensor;

use super::backend::KernelBackend;

/// The mean over all entries of `(X Xᵀ - Y Yᵀ)²`, `[1]`.
///
/// `student` is X, `[M, R, D_S]`, and `teacher` Y, `[M, R, D_T]`. Gradients flow to the student alone.
///
/// # Panics
/// If M or R differ.
pub fn gram_loss(student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
    let ([matrices, rows, _], [teacher_matrices, teacher_rows, _]) = (student.dims(), teacher.dims());
    assert_eq!(
        [matrices, rows],
        [teacher_matrices, teacher_rows],
        "gram_loss: student and teacher must both be [M, R, D] with the same M and R"
    );
    let squares = Dispatch::gram_difference(student.into_dispatch(), teacher.into_dispatch());
    Tensor::<1>::from_dispatch(squares).sum().div_scalar((matrices * rows * rows) as f64)
}

/// Shape of the squares, from that of the student's rows.
#[cfg(feature = "fusion")]
pub(super) fn squares_shape(student: &Shape) -> Shape {
    Shape::new([student[0]])
}

fn difference<B: KernelBackend>(student: FloatTensor<B>, teacher: FloatTensor<B>) -> FloatTensor<B> {
    let gram = |rows: FloatTensor<B>| B::matmul(rows.clone(), B::float_transpose(rows));
    B::float_sub(gram(student), gram(teacher))
}

/// The squares `[M]`.
pub(super) fn portable_forward<B: KernelBackend>(student: FloatTensor<B>, teacher: FloatTensor<B>) -> FloatTensor<B> {
    let matrices = student.shape()[0];
    let e = difference::<B>(student, teacher);
    let rows = B::float_sum_dim(B::float_mul(e.clone(), e), 2);
    B::float_reshape(B::float_sum_dim(rows, 1), Shape::new([matrices]))
}

/// The gradient of `student`.
pub(super) fn portable_backward<B: KernelBackend>(
    student: FloatTensor<B>,
    teacher: FloatTensor<B>,
    d_squares: FloatTensor<B>,
) -> FloatTensor<B> {
    let matrices = student.shape()[0];
    let e = difference::<B>(student.clone(), teacher);
    let factor = B::float_reshape(B::float_mul_scalar(d_squares, 4.0.into()), Shape::new([matrices, 1, 1]));
    B::float_mul(B::matmul(e, student), factor)
}

// ---- Gradient

#[derive(Debug)]
struct GramDifferenceBackward;

impl<B: KernelBackend> Backward<B, 1> for GramDifferenceBackward {
    /// The student by its node, and the teacher.
    type State = (NodeId, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (student, teacher) = ops.state;
        let d_squares = grads.consume::<B>(&ops.node);
        let student = checkpointer.retrieve_node_output::<FloatTensor<B>>(student);
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::gram_difference_backward(student, teacher, d_squares));
        }
    }
}

pub(super) fn tracked<B: KernelBackend, C: CheckpointStrategy>(
    student: FloatTensor<Autodiff<B, C>>,
    teacher: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let teacher = teacher.into_primitive();
    match GramDifferenceBackward.prepare::<C>([student.node()]).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let node = prep.checkpoint(&student);
            prep.finish((node, teacher.clone()), B::gram_difference(student.into_primitive(), teacher))
        }
        OpsKind::UnTracked(prep) => prep.finish(B::gram_difference(student.into_primitive(), teacher)),
    }
}

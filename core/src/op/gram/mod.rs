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

pub(super) mod cases;
mod portable;

#[cfg(feature = "fusion")]
use burn::backend::Shape;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::gradient::track;
use super::matmul::Matmul;

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
    let squares = Dispatch::gram_forward(student.into_dispatch(), teacher.into_dispatch());
    Tensor::<1>::from_dispatch(squares).sum().div_scalar((matrices * rows * rows) as f64)
}

/// Shape of the squares, from that of the student's rows.
#[cfg(feature = "fusion")]
fn squares_shape(student: &Shape) -> Shape {
    Shape::new([student[0]])
}

/// The squared differences of Gram matrices.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub(crate) trait Gram: Matmul {
    /// `[M, R, D_S]` and `[M, R, D_T]` to `[M]`.
    #[fusion(dtype = student, shape = squares_shape(student))]
    fn gram_forward(student: FloatTensor<Self>, teacher: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::forward::<Self>(student, teacher)
    }
}

/// The backward pass, on devices without gradients.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait GramGradient: Matmul {
    /// The gradient of `student`, from that of the squares.
    #[fusion(dtype = student, shape = student)]
    fn gram_backward(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        d_squares: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        portable::backward::<Self>(student, teacher, d_squares)
    }
}

impl Gram for Flex {}
impl Gram for CubeBackend {}
impl GramGradient for Flex {}
impl GramGradient for CubeBackend {}

impl<B: Gram + GramGradient, C: CheckpointStrategy> Gram for Autodiff<B, C> {
    fn gram_forward(student: FloatTensor<Self>, teacher: FloatTensor<Self>) -> FloatTensor<Self> {
        let forward = |student| (B::gram_forward(student, teacher.primitive().clone()), teacher.into_primitive());
        track::<B, C, _>(student, forward, B::gram_backward).0
    }
}

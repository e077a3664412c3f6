//! The squared difference of two Gram matrices. It keeps neither of them.
//!
//! Why: automatic differentiation would keep the difference `[M, R, R]` of every pair of blocks for the backward pass. For 197
//! tokens or a large batch this is larger than the features. Here each direction computes the matrices again, for one pair of
//! blocks at a time.
//!
//! X are the student's rows and Y the teacher's, with M pairs of matrices:
//!
//! ```text
//! E = X Xᵀ - Y Yᵀ        square_m = Σ_ij E_ij²        dX = 4 g_m E X,  given the gradient g of the squares
//! ```
//!
//! Invariants: only `X` and `Y` are kept. The products are the backend's own, which are the fastest available. So there is no
//! shader, and every backend uses the portable definition.

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
/// `student` is X, `[M, R, D_S]`, and `teacher` is Y, `[M, R, D_T]`. Gradients flow only to the student.
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

/// The shape of the squares, from the shape of the student's rows.
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
    /// The gradient of `student`, from the gradient of the squares.
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

//! The definition in tensor operations. The products are the backend's own.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Shape, TensorMetadata};

use crate::op::matmul::Matmul;

fn difference<B: Matmul>(student: FloatTensor<B>, teacher: FloatTensor<B>) -> FloatTensor<B> {
    let gram = |rows: FloatTensor<B>| B::matmul(rows.clone(), B::float_transpose(rows));
    B::float_sub(gram(student), gram(teacher))
}

/// The squares `[M]`.
pub(super) fn forward<B: Matmul>(student: FloatTensor<B>, teacher: FloatTensor<B>) -> FloatTensor<B> {
    let matrices = student.shape()[0];
    let e = difference::<B>(student, teacher);
    let rows = B::float_sum_dim(B::float_mul(e.clone(), e), 2);
    B::float_reshape(B::float_sum_dim(rows, 1), Shape::new([matrices]))
}

/// The gradient of `student`.
pub(super) fn backward<B: Matmul>(
    student: FloatTensor<B>,
    teacher: FloatTensor<B>,
    d_squares: FloatTensor<B>,
) -> FloatTensor<B> {
    let matrices = student.shape()[0];
    let e = difference::<B>(student.clone(), teacher);
    let factor = B::float_reshape(B::float_mul_scalar(d_squares, 4.0.into()), Shape::new([matrices, 1, 1]));
    B::float_mul(B::matmul(e, student), factor)
}

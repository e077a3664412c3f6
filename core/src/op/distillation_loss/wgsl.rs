//! The launches.

use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::portable::{self, DistillationNumbers};
use super::{DistillationLoss, DistillationLossGradient};
use crate::op::gpu::{ROW_REDUCE, Scalar, Shader, contiguous, launch, output, takes, wgsl};

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Backward,
}

/// Invocations of a row and of a workgroup. A short row would leave most of a workgroup idle, so several rows share one. A long row
/// has a whole workgroup of the largest size that every device supports.
fn layout(classes: usize) -> (usize, usize) {
    match classes {
        0..=64 => (8, 128),
        65..=512 => (32, 128),
        _ => (256, 256),
    }
}

impl Direction {
    fn shader(self, classes: usize, teacher: bool) -> Shader {
        let (lanes, threads) = layout(classes);
        const ROWS: &str = wgsl!("logit_rows.wgsl");
        let (file, texts): (_, &'static [&'static str]) = match self {
            Direction::Forward => ("distillation_loss", &[wgsl!("distillation_loss.wgsl"), ROWS, ROW_REDUCE]),
            Direction::Backward => {
                ("distillation_loss_backward", &[wgsl!("distillation_loss_backward.wgsl"), ROWS, ROW_REDUCE])
            }
        };
        Shader::new(file, texts, threads).value("lanes", lanes).flag("teacher", teacher).over_rows()
    }

    /// Launches the pass over `buffers`. Without a `temperature` there is no teacher among them.
    fn launch(self, [rows, classes]: [usize; 2], buffers: &[&CubeTensor], temperature: Option<f32>, smoothing: f32) {
        let (lanes, threads) = layout(classes);
        let scalars = [
            Scalar::Count(rows),
            Scalar::Count(classes),
            Scalar::Real(smoothing),
            Scalar::Real(1.0 / temperature.unwrap_or(1.0)),
            Scalar::Real(f32::NAN),
        ];
        let shader = self.shader(classes, temperature.is_some());
        launch(shader, rows.div_ceil(threads / lanes), buffers, &scalars);
    }
}

/// Every instance: each layout, with and without a teacher, in both directions.
pub(in crate::op) fn shaders() -> Vec<Shader> {
    let mut shaders = Vec::new();
    for classes in [10, 100, 1000] {
        for teacher in [true, false] {
            for direction in [Direction::Forward, Direction::Backward] {
                shaders.push(direction.shader(classes, teacher));
            }
        }
    }
    shaders
}

impl DistillationLoss for CubeBackend {
    fn distillation_loss_forward(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        numbers: DistillationNumbers,
    ) -> FloatTensor<Self> {
        if !takes(true, &[&student, &teacher, &targets]) {
            return portable::forward::<CubeBackend>(student, teacher, targets, numbers);
        }
        let [student, teacher, targets] = [student, teacher, targets].map(contiguous);
        let shape: [usize; 2] = student.meta.shape().dims();
        let rows = output(&student, [shape[0], 2]);
        Direction::Forward.launch(
            shape,
            &[&student, &targets, &rows, &teacher],
            Some(numbers.temperature),
            numbers.smoothing,
        );
        rows
    }

    fn cross_entropy_forward(
        student: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        if !takes(true, &[&student, &targets]) {
            return portable::cross_entropy::<CubeBackend>(student, targets, smoothing);
        }
        let [student, targets] = [student, targets].map(contiguous);
        let shape: [usize; 2] = student.meta.shape().dims();
        let rows = output(&student, [shape[0]]);
        Direction::Forward.launch(shape, &[&student, &targets, &rows], None, smoothing);
        rows
    }
}

impl DistillationLossGradient for CubeBackend {
    fn distillation_loss_backward(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
        numbers: DistillationNumbers,
    ) -> FloatTensor<Self> {
        if !takes(true, &[&student, &teacher, &targets, &d_rows]) {
            return portable::backward::<CubeBackend>(student, teacher, targets, d_rows, numbers);
        }
        let [student, teacher, targets, d_rows] = [student, teacher, targets, d_rows].map(contiguous);
        let shape: [usize; 2] = student.meta.shape().dims();
        let d_student = output(&student, shape);
        let buffers = [&student, &targets, &d_rows, &d_student, &teacher];
        Direction::Backward.launch(shape, &buffers, Some(numbers.temperature), numbers.smoothing);
        d_student
    }

    fn cross_entropy_backward(
        student: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        if !takes(true, &[&student, &targets, &d_rows]) {
            return portable::cross_entropy_backward::<CubeBackend>(student, targets, d_rows, smoothing);
        }
        let [student, targets, d_rows] = [student, targets, d_rows].map(contiguous);
        let shape: [usize; 2] = student.meta.shape().dims();
        let d_student = output(&student, shape);
        Direction::Backward.launch(shape, &[&student, &targets, &d_rows, &d_student], None, smoothing);
        d_student
    }
}

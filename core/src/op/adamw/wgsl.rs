//! The launches: the sums of squares if the norm is bounded, and the update.

use burn::backend::Shape;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;

use super::AdamW;
use super::portable::{self, AdamWNumbers, Three};
use crate::op::gpu::{ROW_REDUCE, Scalar, Shader, contiguous, launch, output, takes, wgsl};

/// Invocations in a workgroup, and numbers for each of them.
const THREADS: usize = 256;
const EACH: usize = 16;

/// Number of workgroups for a vector.
fn groups(elements: usize) -> usize {
    elements.div_ceil(THREADS * EACH)
}

fn squares_shader() -> Shader {
    let texts = &[wgsl!("squares.wgsl"), ROW_REDUCE];
    Shader::new("squares", texts, THREADS).value("each", EACH).over_rows()
}

fn update_shader(clip: bool) -> Shader {
    const TEXT: &str = wgsl!("adamw.wgsl");
    // Without clipping, ROW_REDUCE is left out: an unused function would still declare its workgroup memory.
    let texts: &[&str] = if clip { &[TEXT, ROW_REDUCE] } else { &[TEXT] };
    let shader = Shader::new("adamw", texts, THREADS).value("each", EACH).flag("clip", clip);
    if clip { shader.over_rows() } else { shader }
}

/// Every instance.
pub(in crate::op) fn shaders() -> Vec<Shader> {
    vec![squares_shader(), update_shader(false), update_shader(true)]
}

impl AdamW for CubeBackend {
    fn adamw(
        parameters: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        decayed: FloatTensor<Self>,
        numbers: AdamWNumbers,
    ) -> Three<Self> {
        if !takes(true, &[&parameters, &first, &second, &gradient, &decayed]) {
            return portable::update::<Self>(parameters, first, second, gradient, decayed, numbers);
        }
        let [parameters, gradient, decayed] = [parameters, gradient, decayed].map(contiguous);
        // The moments are overwritten. If another tensor shares their memory, as both zeros do at the start, a copy is overwritten.
        let [first, second] = [first, second].map(|moment| {
            let moment = contiguous(moment);
            if moment.can_mut() { moment } else { moment.copy() }
        });
        let elements = parameters.meta.num_elements();
        let groups = groups(elements);
        let updated = output(&parameters, Shape::new([elements]));
        let partial = (numbers.limit != f32::INFINITY).then(|| {
            let partial = output(&parameters, [groups]);
            launch(squares_shader(), groups, &[&gradient, &partial], &[Scalar::Count(elements), Scalar::Count(groups)]);
            partial
        });
        let scalars = [
            Scalar::Count(elements),
            Scalar::Count(groups),
            Scalar::Real(numbers.beta_1),
            Scalar::Real(numbers.beta_2),
            Scalar::Real(numbers.epsilon),
            Scalar::Real(numbers.step_size),
            Scalar::Real(numbers.correction_2),
            Scalar::Real(numbers.decay),
            Scalar::Real(numbers.limit),
            Scalar::Real(numbers.pull),
        ];
        let mut buffers = vec![&parameters, &first, &second, &gradient, &decayed, &updated];
        buffers.extend(&partial);
        launch(update_shader(partial.is_some()), groups, &buffers, &scalars);
        (updated, first, second)
    }
}

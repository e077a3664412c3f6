//! The launches.

use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;

use super::Join;
use super::portable::{self, Places, VECTORS};
use crate::op::gpu::{Scalar, Shader, contiguous, launch, takes, wgsl};

/// Invocations in a workgroup, and numbers for each of them.
const THREADS: usize = 256;
const EACH: usize = 8;

fn shader() -> Shader {
    Shader::new("join", &[wgsl!("join.wgsl")], THREADS).value("each", EACH)
}

/// The only instance.
pub(in crate::op) fn shaders() -> Vec<Shader> {
    vec![shader()]
}

impl Join for CubeBackend {
    fn join_six(
        joined: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        places: Places,
    ) -> FloatTensor<Self> {
        let pieces = [a, b, c, d, e, f];
        if !pieces.iter().chain([&joined]).all(|tensor| takes(true, &[tensor])) {
            return portable::join::<Self>(joined, pieces, places);
        }
        let pieces = pieces.map(contiguous);
        let joined = contiguous(joined);
        let joined = if joined.can_mut() { joined } else { joined.copy() };
        let lengths: [usize; VECTORS] =
            std::array::from_fn(|index| if index < places.count { pieces[index].meta.num_elements() } else { 0 });
        let scalars: Vec<Scalar> = places
            .starts
            .into_iter()
            .zip(lengths)
            .flat_map(|pair| <[usize; 2]>::from(pair).map(Scalar::Count))
            .collect();
        let buffers: Vec<_> = pieces.iter().chain([&joined]).collect();
        launch(shader(), lengths.iter().sum::<usize>().div_ceil(THREADS * EACH), &buffers, &scalars);
        joined
    }
}

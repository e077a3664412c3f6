//! Many vectors in one, six a dispatch.
//!
//! Why: the optimiser works on the gradients of a whole network as one vector, and Burn's concatenation launches a copy for
//! each of its hundreds of tensors: more than a quarter of all that a training step of DeiT-Ti launched.
//!
//! Invariants: the numbers are copied and nothing else, so the result does not depend on the path taken.

use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Backend, Dispatch, Flex, Slice, TensorMetadata};
use burn::tensor::{Device, Tensor};

use super::backend::KernelBackend;
use super::cpu;
use super::launch::{Scalar, Shader, contiguous, launch, runs_wgsl, wgsl};

/// Vectors of one dispatch: with the result, as many storage buffers as every device has.
const VECTORS: usize = 6;

/// A vector of `length` numbers that holds each of `pieces` from its place on, and zeros elsewhere.
///
/// No gradients flow through it.
///
/// # Panics
/// If a piece does not end within `length`.
pub fn join(length: usize, pieces: Vec<(usize, Tensor<1>)>, device: &Device) -> Tensor<1> {
    for (start, piece) in &pieces {
        let [count] = piece.dims();
        assert!(start + count <= length, "join: {count} numbers at {start} do not fit {length}");
    }
    let mut joined = Tensor::<1>::zeros([length], device).into_dispatch();
    for some in pieces.chunks(VECTORS) {
        // What is past the last stands for nothing.
        let piece = |index: usize| some.get(index).unwrap_or(&some[0]).1.clone().into_dispatch();
        let starts = std::array::from_fn(|index| some.get(index).map_or(0, |(start, _)| *start));
        let [a, b, c, d, e, f] = std::array::from_fn(piece);
        joined = Dispatch::join_six(joined, a, b, c, d, e, f, starts, some.len());
    }
    Tensor::from_dispatch(joined)
}

// ---- Portable definition

/// `joined` with the first `count` of `pieces` in their places.
pub(super) fn portable<B: Backend>(
    joined: FloatTensor<B>,
    pieces: [FloatTensor<B>; VECTORS],
    starts: [usize; VECTORS],
    count: usize,
) -> FloatTensor<B> {
    pieces.into_iter().zip(starts).take(count).fold(joined, |joined, (piece, start)| {
        let end = start + piece.shape().num_elements();
        B::float_slice_assign(joined, &[Slice::from(start..end)], piece)
    })
}

// ---- CPU

pub(super) fn flex(
    mut joined: FloatTensor<Flex>,
    pieces: [FloatTensor<Flex>; VECTORS],
    starts: [usize; VECTORS],
    count: usize,
) -> FloatTensor<Flex> {
    let pieces = pieces.map(cpu::contiguous);
    if pieces.iter().any(|piece| cpu::numbers(piece).is_none()) {
        return portable::<Flex>(joined, pieces, starts, count);
    }
    let Some(numbers) = cpu::exclusive(&mut joined) else {
        return portable::<Flex>(joined, pieces, starts, count);
    };
    for (piece, start) in pieces.iter().zip(starts).take(count) {
        let piece = cpu::numbers(piece).unwrap_or_default();
        numbers[start..start + piece.len()].copy_from_slice(piece);
    }
    joined
}

// ---- WGSL

/// Invocations of a workgroup, and numbers of each.
const THREADS: usize = 256;
const EACH: usize = 8;

fn shader() -> Shader {
    Shader::new("join", &[wgsl!("join.wgsl")], THREADS).value("each", EACH)
}

/// The one instance.
pub(super) fn shaders() -> Vec<Shader> {
    vec![shader()]
}

pub(super) fn wgsl(
    joined: FloatTensor<CubeBackend>,
    pieces: [FloatTensor<CubeBackend>; VECTORS],
    starts: [usize; VECTORS],
    count: usize,
) -> FloatTensor<CubeBackend> {
    if !pieces.iter().chain([&joined]).all(|tensor| runs_wgsl(true, &[tensor])) {
        return portable::<CubeBackend>(joined, pieces, starts, count);
    }
    let pieces = pieces.map(contiguous);
    let joined = contiguous(joined);
    let joined = if joined.can_mut() { joined } else { joined.copy() };
    let lengths: [usize; VECTORS] =
        std::array::from_fn(|index| if index < count { pieces[index].meta.num_elements() } else { 0 });
    let scalars: Vec<Scalar> =
        starts.into_iter().zip(lengths).flat_map(|pair| <[usize; 2]>::from(pair).map(Scalar::Count)).collect();
    let buffers: Vec<_> = pieces.iter().chain([&joined]).collect();
    launch(shader(), lengths.iter().sum::<usize>().div_ceil(THREADS * EACH), &buffers, &scalars);
    joined
}

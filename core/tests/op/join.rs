//! Vectors laid into one.

use burn::tensor::Tensor;
use potstill_core::op::join;

use crate::devices::devices;
use crate::numbers::{tensor, values, wave};

#[test]
fn vectors_are_joined_where_they_belong() {
    // More than a dispatch takes, more than a workgroup copies, an empty one, gaps between them.
    let lengths = [5, 1, 300, 0, 2048, 2049, 7, 10_000];
    for count in 1..=lengths.len() {
        let mut start = 3;
        let mut expected = vec![0.0; 3];
        let mut vectors = Vec::new();
        for (index, &length) in lengths[..count].iter().enumerate() {
            let vector = wave(length, 0.3 + index as f32, 0.1, 1.0);
            expected.extend(&vector);
            expected.extend([0.0; 2]);
            vectors.push((start, vector));
            start += length + 2;
        }
        expected.resize(start + 64, 0.0);
        for (name, device) in devices() {
            // The odd ones are columns of a matrix, whose numbers do not lie side by side.
            let piece = |(index, (start, values)): (usize, &(usize, Vec<f32>))| {
                let length = values.len();
                let pairs: Vec<f32> = values.iter().flat_map(|&value| [9.0, value]).collect();
                let vector = match index % 2 {
                    0 => tensor(values, [length], &device),
                    _ => tensor::<2>(&pairs, [length, 2], &device).narrow(1, 1, 1).reshape([length]),
                };
                (*start, vector)
            };
            let pieces: Vec<(usize, Tensor<1>)> = vectors.iter().enumerate().map(piece).collect();
            let held: Vec<_> = pieces.iter().map(|(_, piece)| piece.clone()).collect();
            assert!(values(join(expected.len(), pieces, &device)) == expected, "{name}, {count} vectors");
            for (piece, (_, vector)) in held.into_iter().zip(&vectors) {
                assert!(values(piece) == *vector, "{name}: a vector was changed");
            }
        }
    }
}

//! Copies into the vector in place.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

use super::Join;
use super::portable::{self, Places};
use crate::op::cpu;

impl Join for Flex {
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
        let pieces = [a, b, c, d, e, f].map(cpu::contiguous);
        if pieces.iter().any(|piece| cpu::numbers(piece).is_none()) {
            return portable::join::<Self>(joined, pieces, places);
        }
        let mut joined = joined;
        let Some(numbers) = cpu::exclusive(&mut joined) else {
            return portable::join::<Self>(joined, pieces, places);
        };
        for (piece, start) in pieces.iter().zip(places.starts).take(places.count) {
            let piece = cpu::numbers(piece).unwrap_or_default();
            numbers[start..start + piece.len()].copy_from_slice(piece);
        }
        joined
    }
}

//! Handwritten digits, drawn by the command itself.

use std::sync::Arc;

use potstill_core::data::{Dataset, Digits, Normalisation, Split as DigitsSplit};

use super::{Set, Split, in_memory};
use crate::error::{Failure, Result};

/// Samples, unless a number is asked for.
const TRAIN: usize = 20_000;
const TEST: usize = 10_000;
/// Most digits that are drawn: 784 MB of them.
const MOST: usize = 1_000_000;

/// The data set.
pub const SET: Set = Set {
    name: "digits",
    open: |_, split, how| open(split, how.samples),
    has_validation: false,
    takes_folders: false,
    ink: true,
    normalisation: Normalisation::mnist,
    start: |_, _| Ok("digits".to_owned()),
    source: None,
};

fn open(split: Split, samples: Option<usize>) -> Result<Arc<dyn Dataset>> {
    let (split, samples) = match split {
        // A recipe that takes fewer chooses them among the usual ones.
        Split::Train => (DigitsSplit::Train, samples.map_or(TRAIN, |samples| samples.max(TRAIN))),
        _ => (DigitsSplit::Test, samples.unwrap_or(TEST)),
    };
    if samples > MOST {
        return Err(Failure::usage(format!("{samples} samples of digits were asked for; ask for 1 to {MOST}")));
    }
    // Drawing a digit takes far longer than reading it.
    let digits = Digits::new(split, samples);
    Ok(Arc::new(in_memory(&digits)?.map_err(|_| Failure::work("the digits differ in size"))?))
}

#[cfg(test)]
mod tests {
    use super::super::{How, find, open};
    use super::*;

    #[test]
    fn digits_are_drawn_as_asked() {
        let sized = |split, samples| open("digits", None, split, How { samples, ..How::default() });
        let set = open("DIGITS", None, Split::Test, How::default()).expect("digits");
        assert_eq!((set.len(), set.classes(), set.name()), (10_000, 10, "digits-test"));
        let mut drawn = [0; 784];
        for index in [0, 4_999, 5_000, 9_999] {
            Digits::new(DigitsSplit::Test, 10_000).draw(index, &mut drawn);
            assert_eq!(*set.image(index).expect("in memory").pixels, drawn);
        }
        let more = sized(Split::Test, Some(10_003)).expect("digits");
        assert_eq!((more.len(), more.label(10_002)), (10_003, 2));
        let few = sized(Split::HeldOut, Some(30)).expect("digits");
        assert_eq!((few.len(), few.image(29).expect("drawn").pixels), (30, set.image(29).expect("drawn").pixels));
        assert_eq!(sized(Split::Train, Some(30)).expect("digits").len(), 20_000);
        assert_eq!(sized(Split::Train, Some(1 << 40)).err().map(|f| f.code()), Some(2));
        assert_eq!(find("cifar").err().map(|f| f.code()), Some(2));
    }
}

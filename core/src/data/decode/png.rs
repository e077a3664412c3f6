//! PNG without what is beside its pixels.
//!
//! Profiles and texts are compressed, a megabyte of file to a gigabyte of memory, and nothing here reads them.

use std::borrow::Cow;

const SIGNATURE: usize = 8;
/// Length, type and checksum of a chunk.
const AROUND: usize = 12;

/// The file with no more than pixels, palette, transparency and EXIF. Where a chunk is cut short, all that follows is kept,
/// for the decoder to say so.
pub fn pixels_alone(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut kept: Vec<(usize, usize)> = Vec::new();
    let mut place = SIGNATURE;
    while let Some(head) = bytes.get(place..place + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = place.checked_add(length).and_then(|end| end.checked_add(AROUND)) else { break };
        if end > bytes.len() {
            break;
        }
        // An upper-case first letter is a chunk without which there is no picture.
        if head[4].is_ascii_uppercase() || matches!(&head[4..8], b"tRNS" | b"eXIf") {
            match kept.last_mut() {
                Some(last) if last.1 == place => last.1 = end,
                _ => kept.push((place, end)),
            }
        }
        place = end;
    }
    let rest = bytes.get(place..).unwrap_or_default();
    if kept.as_slice() == [(SIGNATURE, place)] || kept.is_empty() {
        return Cow::Borrowed(bytes);
    }
    let mut alone = bytes[..SIGNATURE].to_vec();
    kept.into_iter().for_each(|(start, end)| alone.extend_from_slice(&bytes[start..end]));
    alone.extend_from_slice(rest);
    Cow::Owned(alone)
}

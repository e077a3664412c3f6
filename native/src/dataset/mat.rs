//! Vectors of numbers from MATLAB's level 5 files, in which Oxford keeps its flowers' labels and splits.
//!
//! A file is a header of 128 bytes and elements: a tag (type and length, little- or big-endian as the header says) and data
//! padded to 8 bytes. An element may be a zlib stream that holds one other; a matrix holds elements of its own: flags, sizes,
//! name, values. Every length is checked against what is left before anything is read, and a stream is read no further
//! than a bound, so that a damaged file takes neither memory nor the program.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::ZlibDecoder;

/// Longest element once decompressed, and most elements.
const MAX_ELEMENT: u64 = 16 << 20;
const MAX_ELEMENTS: usize = 256;
const HEADER: usize = 128;

const INT32: u32 = 5;
const UINT32: u32 = 6;
const INT8: u32 = 1;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// Classes of arrays that hold plain numbers: double, single and the integers.
const NUMERIC: std::ops::RangeInclusive<u8> = 6..=15;

/// The real numeric arrays of a file by name, each in MATLAB's order.
///
/// # Errors
/// Says where the file breaks the format.
pub fn arrays(bytes: &[u8]) -> Result<BTreeMap<String, Vec<f64>>, String> {
    let Some((header, body)) = bytes.split_at_checked(HEADER) else {
        return Err(format!("it has {} bytes, and a MATLAB file begins with {HEADER}", bytes.len()));
    };
    let big = match &header[HEADER - 2..] {
        b"IM" => false,
        b"MI" => true,
        _ => return Err("it is no MATLAB file of level 5 (its byte order is not marked)".to_owned()),
    };
    let mut reader = Reader { rest: body, big };
    let mut arrays = BTreeMap::new();
    for _ in 0..MAX_ELEMENTS {
        if reader.rest.is_empty() {
            return Ok(arrays);
        }
        let (kind, data) = reader.element()?;
        let inflated;
        let (kind, data) = match kind {
            COMPRESSED => {
                inflated = inflate(data)?;
                Reader { rest: &inflated, big }.element()?
            }
            _ => (kind, data),
        };
        if kind == MATRIX
            && let Some((name, values)) = matrix(Reader { rest: data, big })?
        {
            arrays.insert(name, values);
        }
    }
    Err(format!("it has more than {MAX_ELEMENTS} elements"))
}

fn inflate(data: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(data)
        .take(MAX_ELEMENT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("an element cannot be decompressed: {error}"))?;
    match bytes.len() as u64 > MAX_ELEMENT {
        true => Err(format!("an element holds more than {MAX_ELEMENT} bytes")),
        false => Ok(bytes),
    }
}

/// A matrix's name and values, or `None` for one that does not hold real numbers.
fn matrix(mut reader: Reader<'_>) -> Result<Option<(String, Vec<f64>)>, String> {
    let (kind, flags) = reader.element()?;
    if kind != UINT32 || flags.len() < 8 {
        return Err("a matrix has no flags".to_owned());
    }
    let flags = reader.u32(flags);
    let (class, complex) = (flags as u8, flags & 0x800 != 0);
    let (kind, sizes) = reader.element()?;
    if kind != INT32 {
        return Err("a matrix has no sizes".to_owned());
    }
    let expected = sizes
        .chunks_exact(4)
        .try_fold(1u64, |product, size| product.checked_mul(u64::from(reader.u32(size))))
        .filter(|&values| values <= MAX_ELEMENT);
    let (kind, name) = reader.element()?;
    if kind != INT8 {
        return Err("a matrix has no name".to_owned());
    }
    let name = String::from_utf8_lossy(name).into_owned();
    if !NUMERIC.contains(&class) || complex {
        return Ok(None);
    }
    let (kind, data) = reader.element()?;
    let values = reader.numbers(kind, data)?;
    match expected == Some(values.len() as u64) {
        true => Ok(Some((name, values))),
        false => Err(format!("the matrix {name:?} holds {} values, and its sizes say otherwise", values.len())),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    big: bool,
}

impl<'a> Reader<'a> {
    /// The next element's type and data.
    fn element(&mut self) -> Result<(u32, &'a [u8]), String> {
        let short = || "it ends inside an element; it is truncated".to_owned();
        let tag = self.rest.get(..8).ok_or_else(short)?;
        let first = self.u32(&tag[..4]);
        // Up to four bytes of data stand in the tag itself, their number in its upper half.
        let small = (first >> 16) as usize;
        if small > 0 {
            let data = tag.get(4..4 + small).ok_or("a small element declares more than four bytes")?;
            self.rest = &self.rest[8..];
            return Ok((first & 0xffff, data));
        }
        let length = self.u32(&tag[4..8]) as usize;
        let data = self.rest[8..].get(..length).ok_or_else(short)?;
        // Compressed elements are not padded, and the last one's padding may be missing.
        let padded = if first == COMPRESSED { length } else { length.div_ceil(8) * 8 };
        self.rest = self.rest[8..].get(padded..).unwrap_or_default();
        Ok((first, data))
    }

    fn u32(&self, bytes: &[u8]) -> u32 {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// Numbers of any stored type: a double array of small whole numbers is kept as bytes.
    fn numbers(&self, kind: u32, data: &[u8]) -> Result<Vec<f64>, String> {
        macro_rules! read {
            ($type:ty) => {
                data.chunks_exact(size_of::<$type>())
                    .map(|bytes| {
                        let bytes = bytes.try_into().expect("a chunk of this size");
                        (if self.big { <$type>::from_be_bytes(bytes) } else { <$type>::from_le_bytes(bytes) }) as f64
                    })
                    .collect()
            };
        }
        Ok(match kind {
            1 => read!(i8),
            2 => read!(u8),
            3 => read!(i16),
            4 => read!(u16),
            5 => read!(i32),
            6 => read!(u32),
            7 => read!(f32),
            9 => read!(f64),
            12 => read!(i64),
            13 => read!(u64),
            _ => return Err(format!("values of type {kind} are not numbers")),
        })
    }
}

#[cfg(test)]
pub mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use proptest::prelude::*;

    use super::*;

    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().div_ceil(8) * 8, 0);
        bytes
    }

    /// A file of double arrays of one row, kept as 16-bit numbers, compressed or not.
    pub fn file(arrays: &[(&str, &[u16])], compressed: bool) -> Vec<u8> {
        let mut bytes = vec![b' '; HEADER];
        bytes[HEADER - 4..].copy_from_slice(&[0, 1, b'I', b'M']);
        for (name, values) in arrays {
            let sizes = [1u32.to_le_bytes(), (values.len() as u32).to_le_bytes()].concat();
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let flags = [6u32.to_le_bytes(), [0; 4]].concat();
            // A short name stands in its tag.
            let name = match name.len() {
                1..=4 => {
                    let mut tag = (INT8 | (name.len() as u32) << 16).to_le_bytes().to_vec();
                    tag.extend(name.as_bytes());
                    tag.resize(8, 0);
                    tag
                }
                _ => element(INT8, name.as_bytes()),
            };
            let parts = [element(UINT32, &flags), element(INT32, &sizes), name, element(4, &data)].concat();
            let matrix = element(MATRIX, &parts);
            match compressed {
                false => bytes.extend(matrix),
                true => {
                    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                    encoder.write_all(&matrix).expect("memory");
                    let data = encoder.finish().expect("memory");
                    bytes.extend([COMPRESSED.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat());
                    bytes.extend(data);
                }
            }
        }
        bytes
    }

    #[test]
    fn arrays_are_read_compressed_or_not() {
        for compressed in [false, true] {
            let found = arrays(&file(&[("labels", &[1, 500, 3]), ("id", &[7])], compressed)).expect("reads");
            assert_eq!(found["labels"], [1.0, 500.0, 3.0]);
            assert_eq!(found["id"], [7.0]);
        }
    }

    #[test]
    fn damage_is_named() {
        let whole = file(&[("labels", &[1, 2, 3])], false);
        let mut lie = whole.clone();
        // The second size: the tags of the matrix and of the flags, the flags, the tag of the sizes and the first size.
        lie[HEADER + 8 + 16 + 8 + 4] = 9;
        for (bytes, word) in [
            (&whole[..100], "100 bytes"),
            (&whole[..HEADER + 20], "truncated"),
            (&[0; 200][..], "byte order"),
            (&lie, "sizes"),
        ] {
            let error = arrays(bytes).expect_err(word);
            assert!(error.contains(word), "{error}");
        }
        // A few kilobytes that hold 32 MiB.
        let mut bomb = whole[..HEADER].to_vec();
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&vec![0; 32 << 20]).expect("memory");
        let data = encoder.finish().expect("memory");
        bomb.extend([COMPRESSED.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat());
        bomb.extend(data);
        assert!(arrays(&bomb).expect_err("a bomb").contains("more than"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut file = file(&[], false);
            file.extend(bytes);
            let _ = arrays(&file);
        }

        #[test]
        fn no_damage_panics(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
            compressed in any::<bool>(),
        ) {
            let mut bytes = file(&[("labels", &[1, 2, 3, 4]), ("id", &[9])], compressed);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = arrays(&bytes);
            let _ = arrays(&bytes[..cut.index(bytes.len())]);
        }
    }
}

//! The IDX format of MNIST and its descendants.
//!
//! A file is a magic number (two zero bytes, an element type, the number of sizes), the sizes as big-endian 32-bit
//! numbers, and the elements, last size fastest. The bytes come from a download or a user's disk, so nothing in them
//! is believed: sizes are multiplied with overflow checks and compared with the bytes that are there before anything
//! is allocated, and every fault is an [`Error`] with numbers.

use std::cmp::Ordering;
use std::io::Read;

use super::{Error, ImageShape, Images};

/// Longest header that is read: the magic number and [`MAX_SIZES`] sizes.
const MAX_HEADER: usize = 4 + 4 * MAX_SIZES;
/// Most sizes that a file may have.
pub const MAX_SIZES: usize = 4;
/// Most bytes that a file may have once decompressed: twice the largest known set of this format (EMNIST, 0.55 GB).
pub const MAX_BYTES: u64 = 1 << 30;
/// Greatest side of an image, in pixels; beyond it a header is taken to be damaged.
pub const MAX_SIDE: u64 = 4096;

/// Element type of unsigned bytes.
const UNSIGNED_BYTE: u8 = 0x08;
const IMAGES: &str = "MNIST images";
const LABELS: &str = "MNIST labels";

/// A parsed header.
struct Header {
    sizes: [u64; MAX_SIZES],
    count: usize,
    /// Bytes of the header itself.
    bytes: u64,
    /// Bytes of header and data.
    total: u64,
}

/// Reads a header; `expected` is the number of sizes demanded, if any.
fn header(bytes: &[u8], what: &'static str, expected: Option<u8>) -> Result<Header, Error> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(Error::Compressed { what });
    }
    let short = |needed: u64| Error::Header { what, needed, found: bytes.len() as u64 };
    let magic: [u8; 4] = bytes
        .get(..4)
        .and_then(|b| b.try_into().ok())
        .ok_or_else(|| short(4 + 4 * u64::from(expected.unwrap_or(1))))?;
    let [zero0, zero1, element, count] = magic;
    let wrong = |count: u8| Error::Magic {
        what,
        expected: u32::from_be_bytes([0, 0, UNSIGNED_BYTE, count]),
        found: u32::from_be_bytes(magic),
    };
    if zero0 != 0 || zero1 != 0 {
        return Err(wrong(expected.unwrap_or(3)));
    }
    if element != UNSIGNED_BYTE {
        return Err(Error::ElementType { what, found: element });
    }
    if expected.is_some_and(|e| e != count) || count == 0 || usize::from(count) > MAX_SIZES {
        return Err(wrong(expected.unwrap_or(3)));
    }
    let count = usize::from(count);
    let length = 4 + 4 * count;
    let fields = bytes.get(4..length).ok_or_else(|| short(length as u64))?;
    let mut sizes = [1; MAX_SIZES];
    let mut product = 1u64;
    for (axis, (size, field)) in sizes.iter_mut().zip(fields.chunks_exact(4)).enumerate() {
        *size = field.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
        let limit = if axis == 0 { MAX_BYTES } else { MAX_SIDE };
        if *size == 0 || *size > limit {
            return Err(Error::Size { what, axis, found: *size, limit });
        }
        product = product
            .checked_mul(*size)
            .filter(|&bytes| bytes <= MAX_BYTES)
            .ok_or(Error::TooLarge { what, limit: MAX_BYTES })?;
    }
    let bytes = length as u64;
    Ok(Header { sizes, count, bytes, total: bytes + product })
}

/// Reads a whole file: its header, and its data of exactly the declared length.
fn parse<'a>(bytes: &'a [u8], what: &'static str, sizes: u8) -> Result<(Header, &'a [u8]), Error> {
    let header = header(bytes, what, Some(sizes))?;
    let found = bytes.len() as u64;
    if found < header.total {
        return Err(Error::Truncated { what, expected: header.total, found });
    }
    if found > header.total {
        return Err(Error::Trailing { what, expected: header.total, found });
    }
    let data = &bytes[header.bytes as usize..];
    Ok((header, data))
}

/// Reads a file to its end, but no further than one byte beyond what its own header declares, so that a small compressed
/// file cannot fill the memory. The outer error is the reader's, the inner one the format's.
///
/// # Errors
/// Inner: a header that is short, damaged, of another kind, or declares more than [`MAX_BYTES`]; fewer or more bytes than
/// it declares.
pub fn read(mut reader: impl Read) -> std::io::Result<Result<Vec<u8>, Error>> {
    let what = "IDX data";
    let mut bytes = Vec::new();
    reader.by_ref().take(MAX_HEADER as u64).read_to_end(&mut bytes)?;
    let expected = match header(&bytes, what, None) {
        Ok(header) => header.total,
        Err(fault) => return Ok(Err(fault)),
    };
    let left = (expected + 1).saturating_sub(bytes.len() as u64);
    reader.take(left).read_to_end(&mut bytes)?;
    let found = bytes.len() as u64;
    Ok(match found.cmp(&expected) {
        Ordering::Less => Err(Error::Truncated { what, expected, found }),
        Ordering::Equal => Ok(bytes),
        Ordering::Greater => Err(Error::Trailing { what, expected, found }),
    })
}

/// Reads MNIST from decompressed bytes.
///
/// # Errors
/// As [`labelled`].
pub fn mnist(images: &[u8], labels: &[u8]) -> Result<Images, Error> {
    labelled(images, labels, (0..10).map(|class| class.to_string()).collect(), 0)
}

/// Reads a set of MNIST's form from decompressed bytes; the file calls the first of `class_names` the number `first`.
///
/// # Errors
/// If either file is damaged, the two do not belong together, or they are of other classes.
pub fn labelled(images: &[u8], labels: &[u8], class_names: Vec<String>, first: u8) -> Result<Images, Error> {
    let (image_header, pixels) = parse(images, IMAGES, 3)?;
    let (label_header, classes) = parse(labels, LABELS, 1)?;
    debug_assert!(image_header.count == 3 && label_header.count == 1);
    let [count, height, width, _] = image_header.sizes;
    if count != label_header.sizes[0] {
        return Err(Error::Count { images: count, labels: label_header.sizes[0] });
    }
    let known = class_names.len() as u64;
    let own = |(index, &label): (usize, &u8)| {
        let class = u64::from(label).checked_sub(u64::from(first)).filter(|&class| class < known);
        // What the file says is what its owner can look up.
        class.map(|class| class as u32).ok_or(Error::Label {
            index: index as u64,
            label: u64::from(label),
            classes: known,
        })
    };
    let classes = classes.iter().enumerate().map(own).collect::<Result<_, _>>()?;
    // Both sides are at most MAX_SIDE, so they fit any usize.
    let shape = ImageShape { channels: 1, height: height as usize, width: width as usize };
    Images::new("mnist", shape, class_names, pixels.to_vec(), classes)
}

#[cfg(test)]
mod tests {
    use super::super::{Dataset, Purpose, Rng};
    use super::*;

    fn file(sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    fn pair() -> (Vec<u8>, Vec<u8>) {
        let pixels: Vec<u8> = (0..24).collect();
        (file(&[4, 3, 2], &pixels), file(&[4], &[7, 0, 9, 1]))
    }

    #[test]
    fn reads_images_and_labels() {
        let (images, labels) = pair();
        let set = mnist(&images, &labels).unwrap();
        assert_eq!((set.len(), set.classes()), (4, 10));
        assert_eq!(set.shape(), Some(ImageShape { channels: 1, height: 3, width: 2 }));
        assert_eq!(*set.image(2).unwrap().pixels, [12, 13, 14, 15, 16, 17]);
        assert_eq!([0, 1, 2, 3].map(|i| set.label(i)), [7, 0, 9, 1]);
    }

    #[test]
    fn names_every_fault_with_its_numbers() {
        let (images, labels) = pair();
        let fails = |images: &[u8], labels: &[u8]| mnist(images, labels).unwrap_err();
        assert_eq!(fails(&[], &labels), Error::Header { what: IMAGES, needed: 16, found: 0 });
        assert_eq!(fails(&images[..10], &labels), Error::Header { what: IMAGES, needed: 16, found: 10 });
        assert_eq!(fails(&[0x1f, 0x8b, 8, 0], &labels), Error::Compressed { what: IMAGES });
        assert_eq!(fails(&labels, &images), Error::Magic { what: IMAGES, expected: 0x803, found: 0x801 });
        assert_eq!(fails(b"PK\x03\x04", &labels), Error::Magic { what: IMAGES, expected: 0x803, found: 0x504b_0304 });
        assert_eq!(fails(&[0, 0, 0x0d, 3], &labels), Error::ElementType { what: IMAGES, found: 0x0d });
        let (what, expected) = (IMAGES, 40);
        assert_eq!(fails(&images[..39], &labels), Error::Truncated { what, expected, found: 39 });
        assert_eq!(fails(&[&images[..], &[0]].concat(), &labels), Error::Trailing { what, expected, found: 41 });
        let zero = file(&[4, 0, 2], &[]);
        assert_eq!(fails(&zero, &labels), Error::Size { what, axis: 1, found: 0, limit: MAX_SIDE });
        let wide = file(&[4, 3, u32::MAX], &[]);
        assert_eq!(fails(&wide, &labels), Error::Size { what, axis: 2, found: u32::MAX.into(), limit: MAX_SIDE });
        let vast = file(&[1 << 30, 4096, 4096], &[]);
        assert_eq!(fails(&vast, &labels), Error::TooLarge { what, limit: MAX_BYTES });
        assert_eq!(fails(&images, &file(&[3], &[1, 2, 3])), Error::Count { images: 4, labels: 3 });
        let beyond = file(&[4], &[1, 2, 10, 3]);
        assert_eq!(fails(&images, &beyond), Error::Label { index: 2, label: 10, classes: 10 });
    }

    #[test]
    fn no_more_is_read_than_the_header_declares() {
        let (images, labels) = pair();
        let found = |bytes: &[u8]| read(bytes).expect("memory");
        assert_eq!(found(&images).as_ref(), Ok(&images));
        assert_eq!(found(&labels).as_ref(), Ok(&labels));
        let what = "IDX data";
        assert_eq!(found(&images[..15]), Err(Error::Header { what, needed: 16, found: 15 }));
        assert_eq!(found(&images[..39]), Err(Error::Truncated { what, expected: 40, found: 39 }));
        assert!(found(&[0, 0, 8, 0]).is_err() && found(&[0, 0, 8, 200]).is_err());
        let endless = images.chain(std::io::repeat(0));
        assert_eq!(read(endless).expect("memory"), Err(Error::Trailing { what, expected: 40, found: 41 }));
    }

    /// Damaged files are refused or read, but never end the program, and what is read keeps the promises of `Images`.
    #[test]
    fn no_damage_panics() {
        let (images, labels) = pair();
        for case in 0..20_000 {
            let mut rng = Rng::new(1, 0, case, Purpose::Test);
            let mut files = [images.clone(), labels.clone()];
            for _ in 0..1 + rng.below(3) {
                let file = &mut files[rng.below(2) as usize];
                let at = rng.below(file.len().max(1) as u64) as usize;
                match rng.below(4) {
                    0 => file.truncate(at),
                    1 => file.push(rng.next_u64() as u8),
                    // The header is where damage does most.
                    2 if file.len() > 16 => file[at % 16] = rng.next_u64() as u8,
                    _ if at < file.len() => file[at] ^= 1 << rng.below(8),
                    _ => {}
                }
            }
            let _ = read(&*files[0]).expect("memory");
            match mnist(&files[0], &files[1]) {
                Ok(set) => {
                    for index in 0..set.len() {
                        assert_eq!(set.image(index).unwrap().pixels.len(), set.shape().unwrap().bytes());
                        assert!((set.label(index) as usize) < set.classes());
                    }
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}

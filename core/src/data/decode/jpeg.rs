//! JPEG, strictly: the decoder is lenient, and fills what is missing with grey.
//!
//! What it would pass over or get wrong is found in the file's segments before it decodes: a missing end, two components,
//! and colours sampled in ways that nothing that writes photographs takes.

use std::borrow::Cow;

use image::RgbImage;
use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{DecodeError, allowed, whole};

/// Markers, the byte after 0xff.
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;

/// Pixels that a sample of both colours stands for, across and down, in files that cameras and programs write.
const RATIOS: [(u8, u8); 5] = [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)];

/// Decodes a JPEG, and says how the camera was held.
pub fn decode(bytes: &[u8], allow_truncated: bool) -> Result<(RgbImage, Orientation), DecodeError> {
    let frame = Frame::read(bytes)?;
    frame.check()?;
    if !allow_truncated && !frame.ends(bytes) {
        return Err(DecodeError::Damaged(format!(
            "it is cut short: the picture does not end in its {} bytes",
            bytes.len()
        )));
    }
    let bytes = frame.tidy(bytes);
    let colours = match frame.sampling.len() {
        1 => ColorSpace::Luma,
        _ => ColorSpace::RGB,
    };
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(colours)
        .set_strict_mode(!allow_truncated)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes.as_ref()), options);
    let pixels = decoder.decode().map_err(|error| DecodeError::Damaged(format!("it is damaged: {error:?}")))?;
    let pixels = match colours {
        ColorSpace::Luma => pixels.into_iter().flat_map(|value| [value; 3]).collect(),
        _ => pixels,
    };
    // Damaged EXIF says nothing about the pixels.
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let image = whole(frame.width.into(), frame.height.into(), pixels)?;
    Ok((image, orientation.unwrap_or(Orientation::NoTransforms)))
}

/// What the segments before the first scan say.
struct Frame {
    width: u16,
    height: u16,
    // Horizontal and vertical sampling of each component.
    sampling: Vec<(u8, u8)>,
    // Where segments lie, from 0xff to their end; the first scan's is not among them.
    segments: Vec<(usize, usize)>,
    // Where the first scan begins, at its 0xff.
    scan: usize,
}

impl Frame {
    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let cut = || DecodeError::Damaged("it ends inside its header".to_owned());
        let mut frame = Self { width: 0, height: 0, sampling: Vec::new(), segments: Vec::new(), scan: 0 };
        let mut place = 2;
        loop {
            // What lies between segments is passed over, as libjpeg does.
            place += bytes.get(place..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)).ok_or_else(cut)?;
            let marker = *bytes.get(place + 1).ok_or_else(cut)?;
            match marker {
                0xff | 0 => {
                    place += 1;
                    continue;
                }
                0xd0..=0xd8 | 0x01 => {
                    place += 2;
                    continue;
                }
                END => return Err(DecodeError::Damaged("it ends before its pixels".to_owned())),
                _ => {}
            }
            let length: [u8; 2] =
                bytes.get(place + 2..place + 4).and_then(|two| two.try_into().ok()).ok_or_else(cut)?;
            let end = place + 2 + usize::from(u16::from_be_bytes(length));
            let segment = bytes.get(place + 4..end).ok_or_else(cut)?;
            match marker {
                SCAN => {
                    frame.scan = place;
                    return Ok(frame);
                }
                0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                    let &[_, h0, h1, w0, w1, _, ref components @ ..] = segment else { return Err(cut()) };
                    (frame.height, frame.width) = (u16::from_be_bytes([h0, h1]), u16::from_be_bytes([w0, w1]));
                    frame.sampling = components.as_chunks::<3>().0.iter().map(|[_, s, _]| (s >> 4, s & 15)).collect();
                }
                _ => {}
            }
            frame.segments.push((place, end));
            place = end;
        }
    }

    fn check(&self) -> Result<(), DecodeError> {
        let components = self.sampling.len();
        allowed(self.width.into(), self.height.into(), components as u64)?;
        if ![1, 3, 4].contains(&components) {
            return Err(DecodeError::Refused(format!("it has {components} components; 1, 3 and 4 are read")));
        }
        let (across, down) = self.sampling[0];
        let finer = |&&(h, v): &&(u8, u8)| h > across || v > down;
        if let Some((h, v)) = self.sampling.iter().find(finer) {
            return Err(DecodeError::Refused(format!(
                "its colours are sampled finer ({h} x {v}) than its brightness ({across} x {down}), which is not read; \
                 convert it"
            )));
        }
        // How many pixels a colour sample stands for. Black, of four components, is sampled as brightness is.
        let ratio = |&(h, v): &(u8, u8)| {
            (h > 0 && v > 0 && across.is_multiple_of(h) && down.is_multiple_of(v)).then(|| (across / h, down / v))
        };
        let ratios: Vec<_> = self.sampling.iter().skip(1).take(2).map(ratio).collect();
        let usual = |found: &Option<(u8, u8)>| found.is_some_and(|ratio| RATIOS.contains(&ratio));
        if !ratios.iter().all(|found| usual(found) && *found == ratios[0]) {
            return Err(DecodeError::Refused(format!(
                "its colours are sampled in a way that is not read ({:?} pixels a sample); convert it",
                ratios.iter().flatten().collect::<Vec<_>>()
            )));
        }
        Ok(())
    }

    /// Whether the picture's end is there.
    fn ends(&self, bytes: &[u8]) -> bool {
        // Nearly every file ends there; others have more after it.
        bytes.ends_with(&[0xff, END]) || {
            let rest = &bytes[self.scan + 2..];
            rest.windows(2).any(|two| two == [0xff, END])
        }
    }

    /// The file without what lies between its segments, which the decoder refuses when it is strict.
    fn tidy<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let gaps = self.segments.iter().fold((0, 2), |(gaps, at), &(start, end)| (gaps + start - at, end));
        if gaps.0 + self.scan - gaps.1 == 0 {
            return Cow::Borrowed(bytes);
        }
        let mut tidy = bytes[..2].to_vec();
        self.segments.iter().for_each(|&(start, end)| tidy.extend_from_slice(&bytes[start..end]));
        tidy.extend_from_slice(&bytes[self.scan..]);
        Cow::Owned(tidy)
    }
}

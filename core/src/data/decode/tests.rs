use image::codecs::jpeg::JpegEncoder;
use image::{ImageBuffer, ImageEncoder, Luma, LumaA, Rgb, Rgba};

use super::*;

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, ImageFormat::Png).expect("memory");
    bytes.into_inner()
}

/// Noise, so that every part of the file counts.
fn noisy_jpeg(side: u32, exif: Option<&[u8]>) -> Vec<u8> {
    let noise =
        RgbImage::from_fn(side, side, |x, y| Rgb([0, 1, 2].map(|c| ((x * 97 + y * 61 + c * 31) * 151 % 251) as u8)));
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    if let Some(exif) = exif {
        encoder.set_exif_metadata(exif.to_vec()).expect("JPEG holds EXIF");
    }
    encoder.encode_image(&noise).expect("memory");
    bytes
}

fn pixels(bytes: &[u8], reading: Reading) -> Vec<u8> {
    decode(bytes, Decoding { reading, ..Decoding::default() }).expect("decodes").pixels.into_owned()
}

fn upright(bytes: &[u8]) -> Vec<u8> {
    pixels(bytes, Reading::Upright)
}

fn fails(bytes: &[u8]) -> DecodeError {
    decode(bytes, Decoding::default()).expect_err("refused")
}

#[test]
fn every_colour_type_becomes_three_bytes() {
    let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(2, 1, Luma([77 * 257]));
    let deep_colours: ImageBuffer<Rgba<u16>, Vec<u16>> = ImageBuffer::from_pixel(1, 1, Rgba([257, 514, 65535, 65535]));
    assert_eq!(upright(&png(image::GrayImage::from_pixel(1, 1, Luma([9])))), [9; 3]);
    assert_eq!(upright(&png(deep)), [77; 6]);
    assert_eq!(upright(&png(deep_colours)), [1, 2, 255]);
    assert_eq!(upright(&png(RgbImage::from_pixel(1, 2, Rgb([1, 2, 3])))), [1, 2, 3, 1, 2, 3]);
}

#[test]
fn transparency_shows_white_or_is_dropped() {
    let colours = png(image::RgbaImage::from_fn(3, 1, |x, _| Rgba([100, 0, 200, [0, 51, 255][x as usize]])));
    assert_eq!(upright(&colours), [255, 255, 255, 224, 204, 244, 100, 0, 200]);
    assert_eq!(pixels(&colours, Reading::Torchvision), [100, 0, 200].repeat(3));
    let grey = png(image::GrayAlphaImage::from_pixel(1, 1, LumaA([100, 51])));
    assert_eq!((upright(&grey), pixels(&grey, Reading::Torchvision)), (vec![224; 3], vec![100; 3]));
}

#[test]
fn a_turned_picture_is_turned_back_unless_as_torchvision() {
    // Big-endian TIFF with one entry: orientation (0x0112), one short, 6 (turn by 90 degrees clockwise).
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let stored = decode(&noisy_jpeg(16, None), Decoding::default()).expect("decodes");
    let turned = noisy_jpeg(16, Some(exif));
    assert_eq!(pixels(&turned, Reading::Torchvision), *stored.pixels);
    let stored = RgbImage::from_raw(16, 16, stored.pixels.into_owned()).expect("16 x 16");
    assert_eq!(upright(&turned), image::imageops::rotate90(&stored).into_raw());
}

#[test]
fn a_file_that_is_cut_short_is_an_error_unless_that_is_allowed() {
    let whole = noisy_jpeg(64, None);
    let expected = upright(&whole);
    let png = png(RgbImage::from_fn(64, 64, |x, y| Rgb([(x * y) as u8, x as u8, (x * 7 + y * y) as u8])));
    for (bytes, cuts) in [(&whole, [whole.len() * 3 / 5, whole.len() - 2]), (&png, [png.len() / 2, png.len() * 3 / 4])]
    {
        for cut in cuts {
            let cut = &bytes[..cut];
            assert!(matches!(fails(cut), DecodeError::Damaged(_)), "{}", fails(cut));
            let read = decode(cut, Decoding { allow_truncated: true, ..Decoding::default() }).expect("allowed");
            assert_eq!(read.shape, ImageShape { channels: 3, height: 64, width: 64 });
        }
    }
    let cut = decode(&whole[..whole.len() * 3 / 5], Decoding { allow_truncated: true, ..Decoding::default() });
    assert_eq!(cut.expect("allowed").pixels[..64 * 3 * 16], expected[..64 * 3 * 16], "what is there is as it is");
    // More after the end, and more between the segments, as cameras and editors leave it.
    assert_eq!(upright(&[&whole[..], b"more after the end"].concat()), expected);
    let first = 4 + usize::from(whole[5]);
    assert_eq!(upright(&[&whole[..first], &[0, 1, 2, 3, 4, 5], &whole[first..]].concat()), expected);
}

/// The frame of a JPEG with so many components of these samplings, and a scan of zeros.
fn frame(sampling: &[(u8, u8)]) -> Vec<u8> {
    let segment = |marker: u8, body: &[u8]| [&[0xff, marker, 0, body.len() as u8 + 2], body].concat();
    let count = sampling.len() as u8;
    let components = sampling.iter().zip(1..).flat_map(|((h, v), id)| [id, h << 4 | v, 0]);
    let head: Vec<u8> = [8, 0, 16, 0, 16, count].into_iter().chain(components).collect();
    let scan: Vec<u8> = [count].into_iter().chain((1..=count).flat_map(|id| [id, 0])).chain([0, 63, 0]).collect();
    // One code, of nothing: every block is flat.
    let codes = |class: u8| [&[class, 1][..], &[0; 16]].concat();
    let tables = [segment(0xc4, &codes(0)), segment(0xc4, &codes(0x10))].concat();
    let quantisation = segment(0xdb, &[&[0][..], &[1; 64]].concat());
    [&[0xff, 0xd8][..], &quantisation, &segment(0xc0, &head), &tables, &segment(0xda, &scan), &[0; 64], &[0xff, 0xd9]]
        .concat()
}

#[test]
fn components_that_the_decoder_gets_wrong_are_refused() {
    assert_eq!(upright(&frame(&[(1, 1)])), [128; 16 * 16 * 3]);
    assert_eq!(upright(&frame(&[(2, 2), (1, 1), (1, 1)])).len(), 16 * 16 * 3);
    for (sampling, said) in [
        (&[(1, 1), (1, 1)][..], "2 components"),
        (&[(1, 1); 5][..], "5 components"),
        (&[(1, 1), (2, 1), (1, 1)][..], "finer (2 x 1)"),
        (&[(2, 1), (1, 2), (1, 2)][..], "finer (1 x 2)"),
    ] {
        let error = fails(&frame(sampling));
        assert!(matches!(&error, DecodeError::Refused(reason) if reason.contains(said)), "{error}");
    }
}

/// A chunk of a PNG.
fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(body);
    [&(body.len() as u32).to_be_bytes(), &kind[..], body, &crc.sum().to_be_bytes()].concat()
}

#[test]
fn profiles_and_texts_are_not_unpacked() {
    let image = png(RgbImage::from_pixel(3, 2, Rgb([5, 6, 7])));
    let header = 8 + 25;
    // What is in them is no compressed data, which would be an error if it were looked at.
    let beside =
        [chunk(b"iCCP", b"name\0\0nothing"), chunk(b"zTXt", b"key\0\0nothing"), chunk(b"prVt", &[0; 99])].concat();
    let bytes = [&image[..header], &beside, &image[header..]].concat();
    assert_eq!(upright(&bytes), upright(&image));
    assert_eq!(png::pixels_alone(&bytes), image);
    assert!(matches!(png::pixels_alone(&image), Cow::Borrowed(_)));
    for cut in 0..bytes.len() {
        assert!(png::pixels_alone(&bytes[..cut]).len() <= cut);
    }
}

#[test]
fn pictures_too_large_are_refused_by_their_header() {
    let declare = |width: u32, height: u32, depth: u8, colour: u8| {
        let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
        [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &head), chunk(b"IDAT", b"x\x9c"), chunk(b"IEND", b"")].concat()
    };
    for (width, height, depth, colour, said) in [
        (8192, 8192, 16, 2, "6 bytes"),
        (8193, 8192, 8, 2, "67108864 are read"),
        (65_535, 65_535, 8, 0, "limit"),
        (40_000, 1, 8, 0, "limit"),
    ] {
        let error = fails(&declare(width, height, depth, colour));
        assert!(matches!(&error, DecodeError::Refused(_)) && error.to_string().contains(said), "{error}");
    }
}

#[test]
fn what_is_no_picture_says_what_it_is() {
    for (bytes, said) in [
        (&b""[..], "empty"),
        (b"neither", "no picture"),
        (b"  <!DOCTYPE html>", "page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\xff\xd8\xff", "header"),
    ] {
        let error = fails(bytes).to_string();
        assert!(error.contains(said), "{error}");
    }
}

//! A data set held in memory.

use std::borrow::Cow;

use super::{Dataset, Error, ImageShape, Picture};

/// Images of one shape and their labels, all in memory.
#[derive(Debug, Clone)]
pub struct Images {
    name: String,
    shape: ImageShape,
    class_names: Vec<String>,
    /// `(N, H, W, C)`.
    pixels: Vec<u8>,
    labels: Vec<u32>,
}

impl Images {
    /// Takes pixels `(N, H, W, C)` and `N` labels.
    ///
    /// # Errors
    /// If a size is zero, the pixels are not as many as the labels and the shape demand, or a label names no class.
    pub fn new(
        name: impl Into<String>,
        shape: ImageShape,
        class_names: Vec<String>,
        pixels: Vec<u8>,
        labels: Vec<u32>,
    ) -> Result<Self, Error> {
        let bytes = shape.channels.checked_mul(shape.height).and_then(|n| n.checked_mul(shape.width));
        let bytes = bytes.filter(|&n| n > 0).ok_or(Error::Shape { shape })?;
        let expected = (labels.len() as u64).saturating_mul(bytes as u64);
        if pixels.len() as u64 != expected {
            let (images, found) = (labels.len() as u64, pixels.len() as u64);
            return Err(Error::Pixels { images, shape, expected, found });
        }
        let classes = class_names.len() as u64;
        for (index, &label) in labels.iter().enumerate() {
            if u64::from(label) >= classes {
                return Err(Error::Label { index: index as u64, label: u64::from(label), classes });
            }
        }
        Ok(Self { name: name.into(), shape, class_names, pixels, labels })
    }

    /// Gives the set another name, such as `mnist-train`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

impl Images {
    /// The same with rows and columns of each image exchanged.
    #[must_use]
    pub fn transposed(mut self) -> Self {
        let ImageShape { channels, height, width } = self.shape;
        for image in self.pixels.chunks_exact_mut(self.shape.bytes()) {
            let before = image.to_vec();
            for (place, pixel) in image.chunks_exact_mut(channels).enumerate() {
                let (row, column) = (place / height, place % height);
                pixel.copy_from_slice(&before[(column * width + row) * channels..][..channels]);
            }
        }
        (self.shape.height, self.shape.width) = (width, height);
        self
    }
}

impl Dataset for Images {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn shape(&self) -> Option<ImageShape> {
        Some(self.shape)
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn image(&self, index: usize) -> Result<Picture<'_>, Error> {
        let bytes = self.shape.bytes();
        let pixels = Cow::Borrowed(&self.pixels[index * bytes..(index + 1) * bytes]);
        Ok(Picture { shape: self.shape, pixels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_does_not_fit() {
        let shape = ImageShape { channels: 1, height: 2, width: 2 };
        let names = || vec!["a".to_string(), "b".to_string()];
        assert!(Images::new("x", shape, names(), vec![0; 8], vec![0, 1]).is_ok());
        let error = Images::new("x", shape, names(), vec![0; 7], vec![0, 1]).unwrap_err();
        assert_eq!(error, Error::Pixels { images: 2, shape, expected: 8, found: 7 });
        let error = Images::new("x", shape, names(), vec![0; 8], vec![0, 2]).unwrap_err();
        assert_eq!(error, Error::Label { index: 1, label: 2, classes: 2 });
        let flat = ImageShape { height: 0, ..shape };
        assert_eq!(Images::new("x", flat, names(), vec![], vec![]).unwrap_err(), Error::Shape { shape: flat });
        let vast = ImageShape { height: usize::MAX, ..shape };
        assert!(matches!(Images::new("x", vast, names(), vec![], vec![]), Err(Error::Shape { .. })));
    }
}

//! What every data set offers: images by index, and the label of each.
//!
//! Invariants: a data set does not change after it was made, every image has the same shape, and every label is below
//! the number of classes. The trait is object-safe, so that a recipe can choose a data set at run time.

use std::sync::Arc;

/// Size of an image in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageShape {
    /// 1 for grey, 3 for red, green and blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// Bytes of one 8-bit image: `height * width * channels`.
    pub const fn bytes(&self) -> usize {
        self.channels * self.height * self.width
    }
}

impl std::fmt::Display for ImageShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {} x {} (height x width x channels)", self.height, self.width, self.channels)
    }
}

/// A labelled set of images of one shape.
pub trait Dataset: Send + Sync {
    /// A short name for logs, such as `mnist-train`.
    fn name(&self) -> &str;

    /// How many samples there are.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One name a class, in the order of the labels.
    fn class_names(&self) -> &[String];

    /// How many classes there are; labels run from 0 to one less.
    fn classes(&self) -> usize {
        self.class_names().len()
    }

    /// The shape that every image has.
    fn shape(&self) -> ImageShape;

    /// The class of a sample.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    fn label(&self, index: usize) -> u32;

    /// Writes the 8-bit pixels of a sample, channel-last: `out` is `(H, W, C)`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len), or `out` is not [`ImageShape::bytes`] long.
    fn image(&self, index: usize, out: &mut [u8]);
}

/// A pointer to a data set is one too.
macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<D: Dataset + ?Sized> Dataset for $pointer {
            fn name(&self) -> &str {
                (**self).name()
            }
            fn len(&self) -> usize {
                (**self).len()
            }
            fn class_names(&self) -> &[String] {
                (**self).class_names()
            }
            fn shape(&self) -> ImageShape {
                (**self).shape()
            }
            fn label(&self, index: usize) -> u32 {
                (**self).label(index)
            }
            fn image(&self, index: usize, out: &mut [u8]) {
                (**self).image(index, out)
            }
        }
    )*};
}

forward!(&D, Box<D>, Arc<D>);

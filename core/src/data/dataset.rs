//! What every data set offers: images by index, and the label of each.
//!
//! Invariants: a data set does not change after it was made, and every label is below the number of classes. Images may
//! differ in size and are read when they are asked for, so that a set of photographs need not fit in memory; a file that
//! cannot be read is found then. The trait is object-safe, so that a recipe can choose a data set at run time.

use std::borrow::Cow;
use std::sync::Arc;

use super::Error;

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

/// An image's 8-bit pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture<'a> {
    /// Its size.
    pub shape: ImageShape,
    /// `(H, W, C)`, [`ImageShape::bytes`] of them.
    pub pixels: Cow<'a, [u8]>,
}

/// A labelled set of images.
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

    /// The shape that every image has, or `None` where they differ or it is not known without reading them.
    fn shape(&self) -> Option<ImageShape>;

    /// The class of a sample; 0, which stands for nothing, of an image that nobody has said the class of.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    fn label(&self, index: usize) -> u32;

    /// What a network that trains on the sample is told of its class; `None` of a sample without a label.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    fn known_label(&self, index: usize) -> Option<u32> {
        Some(self.label(index))
    }

    /// Reads the pixels of a sample.
    ///
    /// # Errors
    /// Names the file that cannot be read, and why.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    fn image(&self, index: usize) -> Result<Picture<'_>, Error>;
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
            fn shape(&self) -> Option<ImageShape> {
                (**self).shape()
            }
            fn label(&self, index: usize) -> u32 {
                (**self).label(index)
            }
            fn known_label(&self, index: usize) -> Option<u32> {
                (**self).known_label(index)
            }
            fn image(&self, index: usize) -> Result<Picture<'_>, Error> {
                (**self).image(index)
            }
        }
    )*};
}

forward!(&D, Box<D>, Arc<D>);

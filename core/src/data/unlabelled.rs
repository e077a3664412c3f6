//! Images that nobody has said the class of, beside a data set's own samples.
//!
//! Why: whoever has few labels mostly has many pictures, and a teacher answers to any of them.

use super::{Dataset, Error, ImageShape, Picture};

/// A data set followed by images without a class.
#[derive(Clone, Debug)]
pub struct WithUnlabelled<D, E> {
    samples: D,
    images: E,
}

impl<D: Dataset, E: Dataset> WithUnlabelled<D, E> {
    /// The samples, then the images, whose own labels and classes say nothing.
    pub fn new(samples: D, images: E) -> Self {
        Self { samples, images }
    }
}

impl<D: Dataset, E: Dataset> Dataset for WithUnlabelled<D, E> {
    fn name(&self) -> &str {
        self.samples.name()
    }

    fn len(&self) -> usize {
        self.samples.len() + self.images.len()
    }

    fn class_names(&self) -> &[String] {
        self.samples.class_names()
    }

    fn shape(&self) -> Option<ImageShape> {
        self.samples.shape().filter(|shape| self.images.shape() == Some(*shape))
    }

    // An image without a class has none to give: what trains asks for the known label, and nothing is measured on it.
    fn label(&self, index: usize) -> u32 {
        if index < self.samples.len() { self.samples.label(index) } else { 0 }
    }

    fn known_label(&self, index: usize) -> Option<u32> {
        (index < self.samples.len()).then(|| self.samples.known_label(index)).flatten()
    }

    fn image(&self, index: usize) -> Result<Picture<'_>, Error> {
        match index.checked_sub(self.samples.len()) {
            None => self.samples.image(index),
            Some(index) => self.images.image(index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Digits, Images, Split};
    use super::*;

    #[test]
    fn images_without_a_class_come_after_the_samples() {
        let shape = ImageShape { channels: 3, height: 1, width: 2 };
        let images = Images::new("own", shape, vec![String::new()], (0..12).collect(), vec![0; 2]).expect("two images");
        let digits = Digits::new(Split::Train, 10);
        let both = WithUnlabelled::new(&digits, &images);
        assert_eq!((both.len(), both.classes(), both.shape()), (12, 10, None));
        assert!((0..10).all(|index| both.known_label(index) == Some(digits.label(index))));
        assert_eq!([10, 11].map(|index| both.known_label(index)), [None; 2]);
        assert_eq!(both.image(9).expect("drawn"), digits.image(9).expect("drawn"));
        assert_eq!(both.image(11).expect("there").pixels[..], [6, 7, 8, 9, 10, 11]);
        assert_eq!(WithUnlabelled::new(&digits, &digits).shape(), digits.shape());
    }
}

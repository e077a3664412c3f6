//! What can be wrong with data, said so that its owner can mend it: what, where, the numbers, and what to do.

use super::ImageShape;

/// A fault in data or in a request for data.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Every class is left out.
    #[error("every class of {name} is left out, and with it every training sample; keep some")]
    NoClasses {
        /// Which data set.
        name: String,
    },
    /// The bytes begin with the mark of gzip.
    #[error("the {what} are still gzip-compressed (they begin with 1f 8b): decompress them before reading")]
    Compressed {
        /// Which file.
        what: &'static str,
    },
    /// Fewer bytes than the header needs.
    #[error(
        "the {what} end inside their header: {needed} bytes are needed, {found} were found; \
         the file is truncated or empty, so fetch it again"
    )]
    Header {
        /// Which file.
        what: &'static str,
        /// Bytes that the header takes.
        needed: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// The first four bytes are not those of the format.
    #[error(
        "the {what} are not an IDX file of the expected kind: the magic number is {found:#010x}, not {expected:#010x}; \
         check that images and labels are not swapped"
    )]
    Magic {
        /// Which file.
        what: &'static str,
        /// Magic number of the expected kind.
        expected: u32,
        /// Magic number found.
        found: u32,
    },
    /// An IDX element type other than unsigned bytes.
    #[error(
        "the {what} hold elements of IDX type {found:#04x}; only unsigned bytes (type 0x08) are read, \
         so convert the file"
    )]
    ElementType {
        /// Which file.
        what: &'static str,
        /// IDX type code found.
        found: u8,
    },
    /// A size that is zero or beyond what is read.
    #[error("the {what} declare {found} for size {axis}; it must be between 1 and {limit}: the header is damaged")]
    Size {
        /// Which file.
        what: &'static str,
        /// Which of the header's sizes, counted from 0.
        axis: usize,
        /// Size found.
        found: u64,
        /// Greatest size allowed.
        limit: u64,
    },
    /// The sizes multiply to more than is read.
    #[error("the {what} declare more than {limit} bytes of data: the header is damaged, or the file must be split")]
    TooLarge {
        /// Which file.
        what: &'static str,
        /// Greatest number of bytes.
        limit: u64,
    },
    /// The data ends early.
    #[error("the {what} are truncated: the header declares {expected} bytes, {found} were found; fetch the file again")]
    Truncated {
        /// Which file.
        what: &'static str,
        /// Bytes declared, header and data.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Bytes follow the data.
    #[error(
        "the {what} have trailing bytes: the header declares {expected} bytes, {found} were found; \
         the file is damaged or two files were joined"
    )]
    Trailing {
        /// Which file.
        what: &'static str,
        /// Bytes declared, header and data.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Images and labels that do not belong together.
    #[error("there are {images} images but {labels} labels: take both files from the same split of the same set")]
    Count {
        /// Images found.
        images: u64,
        /// Labels found.
        labels: u64,
    },
    /// A label that names no class.
    #[error("label {index} is {label}, but there are only {classes} classes (0 to {}): the label file is damaged", .classes.saturating_sub(1))]
    Label {
        /// Which label, counted from 0.
        index: u64,
        /// Its value.
        label: u64,
        /// How many classes there are.
        classes: u64,
    },
    /// A pixel buffer whose length is not that of its images.
    #[error("{images} images of {shape} take {expected} bytes, but {found} were given")]
    Pixels {
        /// Images, as many as labels.
        images: u64,
        /// Shape of each.
        shape: ImageShape,
        /// Bytes that they take.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// An image without pixels.
    #[error("an image of {shape} has no pixels: every size must be at least 1")]
    Shape {
        /// The shape given.
        shape: ImageShape,
    },
    /// More samples asked for than there are.
    #[error("{asked} samples of {name} were asked for, but it has {len}: ask for 1 to {len}")]
    Samples {
        /// The data set.
        name: String,
        /// Samples asked for.
        asked: u64,
        /// Samples there are.
        len: u64,
    },
    /// A sample index beyond the end.
    #[error("sample {index} of {name} was asked for, but it has {len} samples (0 to {})", .len.saturating_sub(1))]
    Index {
        /// The data set.
        name: String,
        /// Index asked for.
        index: u64,
        /// Samples there are.
        len: u64,
    },
    /// A file of a data set that cannot be read.
    #[error("{file}: {reason}")]
    File {
        /// The file, or the file and the place in it.
        file: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A name that is no policy's.
    #[error("{name:?} is no augmentation policy: {reason}")]
    Policy {
        /// The name.
        name: String,
        /// What is wrong, and what there is.
        reason: String,
    },
    /// A number of channels that is not converted.
    #[error("images of {found} channels cannot be given {wanted}: only 1 and 3 are read and converted")]
    Colours {
        /// Channels of the images.
        found: usize,
        /// Channels that the network takes.
        wanted: usize,
    },
    /// A mean or standard deviation that does not fit the images.
    #[error(
        "the normalisation has {means} means and {stds} standard deviations for {channels} channels: \
         give one of each a channel"
    )]
    Channels {
        /// Means given.
        means: usize,
        /// Standard deviations given.
        stds: usize,
        /// Channels of the images.
        channels: usize,
    },
    /// A mean or deviation that cannot be used.
    #[error("channel {channel} has mean {mean} and standard deviation {std}: both must be finite, the second above 0")]
    Deviation {
        /// Which channel.
        channel: usize,
        /// Its mean.
        mean: f32,
        /// Its standard deviation.
        std: f32,
    },
    /// An augmentation setting outside its range.
    #[error("augmentation setting `{setting}` is {value}; it must be {range}")]
    Augment {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        value: f32,
        /// What it may be.
        range: &'static str,
    },
}

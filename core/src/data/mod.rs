//! Images, samples and batches, and the readers that make them from bytes.

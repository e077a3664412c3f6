//! The Classify view: a network from a file, and what it takes a picture for.

use burn::tensor::Device;

use crate::distil::Clock;
use crate::protocol::{Classified, ClassifierReport, ReadoutChoice};
use crate::session::Buffers;

/// A network ready to classify pictures.
pub struct Classifier {
    report: ClassifierReport,
}

impl Classifier {
    /// Reads a classifier from safetensors bytes.
    pub fn read(_name: String, _bytes: &[u8], _device: &Device) -> Result<Self, String> {
        Err("not yet".into())
    }

    /// What the file says of itself.
    pub fn report(&self) -> &ClassifierReport {
        &self.report
    }

    /// Classifies.
    pub async fn classify(
        &self,
        _file: &[u8],
        _readout: ReadoutChoice,
        _device: &Device,
        _clock: Clock,
    ) -> Result<(Classified, Buffers), String> {
        Err("not yet".into())
    }
}

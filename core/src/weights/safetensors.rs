//! Named tensors as safetensors bytes, with what a reader needs to rebuild and feed the network in the metadata.

use std::collections::HashMap;

use ::safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, serialize};

use super::NamedTensor;

/// The string map in a safetensors header.
pub type Metadata = HashMap<String, String>;

/// Why bytes are no usable weights file.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The container itself is broken.
    #[error("not a readable safetensors file: {0}")]
    Container(#[from] SafeTensorError),
    /// A tensor is stored in a type that is no floating-point type read here.
    #[error("tensor {name} is stored as {dtype:?}; only F64, F32, F16 and BF16 are read")]
    Type {
        /// The tensor's name.
        name: String,
        /// Its stored type.
        dtype: Dtype,
    },
}

/// Serialises `tensors` as float32 in name order; the same input gives the same bytes but for the metadata's order.
///
/// # Errors
/// [`WeightsError::Container`] if a tensor's values do not fill its shape.
pub fn to_safetensors(tensors: &[NamedTensor], metadata: Metadata) -> Result<Vec<u8>, WeightsError> {
    let views = tensors
        .iter()
        .map(|tensor| {
            let bytes = bytemuck::cast_slice(&tensor.values);
            Ok((tensor.name.as_str(), TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    Ok(serialize(views, Some(metadata))?)
}

/// Reads every tensor of a safetensors file, widened or rounded to float32, and its metadata.
///
/// # Errors
/// [`WeightsError`]; sizes in the header are checked against the bytes before anything is allocated.
pub fn from_safetensors(bytes: &[u8]) -> Result<(Vec<NamedTensor>, Metadata), WeightsError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let file = SafeTensors::deserialize(bytes)?;
    let tensors = file
        .tensors()
        .into_iter()
        // PyTorch counts the batches that its running statistics have seen; nothing here reads the count.
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
        .map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
                Dtype::F16 => data.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
                Dtype::BF16 => data.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
                dtype => return Err(WeightsError::Type { name, dtype }),
            };
            Ok(NamedTensor { shape: view.shape().to_vec(), values, name })
        })
        .collect::<Result<_, _>>()?;
    Ok((tensors, metadata))
}

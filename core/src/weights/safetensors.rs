//! Named tensors as safetensors bytes. The metadata has everything that a reader needs to rebuild the network and prepare its
//! images.

use std::collections::HashMap;

use ::safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, serialize};

use super::NamedTensor;

/// The string map in the header of a safetensors file.
pub type Metadata = HashMap<String, String>;

/// Why bytes are not a usable weights file.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The container itself is broken.
    #[error("not a readable safetensors file: {0}")]
    Container(#[from] SafeTensorError),
    /// A value does not fit the written type.
    #[error("tensor {name} holds {value:e}, and half precision ends at 65504; write it in single precision")]
    Range {
        /// The tensor's name.
        name: String,
        /// The value.
        value: f32,
    },
    /// A tensor has a type that is not a supported floating-point type.
    #[error("tensor {name} is stored as {dtype:?}; only F64, F32, F16 and BF16 are read")]
    Type {
        /// The tensor's name.
        name: String,
        /// Its stored type.
        dtype: Dtype,
    },
}

/// Serialises `tensors` as float32, ordered by name. The same input gives the same bytes, except for the order of the metadata.
///
/// # Errors
/// [`WeightsError::Container`] if a tensor's values do not fill its shape.
pub fn to_safetensors(tensors: &[NamedTensor], metadata: Metadata) -> Result<Vec<u8>, WeightsError> {
    write(Dtype::F32, tensors.iter().map(|tensor| (tensor, bytemuck::cast_slice(&tensor.values))), metadata)
}

/// The same, rounded to float16. This takes half the bytes and keeps about three decimal digits.
///
/// # Errors
/// As [`to_safetensors`], and [`WeightsError::Range`] for a finite value that is too large for float16.
pub fn to_safetensors_half(tensors: &[NamedTensor], metadata: Metadata) -> Result<Vec<u8>, WeightsError> {
    let half = |tensor: &NamedTensor| {
        let mut bytes = Vec::with_capacity(2 * tensor.values.len());
        for &value in &tensor.values {
            let rounded = half::f16::from_f32(value);
            if value.is_finite() && !rounded.is_finite() {
                return Err(WeightsError::Range { name: tensor.name.clone(), value });
            }
            bytes.extend(rounded.to_le_bytes());
        }
        Ok(bytes)
    };
    let halves = tensors.iter().map(half).collect::<Result<Vec<_>, _>>()?;
    write(Dtype::F16, tensors.iter().zip(halves.iter().map(Vec::as_slice)), metadata)
}

// The tensors, each with its bytes as `dtype`.
fn write<'a>(
    dtype: Dtype,
    tensors: impl Iterator<Item = (&'a NamedTensor, &'a [u8])>,
    metadata: Metadata,
) -> Result<Vec<u8>, WeightsError> {
    let views = tensors
        .map(|(tensor, bytes)| Ok((tensor.name.as_str(), TensorView::new(dtype, tensor.shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    Ok(serialize(views, Some(metadata))?)
}

/// Reads the metadata and every tensor of a safetensors file. Values are converted to float32.
///
/// # Errors
/// [`WeightsError`]. Sizes in the header are compared with the bytes before anything is allocated.
pub fn from_safetensors(bytes: &[u8]) -> Result<(Vec<NamedTensor>, Metadata), WeightsError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let file = SafeTensors::deserialize(bytes)?;
    let tensors = file
        .tensors()
        .into_iter()
        // PyTorch's count of the batches in its running statistics. Nothing here reads it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_rounds_to_the_nearest_and_refuses_what_it_does_not_reach() {
        let tensor = |values: Vec<f32>| NamedTensor { name: "w".into(), shape: vec![values.len()], values };
        let single = to_safetensors(&[tensor(vec![0.1; 1000])], Metadata::new()).expect("written");
        let half = to_safetensors_half(&[tensor(vec![0.1; 1000])], Metadata::new()).expect("written");
        assert!((1990..2010).contains(&(single.len() - half.len())), "{} and {}", single.len(), half.len());
        // 10 bits after the leading one. A value half way between two is rounded to the even one.
        let values = vec![1.0 + f32::EPSILON, 1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, -65504.0];
        let (read, _) = from_safetensors(&to_safetensors_half(&[tensor(values)], Metadata::new()).expect("written"))
            .expect("readable");
        assert_eq!(read[0].values, [1.0, 1.0, 1.0 + 2.0 / 1024.0, -65504.0]);
        let error = to_safetensors_half(&[tensor(vec![1.0, 7e4])], Metadata::new()).expect_err("too large");
        assert!(matches!(error, WeightsError::Range { value: 7e4, .. }), "{error}");
    }
}

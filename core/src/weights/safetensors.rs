//! Named tensors as safetensors bytes. The metadata has everything that a reader needs to rebuild the network and prepare its
//! images.
//!
//! A file written here carries the SHA-256 of its tensors and of the rest of its metadata, and is checked against it when it is
//! read here. Other readers ignore the entry. The same input gives the same bytes.

use std::collections::{BTreeMap, HashMap};

use ::safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use super::NamedTensor;

/// The string map in the header of a safetensors file.
pub type Metadata = HashMap<String, String>;

/// The metadata's entry with the hash of the tensors and of the other entries.
const HASH: &str = "potstill.sha256";

/// Why bytes are not a usable weights file.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The container itself is broken.
    #[error("not a readable safetensors file: {0}")]
    Container(#[from] SafeTensorError),
    /// The tensors or the metadata have changed since the file was written.
    #[error(
        "the file is damaged or was changed: its SHA-256 is {found}, and its entry {HASH} says {said}; take an undamaged copy, \
         or remove that entry if the change was intended"
    )]
    Changed {
        /// The hash of what was read.
        found: String,
        /// The hash in the metadata.
        said: String,
    },
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

/// Serialises `tensors` as float32, ordered by name, with a hash in the metadata. The same input gives the same bytes.
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

// The tensors, each with its bytes as `dtype`. The file has the length of the header in eight bytes, the header, and the data of
// the tensors. The writer of the safetensors crate would put the metadata in a different order each time.
fn write<'a>(
    dtype: Dtype,
    tensors: impl Iterator<Item = (&'a NamedTensor, &'a [u8])>,
    mut metadata: Metadata,
) -> Result<Vec<u8>, WeightsError> {
    let view = |(tensor, bytes): (&'a NamedTensor, &'a [u8])| {
        Ok((tensor.name.as_str(), TensorView::new(dtype, tensor.shape.clone(), bytes)?))
    };
    let tensors = tensors.map(view).collect::<Result<BTreeMap<_, _>, SafeTensorError>>()?;
    metadata.remove(HASH);
    let hash = hash(&metadata, &tensors);
    metadata.insert(HASH.to_owned(), hash);
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), metadata.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect());
    let mut end = 0;
    for (name, view) in &tensors {
        let start = end;
        end += view.data().len();
        let entry = serde_json::json!({ "dtype": view.dtype(), "shape": view.shape(), "data_offsets": [start, end] });
        header.insert((*name).to_owned(), entry);
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    let mut bytes = Vec::with_capacity(8 + header.len() + end);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    tensors.values().for_each(|view| bytes.extend_from_slice(view.data()));
    Ok(bytes)
}

/// Blanks fill the header up, so that readers may map the tensors where they lie.
const ALIGNMENT: usize = 8;

// The SHA-256 of everything that a reader takes from a file, each text and each tensor after its length.
fn hash<K: AsRef<str> + Ord>(metadata: &Metadata, tensors: &BTreeMap<K, TensorView<'_>>) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let entries: BTreeMap<_, _> = metadata.iter().collect();
    add(&(entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        add(key.as_bytes());
        add(value.as_bytes());
    }
    for (name, view) in tensors {
        add(name.as_ref().as_bytes());
        add(serde_json::json!([view.dtype(), view.shape()]).to_string().as_bytes());
        add(view.data());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the metadata and every tensor of a safetensors file. Values are converted to float32.
///
/// # Errors
/// [`WeightsError`]. Sizes in the header are compared with the bytes before anything is allocated. A file with a hash is checked
/// against it.
pub fn from_safetensors(bytes: &[u8]) -> Result<(Vec<NamedTensor>, Metadata), WeightsError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let mut metadata = header.metadata().clone().unwrap_or_default();
    let file = SafeTensors::deserialize(bytes)?;
    let tensors: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    if let Some(said) = metadata.remove(HASH) {
        let found = hash(&metadata, &tensors);
        if found != said {
            return Err(WeightsError::Changed { found, said });
        }
    }
    let tensors = tensors
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
    fn a_changed_bit_is_refused_wherever_it_is() {
        let tensors = ["b", "a"].map(|name| NamedTensor { name: name.into(), shape: vec![2], values: vec![0.5, -3.0] });
        let metadata = || Metadata::from(["one", "two", "three"].map(|key| (key.to_owned(), format!("of {key}"))));
        let bytes = to_safetensors(&tensors, metadata()).expect("written");
        assert_eq!(to_safetensors(&tensors, metadata()).expect("written"), bytes, "the same bytes every time");
        let (read, said) = from_safetensors(&bytes).expect("whole");
        assert_eq!((read[0].name.as_str(), said), ("a", metadata()), "the hash is no part of what is said");
        let end_of_header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                match from_safetensors(&changed) {
                    Err(WeightsError::Changed { .. }) => {}
                    Err(_) if place < end_of_header => {}
                    // The entry's own name: nothing else is another.
                    Ok((tensors, _)) if place < end_of_header => assert_eq!(tensors, read, "bit {bit} of byte {place}"),
                    other => panic!("bit {bit} of byte {place}: {other:?}"),
                }
            }
        }
        // What nobody has put a hash into is read as it is.
        let of_others = ::safetensors::tensor::serialize(
            [("a", TensorView::new(Dtype::F32, vec![1], &[0, 0, 128, 63]).expect("a tensor"))],
            None,
        );
        assert_eq!(from_safetensors(&of_others.expect("written")).expect("readable").0[0].values, [1.0]);
    }

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

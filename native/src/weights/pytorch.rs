//! PyTorch's checkpoint files, `.pth` and `.pt`, through Burn's reader, which interprets the pickle and runs nothing of it.
//!
//! Invariant: what is allocated is bounded by the file's own size, whatever the file declares. The reader holds each
//! tensor against its storage; many tensors of one storage are held against the file here.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn::tensor::{bf16, f16};
use burn_store::pytorch_reader::{DType, PytorchReader, Tensor};
use potstill_core::weights::NamedTensor;

use crate::error::{Context, Failure, Result};

/// Bytes of tensors for each byte of the file: float64 files shrink, and tensors may share a storage.
const MOST: u64 = 4;

/// Whether a file is one of PyTorch's: anything that does not begin as safetensors do, with a length and JSON.
pub fn is_pytorch(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(9).read_to_end(&mut start));
    opened.context(format_args!("cannot read the weights {}", path.display()))?;
    let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
    Ok(!named && start.get(8) != Some(&b'{'))
}

/// Every floating-point tensor of a checkpoint, its dictionaries' keys joined by dots. An optimiser's state is left out.
///
/// # Errors
/// Exit code 1 with the file's name, if it is no checkpoint, is cut short, or declares more than it holds.
pub fn read(path: &Path) -> Result<Vec<NamedTensor>> {
    let doing = format!("cannot read the weights {}", path.display());
    let size = std::fs::metadata(path).context(&doing)?.len();
    let tensors = PytorchReader::new(path).context(&doing)?.into_tensors();
    let mut left = size.saturating_mul(MOST);
    let mut read = Vec::new();
    for (name, tensor) in tensors {
        if name.starts_with("optim") || !is_float(tensor.dtype()) {
            continue;
        }
        let elements = tensor.shape().iter().try_fold(1_u64, |all, size| all.checked_mul(*size as u64));
        let bytes = elements.and_then(|elements| elements.checked_mul(tensor.dtype().size() as u64));
        left = bytes.and_then(|bytes| left.checked_sub(bytes)).ok_or_else(|| {
            Failure::work(format!("{doing}: its tensors are larger than a file of {size} bytes can hold"))
        })?;
        let values = values(&tensor).context(&doing)?;
        read.push(NamedTensor { shape: tensor.shape().to_vec(), values, name });
    }
    // The reader gives them in any order.
    read.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(read)
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
}

fn values(tensor: &Tensor) -> std::io::Result<Vec<f32>> {
    let bytes = tensor.read()?;
    Ok(match tensor.dtype() {
        DType::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect(),
        DType::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_ne_bytes(*b) as f32).collect(),
        DType::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_ne_bytes(*b).to_f32()).collect(),
        DType::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_ne_bytes(*b).to_f32()).collect(),
        // `read` asks for no other.
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use potstill_core::weights::from_safetensors;
    use proptest::prelude::*;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
    }

    #[test]
    fn both_containers_hold_what_the_safetensors_hold() {
        let bytes = std::fs::read(fixture("vit_timm.safetensors")).expect("readable");
        let (expected, _) = from_safetensors(&bytes).expect("safetensors");
        let expected: BTreeMap<&str, &NamedTensor> =
            expected.iter().filter_map(|t| Some((t.name.strip_prefix("weights.")?, t))).collect();
        for (file, wrapper) in [("vit_timm.pth", "model."), ("vit_timm_legacy.pt", "state_dict.module.")] {
            assert!(is_pytorch(&fixture(file)).expect("readable"));
            let found = read(&fixture(file)).unwrap_or_else(|failure| panic!("{file}: {failure}"));
            assert_eq!(found.len(), expected.len(), "{file}");
            for tensor in found {
                let name = tensor.name.strip_prefix(wrapper).unwrap_or_else(|| panic!("{file}: {}", tensor.name));
                assert_eq!((&tensor.shape, &tensor.values), (&expected[name].shape, &expected[name].values), "{name}");
            }
        }
        assert!(!is_pytorch(&fixture("vit_timm.safetensors")).expect("readable"));
    }

    #[test]
    fn cut_files_are_errors() {
        let folder = tempfile::tempdir().expect("a folder");
        for file in ["vit_timm.pth", "vit_timm_legacy.pt"] {
            let bytes = std::fs::read(fixture(file)).expect("readable");
            let path = folder.path().join(file);
            for length in (0..bytes.len()).step_by(bytes.len() / 23) {
                std::fs::write(&path, &bytes[..length]).expect("writes");
                let failure = read(&path).expect_err("cut short");
                assert!(failure.code() == 1 && failure.to_string().contains(file), "{length} bytes: {failure}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        // Damage may leave a readable file with other numbers; it never panics, and never takes more than the file has.
        #[test]
        fn damaged_files_never_panic(
            legacy: bool,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        ) {
            let mut bytes = std::fs::read(fixture(if legacy { "vit_timm_legacy.pt" } else { "vit_timm.pth" })).expect("readable");
            for (place, value) in damage {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            std::io::Write::write_all(&mut file, &bytes).expect("writes");
            if let Ok(tensors) = read(file.path()) {
                let values: usize = tensors.iter().map(|tensor| tensor.values.len()).sum();
                prop_assert!(values as u64 <= bytes.len() as u64 * MOST);
            }
        }
    }
}

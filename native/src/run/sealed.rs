//! JSON that carries its own hash: a file of which a byte has changed is known as damaged, and not believed.
//!
//! The last entry of the object is the SHA-256 of the text without it. What says a `version` must have the entry; files of
//! versions before it have neither, and are read as they are.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Context, Result};
use crate::report::hex;

const START: &str = ",\n  \"sha256\": \"";
const END: &str = "\"\n}\n";
const DIGITS: usize = 64;

/// An object of at least one entry, with its hash.
pub fn seal(value: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("cannot serialise a state")?;
    let hash = hex(&Sha256::digest(&text));
    let body = text.strip_suffix("\n}").map_or(text.len(), str::len);
    text.truncate(body);
    Ok(text + START + &hash + END)
}

/// The object of a text, or in words why it is not what was written.
pub fn unseal<T: DeserializeOwned>(text: &str) -> std::result::Result<T, String> {
    match parts(text) {
        Some((body, hash)) if hex(&Sha256::digest(format!("{body}\n}}"))) != hash => {
            return Err("its SHA-256 is another than it says".to_owned());
        }
        Some(_) => {}
        None => {
            let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
            if value.get("version").is_some() {
                return Err("its SHA-256 is missing".to_owned());
            }
        }
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

// What comes before the hash, and the hash.
fn parts(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_suffix(END)?;
    let (text, hash) = text.split_at_checked(text.len().checked_sub(DIGITS)?)?;
    Some((text.strip_suffix(START)?, hash))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_changed_bit_is_noticed_wherever_it_is() {
        let value = BTreeMap::from([("version", 0.1), ("seconds", 1.0 / 3.0)]);
        let text = seal(&value).expect("sealed");
        let read: BTreeMap<String, Value> = unseal(&text).expect("whole");
        assert_eq!((read.len(), &read["version"]), (3, &0.1.into()));
        for place in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[place] ^= 1 << bit;
                let changed = String::from_utf8(bytes).map_err(|_| "no text".to_owned());
                let found = changed.and_then(|text| unseal::<BTreeMap<String, Value>>(&text));
                assert!(found.is_err(), "bit {bit} of byte {place}");
            }
        }
    }

    #[test]
    fn what_has_no_version_needs_no_hash() {
        assert!(unseal::<Value>("{\"done\": {}}").is_ok());
        assert!(unseal::<Value>("{\"done\": {}, \"version\": \"0.2.0\"}").is_err());
    }
}

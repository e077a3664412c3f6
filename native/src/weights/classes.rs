//! Whose classes are whose: those that a file names against those of the data it meets.
//!
//! Logits have no names; the file's order and the data's are two lists, and a network that is right about every sample is
//! wrong about all where they differ.

use std::collections::BTreeSet;

use burn::cubecl::future::block_on;
use burn::tensor::Device;
use potstill_core::weights;

use super::LoadedNetwork;
use crate::error::{Context, Failure, Result};

/// How two lists of as many names go together.
#[derive(Debug, PartialEq)]
enum Match {
    /// The same names in the same order.
    Same,
    /// For each of the data's classes the file's number of it.
    Reordered(Vec<usize>),
    /// One side has numbers or codes in place of names, so that nothing can be compared.
    Codes,
    /// Names that the other side has not: the file's, the data's.
    Other(Vec<String>, Vec<String>),
}

fn compare(file: &[String], data: &[String]) -> Match {
    if file == data {
        return Match::Same;
    }
    let place = |name: &String| file.iter().position(|known| known == name);
    let places: Vec<usize> = data.iter().filter_map(place).collect();
    // As many different ones as there are: each is met once.
    if places.len() == data.len() && places.iter().collect::<BTreeSet<_>>().len() == file.len() {
        return Match::Reordered(places);
    }
    let codes = |names: &[String]| names.iter().all(|name| is_code(name));
    if codes(file) || codes(data) {
        return Match::Codes;
    }
    let without = |some: &[String], others: &[String]| -> Vec<String> {
        some.iter().filter(|name| !others.contains(name)).cloned().collect()
    };
    Match::Other(without(file, data), without(data, file))
}

/// Whether a name is a number, or a WordNet number as ImageNet's folders have (`n01440764`).
fn is_code(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(name) || name.strip_prefix('n').is_some_and(|rest| rest.len() == 8 && digits(rest))
}

/// The network with its classes in the order of the data `of`; their names are as many. Where the orders differ, its heads'
/// rows are moved, which is said; other names are refused unless they are to be ignored.
///
/// # Errors
/// Exit code 2 with the names that one side alone has.
pub fn arrange(
    network: LoadedNetwork,
    names: &[String],
    of: &str,
    ignore: bool,
    device: &Device,
) -> Result<LoadedNetwork> {
    if ignore || network.class_names.len() != names.len() {
        return Ok(network);
    }
    let path = network.path.display().to_string();
    match compare(&network.class_names, names) {
        Match::Same => Ok(network),
        Match::Codes => {
            let numbered = network.class_names.iter().enumerate().all(|(index, name)| *name == index.to_string());
            // A file without names has said nothing.
            if !numbered {
                let (own, theirs) = (&network.class_names[0], &names[0]);
                eprintln!(
                    "note     {path}: its classes ({own}, ...) and those of {of} ({theirs}, ...) are named in two ways; they \
                     are taken in their order"
                );
            }
            Ok(network)
        }
        Match::Reordered(places) => {
            eprintln!("note     {path}: it has the classes of {of} in another order, and is read in that of {of}");
            reordered(network, names, &places, device)
        }
        Match::Other(own, theirs) => Err(Failure::usage(format!(
            "{path} and {of} have other classes: {}, which {of} has not, and {}, which the file has not; take data with its \
             classes, or pass --ignore-class-names to take both in their order",
            some(&own),
            some(&theirs)
        ))),
    }
}

fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn reordered(network: LoadedNetwork, names: &[String], places: &[usize], device: &Device) -> Result<LoadedNetwork> {
    let mut tensors = block_on(weights::read(&network.model)).context("cannot read the network back")?;
    let parts = network.config.heads().iter().flat_map(|head| [format!("{head}.weight"), format!("{head}.bias")]);
    let parts: Vec<String> = parts.collect();
    for tensor in tensors.iter_mut().filter(|tensor| parts.contains(&tensor.name)) {
        let row = tensor.values.len() / places.len();
        tensor.values = places.iter().flat_map(|&place| tensor.values[place * row..][..row].iter().copied()).collect();
    }
    let blank = network.config.blank(device).context("cannot build the network again")?;
    let model = weights::assign(blank, tensors).context("cannot build the network again")?;
    Ok(LoadedNetwork { model, class_names: names.to_vec(), ..network })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn names_decide_and_numbers_do_not() {
        let compare = |file: &str, data: &str| compare(&names(file), &names(data));
        assert_eq!(compare("ant bee cat", "ant bee cat"), Match::Same);
        assert_eq!(compare("ant bee cat", "cat ant bee"), Match::Reordered(vec![2, 0, 1]));
        assert_eq!(compare("0 1 10 2", "0 1 2 10"), Match::Reordered(vec![0, 1, 3, 2]));
        assert_eq!(compare("0 1 2", "ant bee cat"), Match::Codes);
        assert_eq!(compare("tench shark", "n01440764 n01484850"), Match::Codes);
        assert_eq!(
            compare("ant bee cat dog", "bee cat dog zoo"),
            Match::Other(names("ant"), names("zoo")),
            "as many, and one of them another"
        );
        assert_eq!(compare("ant ant bee", "ant bee ant"), Match::Other(vec![], vec![]));
    }
}

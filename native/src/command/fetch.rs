//! `potstill fetch`: a data set's official files.

use crate::cli::Fetch;
use crate::dataset::SETS;
use crate::error::{Failure, Result};
use crate::fetch;

/// Downloads, checks and unpacks.
///
/// # Errors
/// Exit code 2 for a set that cannot be fetched; 1 for files that cannot be had.
pub fn run(options: &Fetch) -> Result<()> {
    let sources = || SETS.iter().filter_map(|set| Some((set.name, set.source.as_ref()?)));
    let Some((_, source)) = sources().find(|(name, _)| name.eq_ignore_ascii_case(&options.name)) else {
        let known: Vec<&str> = sources().map(|(name, _)| name).collect();
        return Err(Failure::usage(format!("{:?} cannot be fetched; there are {}", options.name, known.join(", "))));
    };
    fetch::fetch(source, &options.data_dir)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_known_sets_are_fetched() {
        let options = Fetch { name: "nonesuch".to_owned(), data_dir: "nowhere".into() };
        let failure = run(&options).expect_err("unknown");
        assert!(failure.code() == 2 && failure.to_string().contains("Flowers-102"), "{failure}");
        assert!(!Path::new("nowhere").exists());
    }
}

//! `potstill fetch`: a data set's official files.

use crate::cli::Fetch;
use crate::error::Result;
use crate::fetch;

/// Downloads, checks and unpacks.
pub fn run(options: &Fetch) -> Result<()> {
    fetch::fetch(&options.name, &options.data_dir)
}

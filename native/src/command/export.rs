//! `potstill export`: a network as one file that says of itself what whoever opens it needs to know.

use burn::cubecl::future::block_on;
use potstill_core::weights::{self, Measured};

use crate::cli::Export;
use crate::dataset::{self, Split};
use crate::device::{self, DeviceChoice};
use crate::error::{Context, Failure, Result};
use crate::evaluate::evaluate;
use crate::folder::write_whole;
use crate::progress::say;
use crate::weights::{LoadedNetwork, arrange, load_network};

/// Writes the file; with a data set, what it measures is the network as it was written, not as it was before rounding.
pub fn run(options: &Export, choice: &DeviceChoice) -> Result<()> {
    if options.to.extension().is_none_or(|extension| extension != "safetensors") {
        let path = options.to.display();
        return Err(Failure::usage(format!("--to {path} is no safetensors file; end its name in .safetensors")));
    }
    let device = device::choose(choice)?.device;
    let network = load_network(&options.network, &device)?;
    let description = network.description();
    let tensors = block_on(weights::read(&network.model)).context("cannot read the network back")?;
    let serialise = if options.half { weights::to_safetensors_half } else { weights::to_safetensors };
    let mut metadata = description.metadata();
    let mut bytes = serialise(&tensors, metadata.clone()).context("cannot write the weights")?;
    let mut figures = String::new();
    if let Some(name) = &options.dataset {
        let dataset = dataset::open(name, options.data_dir.as_deref(), Split::HeldOut, network.how(None))?;
        let (rounded, _) = weights::from_safetensors(&bytes).context("cannot read back what is written")?;
        let model = description.network(rounded, &device).context("cannot read back what is written")?;
        let written = LoadedNetwork { model, ..network };
        let written = arrange(written, dataset.class_names(), dataset.name(), false, &device)?;
        let classify = |images| written.classify(images);
        let transform = written.transform();
        let (found, _) = evaluate(&classify, &written.config, dataset.as_ref(), &transform, None, &device)?;
        let (dataset, samples, accuracy) = (dataset.name().to_owned(), found.samples(), found.accuracy());
        figures = format!(", right on {:.2} % of {samples} samples of {dataset}", 100.0 * accuracy);
        Measured { dataset, samples, accuracy }.write(&mut metadata);
        bytes = serialise(&tensors, metadata).context("cannot write the weights")?;
    }
    write_whole(&options.to, &bytes)?;
    let precision = if options.half { "half" } else { "single" };
    say(format_args!("{}: {} bytes in {precision} precision{figures}", options.to.display(), bytes.len()));
    Ok(())
}

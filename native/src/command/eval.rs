//! `potstill eval`: a network on a data set's held-out samples.

use std::time::Instant;

use serde_json::json;

use crate::cli::Eval;
use crate::confusion::{self, Format};
use crate::dataset::{self, Split};
use crate::device::{self, DeviceChoice};
use crate::error::{Failure, Result};
use crate::evaluate::{evaluate, fits};
use crate::progress::say;
use crate::weights::{arrange, load_network};

/// Measures and prints.
pub fn run(options: &Eval, choice: &DeviceChoice) -> Result<()> {
    if options.limit == Some(0) {
        return Err(Failure::usage("--limit is 0; it must be at least 1"));
    }
    let matrix = options.confusion.as_deref().map(|path| Ok((path, Format::of(path)?))).transpose()?;
    let chosen = device::choose(choice)?;
    let network = load_network(&options.network, &chosen.device)?;
    let how = network.how(options.limit);
    let dataset = dataset::open(&options.dataset, options.data_dir.as_deref(), Split::HeldOut, how)?;
    fits(&network.config, dataset.as_ref(), &network.path.display().to_string())?;
    let network = arrange(network, dataset.class_names(), dataset.name(), options.ignore_class_names, &chosen.device)?;
    if let Some((_, format)) = matrix {
        format.takes(network.config.classes())?;
    }
    let start = Instant::now();
    let (evaluation, _) = evaluate(
        &|images| network.classify(images),
        &network.config,
        dataset.as_ref(),
        &network.transform(),
        options.limit,
        &chosen.device,
    )?;
    if !evaluation.loss().is_finite() {
        let (path, loss) = (network.path.display(), evaluation.loss());
        return Err(Failure::work(format!(
            "{path}: its loss is {loss}: the network gives no numbers on these pictures, so nothing is measured"
        )));
    }
    let rate = evaluation.samples() as f64 / start.elapsed().as_secs_f64();
    if let Some((path, format)) = matrix {
        let title = format!("{} samples of {}", evaluation.samples(), dataset.name());
        confusion::write(path, format, &evaluation, dataset.class_names(), &title)?;
    }
    if options.json {
        let line = json!({
            "accuracy": evaluation.accuracy(),
            "top5": evaluation.top5(),
            "loss": evaluation.loss(),
            "samples": evaluation.samples(),
            "images_per_second": rate,
            "pictures": network.pictures(),
        });
        say(line);
    } else {
        say(format_args!("{} on {} ({})", network.path.display(), dataset.name(), chosen.info.name));
        say(format_args!("  pictures  {}", network.pictures()));
        say(format_args!("  accuracy  {:.2} %", 100.0 * evaluation.accuracy()));
        say(format_args!("  top 5     {:.2} %", 100.0 * evaluation.top5()));
        say(format_args!("  loss      {:.4}", evaluation.loss()));
        say(format_args!("  samples   {}", evaluation.samples()));
        say(format_args!("  images/s  {rate:.0}"));
    }
    Ok(())
}

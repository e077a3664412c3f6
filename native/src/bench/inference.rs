//! The forward pass of a vision transformer without gradients.

use potstill_core::model::NetworkConfig;
use serde_json::json;

use super::step::{Transformer, activations, forward_flops};
use super::stock::StockVit;
use super::{Passes, Path, Row, Setting, Work, Workload, measure, random};
use crate::error::{Failure, Result};

/// Measures a forward pass of `batch` images.
///
/// # Errors
/// If the sizes are not accepted or do not fit, or if the device fails.
pub fn inference(setting: &Setting, network: Transformer, batch: usize) -> Result<Vec<Row>> {
    let config = network.config()?;
    let mut case = network.case();
    case["batch"] = json!(batch);
    // The activations of one block at a time.
    let working = batch as f64 * activations(&config) / config.depth as f64;
    setting.admit(&case, working + 2.0 * config.parameters() as f64)?;
    let device = &setting.device;
    let images = || random([batch, network.channels, network.image, network.image], device, false);
    let ours = || {
        let ours = NetworkConfig::from(config.clone()).init(0, device).map_err(Failure::usage)?;
        let images = images();
        Ok(Passes { run: Box::new(move || Box::new(ours.forward(images.clone(), None))), hold: None })
    };
    let stock = || {
        let (stock, images) = (StockVit::new(&config, device), images());
        Ok(Passes { run: Box::new(move || Box::new(stock.forward(images.clone()).0)), hold: None })
    };
    let flops = batch as f64 * forward_flops(&config);
    let work = Work { flops: Some(flops), samples: Some(batch), ..Work::default() };
    let paths = vec![
        Workload { path: Path::Potstill, start: Box::new(ours) },
        Workload { path: Path::Stock, start: Box::new(stock) },
    ];
    measure("inference", &case, work, setting, paths)
}

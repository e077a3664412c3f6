//! The forward pass of a vision transformer without gradients.

use burn::tensor::Device;
use potstill_core::model::NetworkConfig;
use serde_json::json;

use super::step::forward_flops;
use super::stock::StockVit;
use super::{Path, Repeats, Row, Transformer, Work, Workload, measure, random};
use crate::error::{Failure, Result};

/// Measures a forward pass of `batch` images.
///
/// # Errors
/// If the sizes make no sense, or the device fails.
pub fn inference(device: &Device, repeats: Repeats, network: Transformer, batch: usize) -> Result<Vec<Row>> {
    let config = network.config()?;
    let ours = NetworkConfig::from(config.clone()).init(0, device).map_err(Failure::usage)?;
    let stock = StockVit::new(&config, device);
    let images = random([batch, network.channels, network.image, network.image], device, false);
    let mut case = network.case();
    case["batch"] = json!(batch);
    let flops = batch as f64 * forward_flops(&config);
    let work = Work { flops: Some(flops), samples: Some(batch), ..Work::default() };
    let paths = vec![
        Workload { path: Path::Potstill, run: Box::new(|| Box::new(ours.forward(images.clone(), None))), hold: None },
        Workload { path: Path::Stock, run: Box::new(|| Box::new(stock.forward(images.clone()).0)), hold: None },
    ];
    measure("inference", &case, work, device, repeats, paths)
}

//! `potstill devices`: what this machine can compute on.

use std::io::Write;

use crate::cli::Devices;
use crate::device::{self, DeviceChoice, Listed};
use crate::error::{Context, Result};

/// Prints every device that `--device` can take. The choice itself does not matter here: nothing is opened.
pub fn run(options: &Devices, _choice: &DeviceChoice) -> Result<()> {
    let lines = device::list();
    let text = match options.json {
        true => serde_json::to_string_pretty(&lines).context("cannot serialise the devices")? + "\n",
        false => table(&lines),
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write the devices")
}

/// Columns as wide as their contents; an asterisk marks what `auto` takes.
fn table(lines: &[Listed]) -> String {
    let head = ["", "--device", "kind", "api", "name", "driver", ""].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head)
        .chain(lines.iter().map(|line| {
            let mark = if line.default { "*" } else { "" };
            let note = if line.usable { line.reason.clone() } else { format!("not usable: {}", line.reason) };
            let [kind, api] = [line.info.kind.to_string(), line.info.api.to_string()];
            [mark.to_owned(), line.device.clone(), kind, api, line.info.name.clone(), line.driver.clone(), note]
        }))
        .collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Api, DeviceInfo, Kind};

    #[test]
    fn the_table_lines_up_and_marks_the_default() {
        let line = |device: &str, kind, api, default, usable| Listed {
            index: None,
            device: device.to_owned(),
            info: DeviceInfo { kind, name: "Name".to_owned(), api },
            driver: String::new(),
            default,
            usable,
            reason: "reason".to_owned(),
        };
        let lines = [
            line("gpu:0", Kind::DiscreteGpu, Api::Vulkan, false, false),
            line("cpu", Kind::Cpu, Api::Flex, true, true),
        ];
        let expected = "   --device  kind          api     name  driver\n\
                        \u{20}  gpu:0     discrete-gpu  vulkan  Name          not usable: reason\n\
                        *  cpu       cpu           flex    Name          reason\n";
        assert_eq!(table(&lines), expected);
    }
}

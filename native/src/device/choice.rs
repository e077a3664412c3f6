//! The choice of a device: what `--device` asks for, and what it can ask for.

use std::fmt;
use std::str::FromStr;

use potstill_core::op::Reduction;
use serde::Serialize;

use super::opening::{cpu, cpu_info, open};
use super::probe::{Adapter, Adapters};
use super::{Chosen, DeviceInfo, Kind, preference};
use crate::error::{Failure, Result};

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if there is one, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this number, or the first that can be used.
    Gpu(Option<usize>),
    /// A graphics adapter that computes on the CPU; for tests.
    Software,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            // The reference projects' word for a GPU, if there is one.
            "auto" | "cuda" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "gpu" => return Ok(Self::Gpu(None)),
            "software" => return Ok(Self::Software),
            other => {
                if let Some(Ok(number)) = other.strip_prefix("gpu:").map(str::parse) {
                    return Ok(Self::Gpu(Some(number)));
                }
            }
        }
        Err("it must be auto, cpu, gpu, gpu:N (N as `potstill devices` numbers them) or software".to_owned())
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(None) => f.write_str("gpu"),
            Self::Gpu(Some(number)) => write!(f, "gpu:{number}"),
            Self::Software => f.write_str("software"),
        }
    }
}

/// A line of `potstill devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The number of a GPU, for `gpu:N`. The CPU and software adapters have none.
    pub index: Option<usize>,
    /// The value of `--device` that chooses it.
    pub device: String,
    /// What it is.
    #[serde(flatten)]
    pub info: DeviceInfo,
    /// Its driver, if there is one.
    pub driver: String,
    /// Whether `auto` chooses it.
    pub default: bool,
    /// Whether the kernels can run on it.
    pub usable: bool,
    /// Why it is chosen or not.
    pub reason: String,
}

/// Opens the requested device. Call it once in a process: an adapter keeps the settings with which it was opened first.
///
/// # Errors
/// Exit code 1, with what was found and what to do, if there is no such device or if it cannot be opened.
pub fn choose(choice: &DeviceChoice) -> Result<Chosen> {
    let chosen = find(choice)?;
    if preference().0 == Reduction::Subgroups && chosen.info.kind == Kind::Cpu {
        let reason = &chosen.reason;
        return Err(Failure::usage(format!("--shaders subgroups: the CPU runs no shaders ({reason}); leave it out")));
    }
    Ok(chosen)
}

fn find(choice: &DeviceChoice) -> Result<Chosen> {
    let asked = format!("asked for with --device {choice}");
    match choice {
        DeviceChoice::Cpu => Ok(cpu(asked)),
        DeviceChoice::Auto => Ok(best(&Adapters::find())),
        DeviceChoice::Gpu(None) => {
            let adapters = Adapters::find();
            let Some((_, adapter)) = adapters.usable().next() else {
                return Err(Failure::work(format!("{}; {}", adapters.lack(), adapters.advice())));
            };
            open(adapter, asked)
        }
        DeviceChoice::Gpu(Some(number)) => {
            let adapters = Adapters::find();
            if adapters.gpus.is_empty() {
                return Err(Failure::work(format!("{}; {}", adapters.lack(), adapters.advice())));
            }
            let Some(adapter) = adapters.gpus.get(*number) else {
                let count = adapters.gpus.len();
                let have = match count {
                    1 => "the only GPU is gpu:0".to_owned(),
                    _ => format!("the GPUs are gpu:0 to gpu:{}", count - 1),
                };
                return Err(Failure::work(format!("there is no gpu:{number}; {have} (see `potstill devices`)")));
            };
            open(adapter, asked)
        }
        DeviceChoice::Software => {
            let adapters = Adapters::find();
            match adapters.software.first() {
                Some(adapter) => open(adapter, asked),
                None => Err(Failure::work(
                    "no software adapter was found; install one (such as Mesa's lavapipe), or use --device cpu",
                )),
            }
        }
    }
}

/// The first GPU that can be opened, otherwise the CPU.
fn best(adapters: &Adapters) -> Chosen {
    let count = adapters.gpus.len();
    let mut refused = None;
    for (number, adapter) in adapters.usable() {
        let reason = match (count, number) {
            (1, _) => "the only GPU".to_owned(),
            (_, 0) => format!("the first of {count} GPUs"),
            _ => format!("the first of {count} GPUs that can be used"),
        };
        match open(adapter, reason) {
            Ok(chosen) => return chosen,
            Err(failure) => refused = refused.or(Some(failure.to_string())),
        }
    }
    cpu(refused.unwrap_or_else(|| adapters.lack()))
}

/// All devices that `--device` can choose. The CPU comes last among the usable ones.
pub fn list() -> Vec<Listed> {
    let adapters = Adapters::find();
    let taken = adapters.usable().next().map(|(number, _)| number);
    let line = |adapter: &Adapter, index: Option<usize>, device: String, reason: &str| Listed {
        index,
        device,
        info: adapter.info.clone(),
        driver: adapter.driver.clone(),
        default: index.is_some() && index == taken,
        usable: adapter.flaw.is_none(),
        reason: adapter.flaw.clone().unwrap_or_else(|| reason.to_owned()),
    };
    let mut lines = Vec::new();
    for (number, adapter) in adapters.gpus.iter().enumerate() {
        let reason = match taken == Some(number) {
            true => "taken by auto",
            false => "an earlier one is taken by auto",
        };
        lines.push(line(adapter, Some(number), DeviceChoice::Gpu(Some(number)).to_string(), reason));
    }
    lines.push(Listed {
        index: None,
        device: DeviceChoice::Cpu.to_string(),
        info: cpu_info(),
        driver: String::new(),
        default: taken.is_none(),
        usable: true,
        reason: match taken {
            Some(_) => "a GPU is taken by auto".to_owned(),
            None => "taken by auto: there is no GPU to use".to_owned(),
        },
    });
    for adapter in &adapters.software {
        lines.push(line(adapter, None, DeviceChoice::Software.to_string(), "for tests; slower than the CPU path"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::Api;
    use super::super::probe::tests::adapter;
    use super::*;

    #[test]
    fn spellings_are_read_and_written() {
        for text in ["auto", "cpu", "gpu", "gpu:0", "gpu:12", "software"] {
            assert_eq!(text.parse::<DeviceChoice>().map(|choice| choice.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "gpu:", "gpu:-1", "gpu:x", "gpu0", "rocm", "gpu:99999999999999999999"] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(error.contains("gpu:N") && error.contains("software"), "{text}: {error}");
        }
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_not_taken() {
        let weak = Adapters { gpus: vec![adapter(Kind::OtherGpu, "Tiny", Some("it is small"))], ..Default::default() };
        let chosen = best(&weak);
        assert_eq!((chosen.info.kind, &*chosen.reason), (Kind::Cpu, "the only GPU, Tiny, cannot be used: it is small"));
    }

    #[test]
    fn the_cpu_is_always_there() {
        let chosen = choose(&DeviceChoice::Cpu).expect("the CPU");
        assert_eq!((chosen.info.kind, chosen.info.api), (Kind::Cpu, Api::Flex));
        assert_eq!(chosen.reason, "asked for with --device cpu");
        assert_eq!(serde_json::to_value(&chosen.info).expect("serialises")["kind"], "cpu");
    }
}

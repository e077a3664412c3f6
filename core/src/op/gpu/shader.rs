//! A WGSL template, and everything that determines its text.
//!
//! What cubecl requires of hand-written WGSL, and how an instance meets it:
//! * The pipeline layout is derived from the text, so a binding that is declared but not used is an error. [`Shader::flag`]
//!   therefore cuts unused parts out of the text.
//! * A native build allocates several tensors inside one buffer. WebGPU does not allow a buffer to be `read` and `read_write` in
//!   one dispatch, so native instances declare every storage buffer `read_write`. In the browser each tensor has its own buffer,
//!   and binding one tensor twice as `read_write` would be an error. So inputs are `read` there.
//! * Pipelines are cached by identifier, not by text. So the identifier contains everything that determines the text.

use burn::backend::DType;
use burn::backend::wgpu::{KernelSource, SourceTemplate};
use burn::cubecl::prelude::KernelId;

use super::choice::Reduction;

/// The text of a file of `shaders/`, without its comments: see `build.rs`.
macro_rules! wgsl {
    ($file:literal) => {
        include_str!(concat!(env!("OUT_DIR"), "/", $file))
    };
}
pub(in crate::op) use wgsl;

/// The flag of instances that sum with subgroup operations.
const SUBGROUPS: &str = "subgroups";

/// The flag of instances that read and write `f16`.
const HALF: &str = "half";

/// The access mode of input buffers on this build's target.
const ACCESS: &str = if cfg!(target_family = "wasm") { "read" } else { "read_write" };

/// The entry point of every text.
const ENTRY: &str = wgsl!("entry.wgsl");

/// The text that shaders share which sum over the invocations of a row. See [`Shader::over_rows`].
pub(in crate::op) const ROW_REDUCE: &str = wgsl!("row_reduce.wgsl");

/// One WGSL template, with everything that determines its text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::op) struct Shader {
    file: &'static str,
    texts: &'static [&'static str],
    access: &'static str,
    threads: u32,
    values: Vec<(&'static str, u32)>,
    flags: Vec<(&'static str, bool)>,
}

impl Shader {
    /// A template for workgroups of `threads` invocations. It consists of `texts` (that of the file called `file`, and those that
    /// it shares with other files) and the entry point. WGSL may use a name before its declaration, so the texts may have any
    /// order.
    pub fn new(file: &'static str, texts: &'static [&'static str], threads: usize) -> Self {
        let shader =
            Self { file, texts, access: ACCESS, threads: threads as u32, values: Vec::new(), flags: Vec::new() };
        shader.value("threads", threads)
    }

    /// Fills the placeholder `{{ name }}` with `value`.
    pub fn value(mut self, name: &'static str, value: usize) -> Self {
        self.values.push((name, value as u32));
        self
    }

    /// Keeps (`on`) or cuts the lines between `//@ if name` and `//@ end`. After `//@ else` it does the opposite.
    pub fn flag(mut self, name: &'static str, on: bool) -> Self {
        self.flags.push((name, on));
        self
    }

    /// For a template with [`ROW_REDUCE`]. The [`Reduction`] follows from the device of the launch.
    pub fn over_rows(self) -> Self {
        self.flag(SUBGROUPS, false)
    }

    /// The same instance with this `reduction`, if it sums over the invocations of a row.
    pub fn reduced_by(mut self, reduction: Reduction) -> Self {
        for (name, on) in &mut self.flags {
            *on = if *name == SUBGROUPS { reduction == Reduction::Subgroups } else { *on };
        }
        self
    }

    /// The same, for rows that few invocations share. These read each other's numbers.
    pub fn over_few_lanes(self) -> Self {
        self.flag("direct", true).over_rows()
    }

    /// Reads and writes numbers of `dtype`, `F32` or `F16`. The text computes in `f32` in both cases.
    pub fn elements(self, dtype: DType) -> Self {
        self.flag(HALF, dtype == DType::F16)
    }

    /// Whether it needs `f16`.
    pub fn half(&self) -> bool {
        self.flags.contains(&(HALF, true))
    }

    /// The same instance with each reduction, or unchanged if it has none.
    pub fn reductions(self) -> Vec<Self> {
        let both = [Reduction::Plain, Reduction::Subgroups].map(|reduction| self.clone().reduced_by(reduction));
        if both[0] == both[1] { vec![self] } else { both.into() }
    }

    /// Whether it needs subgroups.
    pub fn subgroups(&self) -> bool {
        self.flags.contains(&(SUBGROUPS, true))
    }

    /// The same instance with the access mode `access` for its input buffers.
    pub fn with_access(mut self, access: &'static str) -> Self {
        self.access = access;
        self
    }

    /// A unique name of the instance, for reports.
    pub fn name(&self) -> String {
        let mut name = self.file.to_string();
        for (key, value) in &self.values {
            name += &format!("-{key}{value}");
        }
        for (key, on) in &self.flags {
            name += &format!("-{}{key}", if *on { "" } else { "no_" });
        }
        name + "-" + self.access
    }

    fn template(&self) -> SourceTemplate {
        let mut text = String::new();
        let mut keep = true;
        for line in self.texts.iter().chain(&[ENTRY]).flat_map(|text| text.lines()) {
            match line.trim().strip_prefix("//@ ") {
                Some("else") => keep = !keep,
                Some("end") => keep = true,
                Some(rule) => {
                    let name = rule.trim_start_matches("if ");
                    keep = self.flags.iter().any(|(flag, on)| *flag == name && *on);
                }
                None if keep => {
                    text += line;
                    text.push('\n');
                }
                None => {}
            }
        }
        let template = SourceTemplate::new(text).register("access", self.access);
        self.values.iter().fold(template, |template, (name, value)| template.register(*name, value.to_string()))
    }

    /// The finished WGSL.
    pub fn text(&self) -> String {
        self.template().complete()
    }
}

impl Shader {
    /// Invocations of a workgroup.
    pub fn threads(&self) -> u32 {
        self.threads
    }
}

impl KernelSource for Shader {
    fn source(&self) -> SourceTemplate {
        self.template()
    }

    fn id(&self) -> KernelId {
        // The file's name stands for its text. To hash the text at every launch would be slow.
        let Self { file, access, threads, values, flags, .. } = self;
        KernelId::new::<Self>().info((*file, *access, *threads, values.clone(), flags.clone()))
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

#[cfg(test)]
mod tests {
    use super::Shader;

    #[test]
    fn a_flag_cuts_its_lines() {
        let texts = &["a\n//@ if x\nb {{ n }}\n//@ else\nc\n//@ end\n", "d\n"];
        let shader = |on| Shader::new("t", texts, 1).value("n", 7).flag("x", on).text();
        assert!(shader(true).starts_with("a\nb 7\nd\n@compute"));
        assert!(shader(false).starts_with("a\nc\nd\n@compute"));
    }
}

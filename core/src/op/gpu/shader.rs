//! A WGSL template and everything that its text is made from.
//!
//! What cubecl asks of hand-written WGSL, and how an instance keeps to it:
//! * The pipeline layout is derived from the text, so a binding that is declared and not used is an error. What an
//!   instance does not need is cut out of its text by [`Shader::flag`] and not merely left unused.
//! * A native build allocates several tensors inside one buffer, and WebGPU allows no buffer to be `read` and
//!   `read_write` in one dispatch: native instances declare every storage buffer `read_write`. In the browser each
//!   tensor has pages of its own, and the same tensor bound twice to `read_write` would be an error: there, `read`.
//! * Pipelines are cached by identifier and never by text, so the identifier is everything the text is made from.

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

/// The flag of what sums by subgroup operations.
const SUBGROUPS: &str = "subgroups";

/// The flag of what reads and writes numbers of `f16`.
const HALF: &str = "half";

/// How input buffers are declared on the target this build is for.
const ACCESS: &str = if cfg!(target_family = "wasm") { "read" } else { "read_write" };

/// The entry point of every text.
const ENTRY: &str = wgsl!("entry.wgsl");

/// What shaders share that sum over the invocations of a row: see [`Shader::over_rows`].
pub(in crate::op) const ROW_REDUCE: &str = wgsl!("row_reduce.wgsl");

/// One WGSL template with everything its text is made from.
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
    /// The template `texts` of the file called `file`, of what it shares with others and of the entry point, run by workgroups of `threads`
    /// invocations. WGSL may use a name before its declaration, so the order is free.
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

    /// Keeps (`on`) or cuts the lines between `//@ if name` and `//@ end`; the other way round after `//@ else`.
    pub fn flag(mut self, name: &'static str, on: bool) -> Self {
        self.flags.push((name, on));
        self
    }

    /// Joined to a text with [`ROW_REDUCE`]. The device of a launch says by which [`Reduction`].
    pub fn over_rows(self) -> Self {
        self.flag(SUBGROUPS, false)
    }

    /// The same instance by `reduction`, if it sums over the invocations of a row.
    pub fn reduced_by(mut self, reduction: Reduction) -> Self {
        for (name, on) in &mut self.flags {
            *on = if *name == SUBGROUPS { reduction == Reduction::Subgroups } else { *on };
        }
        self
    }

    /// The same of rows that few invocations share, which then read each other's numbers.
    pub fn over_few_lanes(self) -> Self {
        self.flag("direct", true).over_rows()
    }

    /// Reads and writes numbers of `dtype`, `F32` or `F16`; the text computes in `f32` either way.
    pub fn elements(self, dtype: DType) -> Self {
        self.flag(HALF, dtype == DType::F16)
    }

    /// Whether it needs `f16`.
    pub fn half(&self) -> bool {
        self.flags.contains(&(HALF, true))
    }

    /// The same instance by either reduction, or as it is where it has none.
    pub fn reductions(self) -> Vec<Self> {
        let both = [Reduction::Plain, Reduction::Subgroups].map(|reduction| self.clone().reduced_by(reduction));
        if both[0] == both[1] { vec![self] } else { both.into() }
    }

    /// Whether it needs subgroups.
    pub fn subgroups(&self) -> bool {
        self.flags.contains(&(SUBGROUPS, true))
    }

    /// The same instance with its input buffers declared `access`.
    pub fn with_access(mut self, access: &'static str) -> Self {
        self.access = access;
        self
    }

    /// A name that tells the instance from every other, for reports.
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
        // The file stands for its text, which would be hashed again with every launch.
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

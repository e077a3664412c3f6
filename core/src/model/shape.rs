//! The sizes of a network. They decide whether one network can teach another.

/// The sizes by which two networks are compared before one teaches the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkShape {
    /// Blocks.
    pub depth: usize,
    /// Width D of the residual stream.
    pub width: usize,
    /// Tokens N, including prefix tokens.
    pub tokens: usize,
    /// Prefix tokens, which are not patches. They come first.
    pub prefix_tokens: usize,
    /// Outputs of each head.
    pub classes: usize,
    /// Whether there is a class token. It is the first token.
    pub class_token: bool,
    /// Whether there is a distillation token. It is the last one before the patches.
    pub distillation_token: bool,
}

impl NetworkShape {
    /// The sizes of a network without tokens. All are 0 except the classes.
    #[cfg(feature = "all-models")]
    pub(super) fn without_tokens(classes: usize) -> Self {
        Self { depth: 0, width: 0, tokens: 0, prefix_tokens: 0, classes, class_token: false, distillation_token: false }
    }

    /// Tokens that are patches.
    pub fn patches(&self) -> usize {
        self.tokens - self.prefix_tokens
    }
}

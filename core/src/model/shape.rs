//! The sizes by which two networks are compared before one teaches the other.

/// The sizes by which two networks are compared before one teaches the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkShape {
    /// Blocks.
    pub depth: usize,
    /// Width D of the residual stream.
    pub width: usize,
    /// Tokens N, prefix tokens among them.
    pub tokens: usize,
    /// Tokens that are no patch; they come first.
    pub prefix_tokens: usize,
    /// Outputs of each head.
    pub classes: usize,
    /// Whether there is a class token, the first of all.
    pub class_token: bool,
    /// Whether there is a distillation token, the last before the patches.
    pub distillation_token: bool,
}

impl NetworkShape {
    /// Of a network that has no tokens: 0 of everything but classes.
    #[cfg(feature = "all-models")]
    pub(super) fn without_tokens(classes: usize) -> Self {
        Self { depth: 0, width: 0, tokens: 0, prefix_tokens: 0, classes, class_token: false, distillation_token: false }
    }

    /// Tokens that are patches.
    pub fn patches(&self) -> usize {
        self.tokens - self.prefix_tokens
    }
}

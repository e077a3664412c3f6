//! The page's program; all of it is in the library, where the host's tests reach it.
fn main() {}

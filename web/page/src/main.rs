//! The page's program; all of it is in the library, where the host's tests reach what needs no browser.

fn main() {
    #[cfg(target_family = "wasm")]
    potstill_page::start();
}

//! Where the command's own thread belongs.
//!
//! Why: Burn's CPU operations and ours share their work out with rayon, some hundred times a step. From a thread that is not of
//! its pool each of them puts the caller to sleep and wakes a worker; from a worker, the caller does its share itself.

use rayon::ThreadPoolBuilder;

/// As much as a program's first thread usually has, and four times what rayon gives: gradients are graphs of depth.
const STACK: usize = 8 << 20;

/// Runs `work` on a thread of rayon's pool. A pool of one thread is left free: what another thread asked of it would wait
/// for ever while `work` waits for that thread.
pub fn within<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // It fails only where a pool is built already, which then has the usual stack.
    let built = ThreadPoolBuilder::new().stack_size(STACK).build_global().is_ok();
    if built && rayon::current_num_threads() > 1 { rayon::scope(|_| work()) } else { work() }
}

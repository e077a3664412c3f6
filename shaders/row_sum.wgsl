// The sum over the LANES invocations that share a row, joined to the text of a pass that declares LANES and THREADS. LANES is
// a power of two that divides THREADS, and the invocations of a row are neighbours.
//
// Owner of the sum. Halves are added, the lower lane to its partner of the upper half, until one is left: the order depends
// on LANES alone.

var<workgroup> parts: array<f32, THREADS>;

// Every invocation of the workgroup must call it. Each gets its row's sum.
fn over_row(own: f32, thread: u32) -> f32 {
    // What was read of the sum before must not be overwritten.
    workgroupBarrier();
    parts[thread] = own;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (thread % LANES < half) {
            parts[thread] += parts[thread + half];
        }
        workgroupBarrier();
    }
    return parts[thread - thread % LANES];
}

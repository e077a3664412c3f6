// Sums and maxima over the LANES invocations that share a row, joined to the text of a pass that declares LANES, THREADS and
// Number: f32 or a vector of it. LANES is a power of two that divides THREADS, and the invocations of a row are neighbours.
//
// Owner of a sum. Halves are added, the lower lane to its partner of the upper half, until one is left: the order depends
// on LANES alone. Rows of few lanes are read `direct`: each invocation adds those of its row upwards after one barrier, and
// the pass puts another between two sums.
//
// With subgroups. WGSL says neither how many invocations a subgroup has, nor which of a workgroup share one, nor that all
// have as many. So a pass asks neighbours() first: if each subgroup is `span` neighbours in their order, all of them at
// work, then partners in it exchange what they have without a barrier, at distances 1, 2, 4, .., and where a row has several
// subgroups one number of each goes through workgroup memory, added upwards. Otherwise span is 0 and the sum is the plain
// one. The order depends on LANES and span, which a device does not change between two runs of a pipeline.

var<workgroup> parts: array<Number, THREADS>;

fn both(a: Number, b: Number, highest: bool) -> Number {
    if (highest) {
        return max(a, b);
    }
    return a + b;
}

//@ if subgroups
// Every invocation of the workgroup must call it, before it sums, with the size of its subgroup and its place in it.
fn neighbours(thread: u32, size: u32, place: u32) -> u32 {
    let block = thread / size;
    let together = subgroupBroadcastFirst(block) == block;
    let present = subgroupAdd(1u);
    let fine = subgroupAll(together && present == size && place == thread % size);
    parts[thread] = Number(f32(select(0u, size, fine)));
    workgroupBarrier();
    // If every size-th invocation is of such a subgroup, these are all there are.
    if (thread == 0u) {
        for (var i = size; i < THREADS; i += size) {
            if (distance(parts[i], parts[0]) > 0.0) {
                parts[0] = Number(0.0);
            }
        }
    }
    return select(0u, size, distance(workgroupUniformLoad(&parts[0]), Number(f32(size))) == 0.0);
}
//@ end

fn reduced(own: Number, highest: bool, thread: u32, span: u32) -> Number {
//@ if subgroups
    if (span > 0u) {
        var x = own;
        for (var apart = 1u; apart < min(span, LANES); apart *= 2u) {
            x = both(x, subgroupShuffleXor(x, apart), highest);
        }
        if (span < LANES) {
            workgroupBarrier();
            if (thread % span == 0u) {
                parts[thread / span] = x;
            }
            workgroupBarrier();
            let first = (thread - thread % LANES) / span;
            x = parts[first];
            for (var i = 1u; i < LANES / span; i++) {
                x = both(x, parts[first + i], highest);
            }
        }
        return x;
    }
//@ end
//@ if direct
    let start = thread - thread % LANES;
    parts[thread] = own;
    workgroupBarrier();
    var whole = parts[start];
    for (var i = 1u; i < LANES; i++) {
        whole = both(whole, parts[start + i], highest);
    }
    return whole;
//@ else
    // What was read of the row before must not be overwritten.
    workgroupBarrier();
    parts[thread] = own;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (thread % LANES < half) {
            parts[thread] = both(parts[thread], parts[thread + half], highest);
        }
        workgroupBarrier();
    }
    return parts[thread - thread % LANES];
//@ end
}

// The sum of a row, which each of its invocations gets. Every invocation of the workgroup must call it.
fn over_row(own: Number, thread: u32, span: u32) -> Number {
    return reduced(own, false, thread, span);
}

// The same of the maxima.
fn highest_of_row(own: Number, thread: u32, span: u32) -> Number {
    return reduced(own, true, thread, span);
}

// Sums and maxima over the LANES invocations that share a row. This is added to the text of a pass, which declares LANES, THREADS
// and Number (f32, or a vector of f32). LANES is a power of two that divides THREADS. The invocations of a row are neighbours.
//
// Owner of a sum. Lanes of the lower half add the numbers of their partners in the upper half, until one lane is left. The order
// depends only on LANES. If a row has few lanes, they read `direct`: after one barrier, each invocation adds the numbers of its
// row upwards. The pass needs another barrier between two sums.
//
// With subgroups. WGSL does not say how many invocations a subgroup has, which invocations share a subgroup, or whether all
// subgroups have the same size. So a pass calls neighbours() first. It checks that each subgroup consists of `span` neighbours in
// their order, and that all of them are active. If so, partners in a subgroup exchange their numbers without a barrier, at
// distances 1, 2, 4, .. If a row has several subgroups, one number of each goes through workgroup memory, and these are added
// upwards. Otherwise span is 0, and the sum is the plain one. The order depends on LANES and span. A device does not change these
// between two runs of a pipeline.

var<workgroup> parts: array<Number, THREADS>;

fn both(a: Number, b: Number, highest: bool) -> Number {
    if (highest) {
        return max(a, b);
    }
    return a + b;
}

//@ if subgroups
// Every invocation of the workgroup must call it before it sums, with the size of its subgroup and its place in the subgroup.
fn neighbours(thread: u32, size: u32, place: u32) -> u32 {
    let block = thread / size;
    let together = subgroupBroadcastFirst(block) == block;
    let present = subgroupAdd(1u);
    let fine = subgroupAll(together && present == size && place == thread % size);
    parts[thread] = Number(f32(select(0u, size, fine)));
    workgroupBarrier();
    // If every size-th invocation begins such a subgroup, there are no other subgroups.
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
    // Numbers of the row before must not be overwritten while they are read.
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

// Returns the sum of a row to each of its invocations. Every invocation of the workgroup must call it.
fn over_row(own: Number, thread: u32, span: u32) -> Number {
    return reduced(own, false, thread, span);
}

// The same for the maximum.
fn highest_of_row(own: Number, thread: u32, span: u32) -> Number {
    return reduced(own, true, thread, span);
}

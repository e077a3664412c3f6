// The cross-entropy of a student's logits and their divergence from a teacher, for each row (Hinton 2015).
//
//   a[c] = z[c] - max z        log_softmax(z)[c] = a[c] - log sum_c exp a[c]
//   t'[c] = (1 - eps) t[c] + eps / C
//   rows[b,0] = - sum_c t'[c] log_softmax(z)[c]
//   rows[b,1] = sum_c p[c] (log p[c] - log_softmax(z / tau)[c])        p = softmax(w / tau)
//
// z are the student's logits, w the teacher's, and t the targets of row b. A class of weight 0 (t'[c] or p[c]) adds nothing,
// whatever its logit is. Some rows have no softmax: rows with a NaN or plus infinity, or with only minus infinity. Their result
// is NaN, written by its bits, since a shader compiler may assume that no number is NaN. Other rows are not affected.
//
// The instance without a teacher has no column 1, and rows is (B).
//
// Owner of every sum. A row belongs to LANES neighbouring invocations. Invocation l sums the classes c with c % LANES = l,
// upwards, and the partial sums are added in a tree of fixed shape. So the same inputs give the same bits.
//
// Limits. Any number of classes from 1, and of rows; fewer than 2^31 elements; LANES a power of two; THREADS at most 256; 4 KiB
// of workgroup memory. Reads, in bytes: 12 B C each for z and w, 4 B C for t. The second and third reading find a row in the
// cache. Writes 8 B (4 B without a teacher).

@group(0) @binding(0) var<storage, {{ access }}> student: array<f32>;    // (B, C)
@group(0) @binding(1) var<storage, {{ access }}> targets: array<f32>;    // (B, C)
@group(0) @binding(2) var<storage, read_write> rows: array<f32>;         // (B, 2), or (B)
//@ if teacher
@group(0) @binding(3) var<storage, {{ access }}> teacher: array<f32>;    // (B, C)
@group(0) @binding(4) var<storage, read> info: array<u32>;               // as below
//@ else
@group(0) @binding(3) var<storage, read> info: array<u32>;               // as below
//@ end
// info: rows, classes, eps, 1 / tau, a NaN; two words each

fn is_zero(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) == 0u;
}

fn work(unit: u32, thread: u32, span: u32) {
    let count = info[0];
    let classes = info[2];
    let smoothing = bitcast<f32>(info[4]);
    let inverse = bitcast<f32>(info[6]);
    let nan = bitcast<f32>(info[8]);
    let first = unit * ROWS;
    if (first >= count) {
        return;
    }
    let row = first + thread / LANES;
    let lane = thread % LANES;
    let base = row * classes;
    let end = select(0u, classes, row < count);    // lanes of a row past the last take part but read nothing

    let top = peaks(base, lane, end, thread, span);

    // The sums of the softmaxes: student, student at tau, teacher at tau.
    var sums = vec4<f32>(0.0);
    for (var c = lane; c < end; c += LANES) {
        let a = student[base + c] - top.x;
        sums.x += exp(a);
//@ if teacher
        sums.y += exp(a * inverse);
        sums.z += exp((teacher[base + c] - top.y) * inverse);
//@ end
    }
    sums = over_row(sums, thread, span);
    let log_sums = log(max(sums, vec4<f32>(1.0)));   // each sum contains exp(0)

    let spread = smoothing / f32(classes);
    var losses = vec4<f32>(0.0);
    for (var c = lane; c < end; c += LANES) {
        let a = student[base + c] - top.x;
        let target_weight = (1.0 - smoothing) * targets[base + c] + spread;
        if (!is_zero(target_weight)) {
            losses.x += target_weight * (log_sums.x - a);
        }
//@ if teacher
        let log_p = (teacher[base + c] - top.y) * inverse - log_sums.z;
        let p = exp(log_p);
        if (!is_zero(p)) {
            losses.y += p * (log_p - (a * inverse - log_sums.y));
        }
//@ end
    }
    losses = over_row(losses, thread, span);

    if (lane == 0u && row < count) {
//@ if teacher
        rows[2u * row] = select(nan, losses.x, top.z == 1.0);
        rows[2u * row + 1u] = select(nan, losses.y, top.z == 1.0 && top.w == 1.0);
//@ else
        rows[row] = select(nan, losses.x, top.z == 1.0);
//@ end
    }
}

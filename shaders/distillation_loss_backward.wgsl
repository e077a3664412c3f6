// The gradient of the losses of distillation_loss.wgsl with respect to the student's logits. Teacher and targets are constants.
//
//   dz[b,c] = d0 (m softmax(z)[c] - t'[c]) + d1 / tau (softmax(z / tau)[c] - softmax(w / tau)[c])
//
// d0 and d1 are the gradients of the row's two losses, t' the smoothed targets, and m = sum_c t'[c], which is 1 for a probability
// distribution. The gradient of a row without a softmax is NaN everywhere. Other rows are not affected.
//
// The instance without a teacher has only the first term, and d_rows is (B).
//
// Owner of every sum. A row belongs to LANES neighbouring invocations. Invocation l sums the classes c with c % LANES = l,
// upwards, and the partial sums are added in a tree of fixed shape. So the same inputs give the same bits.
//
// Limits. Any number of classes from 1, and of rows; fewer than 2^31 elements; LANES a power of two; THREADS at most 256; 4 KiB
// of workgroup memory. Reads, in bytes: 12 B C each for z and w, 8 B C for t, 8 B for d_rows. The second and third reading find a
// row in the cache. Writes 4 B C.

@group(0) @binding(0) var<storage, {{ access }}> student: array<f32>;    // (B, C)
@group(0) @binding(1) var<storage, {{ access }}> targets: array<f32>;    // (B, C)
@group(0) @binding(2) var<storage, {{ access }}> d_rows: array<f32>;     // (B, 2), or (B)
@group(0) @binding(3) var<storage, read_write> d_student: array<f32>;    // (B, C)
//@ if teacher
@group(0) @binding(4) var<storage, {{ access }}> teacher: array<f32>;    // (B, C)
@group(0) @binding(5) var<storage, read> info: array<u32>;               // as below
//@ else
@group(0) @binding(4) var<storage, read> info: array<u32>;               // as below
//@ end
// info: rows, classes, eps, 1 / tau, a NaN; two words each

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
//@ if teacher
    let sound = top.z == 1.0 && top.w == 1.0;
//@ else
    let sound = top.z == 1.0;
//@ end

    // The sums of the softmaxes (student, student at tau, teacher at tau) and of the smoothed targets.
    let spread = smoothing / f32(classes);
    var sums = vec4<f32>(0.0);
    for (var c = lane; c < end; c += LANES) {
        let a = student[base + c] - top.x;
        sums.x += exp(a);
        sums.w += (1.0 - smoothing) * targets[base + c] + spread;
//@ if teacher
        sums.y += exp(a * inverse);
        sums.z += exp((teacher[base + c] - top.y) * inverse);
//@ end
    }
    sums = over_row(sums, thread, span);

//@ if teacher
    var d0 = 0.0;
    var d1 = 0.0;
    if (row < count) {
        d0 = d_rows[2u * row];
        d1 = d_rows[2u * row + 1u] * inverse;
    }
//@ else
    var d0 = 0.0;
    if (row < count) {
        d0 = d_rows[row];
    }
//@ end
    for (var c = lane; c < end; c += LANES) {
        let a = student[base + c] - top.x;
        let target_weight = (1.0 - smoothing) * targets[base + c] + spread;
        var dz = d0 * (sums.w * (exp(a) / sums.x) - target_weight);
//@ if teacher
        let p = exp((teacher[base + c] - top.y) * inverse) / sums.z;
        dz += d1 * (exp(a * inverse) / sums.y - p);
//@ end
        d_student[base + c] = select(nan, dz, sound);
    }
}

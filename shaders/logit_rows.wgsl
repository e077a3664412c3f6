// The shared part of the passes over rows of logits, which is added to their texts: how LANES invocations work on a row together,
// and the maxima of a row. The pass declares `student` and, with a teacher, `teacher`.

alias Number = vec4<f32>;

const LANES: u32 = {{ lanes }}u;              // invocations of a row
const THREADS: u32 = {{ threads }}u;
const ROWS: u32 = THREADS / LANES;            // rows of a workgroup
const LOWEST: f32 = -3.4028234e38;

// 0 for minus infinity, 1 for a finite number, 2 for a NaN or plus infinity.
fn state(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7fffffffu) < 0x7f800000u) {
        return 1.0;
    }
    return select(2.0, 0.0, bits == 0xff800000u);
}

// The maxima of the finite logits and the worst states of the row: the student's and the teacher's maximum, then the student's
// and the teacher's state. `base` is the place of the row's first class. The lane reads its classes below `end`.
fn peaks(base: u32, lane: u32, end: u32, thread: u32, span: u32) -> vec4<f32> {
    var top = vec4<f32>(LOWEST, LOWEST, 0.0, 0.0);
    for (var c = lane; c < end; c += LANES) {
        let z = student[base + c];
        let s = state(z);
        if (s == 1.0) {
            top.x = max(top.x, z);
        }
        top.z = max(top.z, s);
//@ if teacher
        let w = teacher[base + c];
        let r = state(w);
        if (r == 1.0) {
            top.y = max(top.y, w);
        }
        top.w = max(top.w, r);
//@ end
    }
    return highest_of_row(top, thread, span);
}

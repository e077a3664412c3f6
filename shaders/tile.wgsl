// Products of two sets of rows, SIDE of each at a time, in registers: what the passes over attention and attention maps share.
// Joined to the text of a pass, which defines element(source, place), a number of one of its buffers.
//
// A tile belongs to a gang of QUADS x QUADS invocations, (r, c) = (member / QUADS, member % QUADS), and a workgroup has UNITS
// gangs that work on tiles of their own, so that short sequences fill it too. Invocation (r, c) owns rows 4 r to 4 r + 3 of
// the left and 4 c to 4 c + 3 of the right: a block of 4 x 4.
//
// Channels come in slices of SLICE, turned so that one read of workgroup memory gives four rows of a channel: 16
// multiply-adds for two reads. While a slice is loaded, neighbouring invocations read neighbouring channels.
//
// Owner of every sum. products(): a number of a block is summed by its owner, over channels upwards. combine(): likewise, over
// the other side's rows upwards, four at a time.

const SIDE: u32 = {{ side }}u;                // rows of a tile, of either side
const SLICE: u32 = SIDE;                      // channels in workgroup memory at a time
const PITCH: u32 = {{ pitch }}u;              // at least QUADS; odd, so that neighbouring channels start in different banks
const THREADS: u32 = {{ threads }}u;
const QUADS: u32 = SIDE / 4u;
const GANG: u32 = QUADS * QUADS;
const UNITS: u32 = THREADS / GANG;

// A side is named by where its slice begins in `slices`.
const LEFT: u32 = 0u;
const RIGHT: u32 = UNITS * SLICE * PITCH;

var<workgroup> slices: array<vec4<f32>, 2u * RIGHT>;                 // of a side, at d * PITCH + i / 4: four rows
var<workgroup> weights: array<vec4<f32>, UNITS * SIDE * PITCH>;      // at row * PITCH + other row / 4

// Rows of a matrix: number d of row i is at base + i * step + d of the buffer `source`.
struct Rows {
    source: u32,
    base: u32,
    step: u32,
}

// A channel of the four rows from `first`, zero past the last of `count`.
fn quad(rows: Rows, channel: u32, first: u32, count: u32) -> vec4<f32> {
    var x = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if (first + i < count) {
            x[i] = element(rows.source, rows.base + (first + i) * rows.step + channel);
        }
    }
    return x;
}

// Loads a slice of the SIDE rows from `first` to a side; channels past the last of `size` are zero. The caller puts barriers
// around it.
fn load(side: u32, rows: Rows, size: u32, slice: u32, first: u32, count: u32, thread: u32) {
    let unit = side + (thread / GANG) * SLICE * PITCH;
    for (var e = thread % GANG; e < SLICE * QUADS; e += GANG) {
        let d = e % SLICE;
        var x = vec4<f32>();
        if (slice + d < size) {
            x = quad(rows, slice + d, first + 4u * (e / SLICE), count);
        }
        slices[unit + d * PITCH + e / SLICE] = x;
    }
}

// Products of the own left rows (columns of the matrix) with the own right rows (its rows), both of `size` channels.
fn products(a: Rows, b: Rows, size: u32, first_a: u32, first_b: u32, count: u32, thread: u32) -> mat4x4<f32> {
    let r = LEFT + (thread / GANG) * SLICE * PITCH + (thread % GANG) / QUADS;
    let c = RIGHT + (thread / GANG) * SLICE * PITCH + thread % QUADS;
    var s = mat4x4<f32>();
    for (var slice = 0u; slice < size; slice += SLICE) {
        workgroupBarrier();
        load(LEFT, a, size, slice, first_a, count, thread);
        load(RIGHT, b, size, slice, first_b, count, thread);
        workgroupBarrier();
        for (var d = 0u; d < min(SLICE, size - slice); d++) {
            let x = slices[r + d * PITCH];
            let y = slices[c + d * PITCH];
            s[0] += x.x * y;
            s[1] += x.y * y;
            s[2] += x.z * y;
            s[3] += x.w * y;
        }
    }
    return s;
}

// Leaves a block in `weights`, a row there for each left row.
fn put(block: mat4x4<f32>, thread: u32) {
    var x = block;
    let place = (thread / GANG) * SIDE * PITCH + 4u * ((thread % GANG) / QUADS) * PITCH + thread % QUADS;
    for (var i = 0u; i < 4u; i++) {
        weights[place + i * PITCH] = x[i];
    }
}

// The same with left and right exchanged.
fn put_turned(block: mat4x4<f32>, thread: u32) {
    var x = transpose(block);
    let place = (thread / GANG) * SIDE * PITCH + 4u * (thread % QUADS) * PITCH + (thread % GANG) / QUADS;
    for (var i = 0u; i < 4u; i++) {
        weights[place + i * PITCH] = x[i];
    }
}

// Of the slice loaded to a side, sum_j weights[row, j] slice[j, channel] for rows 4 r to 4 r + 3 (columns of the matrix) and
// channels c, c + QUADS, .. (its rows), which are four.
fn combine(side: u32, thread: u32) -> mat4x4<f32> {
    let rows = (thread / GANG) * SIDE * PITCH + 4u * ((thread % GANG) / QUADS) * PITCH;
    let channels = side + (thread / GANG) * SLICE * PITCH + (thread % QUADS) * PITCH;
    var sum = mat4x4<f32>();
    for (var j = 0u; j < QUADS; j++) {
        var x = mat4x4<f32>();
        for (var i = 0u; i < 4u; i++) {
            x[i] = slices[channels + i * QUADS * PITCH + j];
        }
        for (var i = 0u; i < 4u; i++) {
            sum[i] += weights[rows + i * PITCH + j] * x;
        }
    }
    return sum;
}

// Which of the own right rows there are.
fn present(first: u32, count: u32, thread: u32) -> vec4<bool> {
    let row = first + 4u * (thread % QUADS);
    return vec4(row, row + 1u, row + 2u, row + 3u) < vec4(count);
}

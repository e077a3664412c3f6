// Products of two sets of rows in registers, SIDE rows of each at a time. The passes over attention and attention maps share this
// text. It is added to the text of a pass, which defines element(source, place): it reads a number from one of the pass's
// buffers.
//
// A tile belongs to a gang of QUADS x QUADS invocations, (r, c) = (member / QUADS, member % QUADS). A workgroup has UNITS gangs,
// and each works on its own tile, so that short sequences fill a workgroup too. Invocation (r, c) owns rows 4 r to 4 r + 3 of the
// left side and rows 4 c to 4 c + 3 of the right side: a block of 4 x 4.
//
// Channels come in slices of SLICE. They are transposed, so that one read of workgroup memory gives four rows of a channel. These
// are 16 multiply-adds for two reads. While a slice is loaded, neighbouring invocations read neighbouring channels.
//
// Owner of every sum. products(): the owner of a number of a block sums it over channels upwards. combine(): the owner sums over
// the rows of the other side upwards, four at a time.

const SIDE: u32 = {{ side }}u;                // rows of a tile, of either side
const SLICE: u32 = SIDE;                      // channels in workgroup memory at a time
const PITCH: u32 = {{ pitch }}u;              // at least QUADS; odd, so that neighbouring channels start in different banks
const THREADS: u32 = {{ threads }}u;
const QUADS: u32 = SIDE / 4u;
const GANG: u32 = QUADS * QUADS;
const UNITS: u32 = THREADS / GANG;

// A side is identified by the start of its slice in `slices`.
const LEFT: u32 = 0u;
const RIGHT: u32 = UNITS * SLICE * PITCH;

var<workgroup> slices: array<vec4<f32>, 2u * RIGHT>;                 // for a side, at d * PITCH + i / 4: four rows
var<workgroup> weights: array<vec4<f32>, UNITS * SIDE * PITCH>;      // at row * PITCH + other row / 4

// The rows of a matrix. Number d of row i is at base + i * step + d in the buffer `source`.
struct Rows {
    source: u32,
    base: u32,
    step: u32,
}

// A channel of the four rows from `first` on. It is zero past the last of `count` rows.
fn quad(rows: Rows, channel: u32, first: u32, count: u32) -> vec4<f32> {
    var x = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if (first + i < count) {
            x[i] = element(rows.source, rows.base + (first + i) * rows.step + channel);
        }
    }
    return x;
}

// Loads a slice of the SIDE rows from `first` on to a side. Channels past the last of `size` are zero. The caller puts barriers
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

// The products of the invocation's left rows (columns of the result) and right rows (rows of the result), both with `size`
// channels.
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

// Writes a block to `weights`, with one row for each left row.
fn put(block: mat4x4<f32>, thread: u32) {
    var x = block;
    let place = (thread / GANG) * SIDE * PITCH + 4u * ((thread % GANG) / QUADS) * PITCH + thread % QUADS;
    for (var i = 0u; i < 4u; i++) {
        weights[place + i * PITCH] = x[i];
    }
}

// Does the same with left and right exchanged.
fn put_turned(block: mat4x4<f32>, thread: u32) {
    var x = transpose(block);
    let place = (thread / GANG) * SIDE * PITCH + 4u * (thread % QUADS) * PITCH + (thread % GANG) / QUADS;
    for (var i = 0u; i < 4u; i++) {
        weights[place + i * PITCH] = x[i];
    }
}

// sum_j weights[row, j] slice[j, channel] over the slice that is loaded to a side, for rows 4 r to 4 r + 3 (columns of the
// result) and the four channels c, c + QUADS, .. (rows of the result).
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

// Which of the invocation's right rows exist.
fn present(first: u32, count: u32, thread: u32) -> vec4<bool> {
    let row = first + 4u * (thread % QUADS);
    return vec4(row, row + 1u, row + 2u, row + 3u) < vec4(count);
}

// Products of matrices. Each workgroup computes a tile of SIDE x SIDE sums.
//
//   c[m,i,j] = sum_k a[m,i,k] b[m,k,j] (+ bias[j])
//
// The terms come in slices of DEPTH. In workgroup memory, one read gives four rows of a, or four columns of b, for one k. These
// are 16 multiply-adds for two reads. Each operand may be in row-major or column-major order. While a slice is loaded,
// neighbouring invocations read along the contiguous direction.
//
// Owner of every sum. The invocation of a 4 x 4 block sums c[i,j] over k upwards. So the same inputs give the same bits.
//
// Limits. Sizes from 1; fewer than 2^31 elements in a buffer; 64 or 256 invocations; at most 8.5 KiB of workgroup memory. Reads,
// in bytes: 4 M R K ceil(C / SIDE) + 4 M K C ceil(R / SIDE). Writes 4 M R C.

@group(0) @binding(0) var<storage, {{ access }}> a: array<f32>;
@group(0) @binding(1) var<storage, {{ access }}> b: array<f32>;
//@ if bias
@group(0) @binding(2) var<storage, {{ access }}> bias: array<f32>;       // (C)
@group(0) @binding(3) var<storage, read_write> c: array<f32>;            // (M, R, C)
@group(0) @binding(4) var<storage, read> info: array<u32>;
//@ else
@group(0) @binding(2) var<storage, read_write> c: array<f32>;            // (M, R, C)
@group(0) @binding(3) var<storage, read> info: array<u32>;
//@ end
// info, two words each: matrices M, rows R, terms K, columns C; the strides of matrices, rows and columns of a, and those of b.

const SIDE: u32 = {{ side }}u;
const QUADS: u32 = SIDE / 4u;
const THREADS: u32 = {{ threads }}u;          // QUADS * QUADS
const DEPTH: u32 = 16u;
const PITCH: u32 = QUADS + 1u;                // odd, so that neighbouring k start in different banks

var<workgroup> left: array<vec4<f32>, DEPTH * PITCH>;        // at k * PITCH + i / 4
var<workgroup> right: array<vec4<f32>, DEPTH * PITCH>;       // at k * PITCH + j / 4

fn work(unit: u32, thread: u32, span: u32) {
    let rows = info[2];
    let terms = info[4];
    let columns = info[6];
    let across = (columns + SIDE - 1u) / SIDE;
    let tiles = across * ((rows + SIDE - 1u) / SIDE);
    let matrix = unit / tiles;
    // Either the whole group returns or none of it, since barriers follow.
    if (matrix >= info[0]) {
        return;
    }
    let first_row = (unit % tiles) / across * SIDE;
    let first_column = unit % across * SIDE;
    let a_base = matrix * info[8];
    let b_base = matrix * info[14];
    let r = thread / QUADS;
    let q = thread % QUADS;

    var s = mat4x4<f32>();                     // a column for each of the invocation's rows
    for (var first = 0u; first < terms; first += DEPTH) {
        workgroupBarrier();
        for (var e = thread; e < DEPTH * QUADS; e += THREADS) {
            //@ if a_by_rows
            let k = e % DEPTH;
            let i = e / DEPTH;
            //@ else
            let k = e / QUADS;
            let i = e % QUADS;
            //@ end
            var x = vec4<f32>();
            if (first + k < terms) {
                for (var n = 0u; n < 4u; n++) {
                    let row = first_row + 4u * i + n;
                    if (row < rows) {
                        x[n] = a[a_base + row * info[10] + (first + k) * info[12]];
                    }
                }
            }
            left[k * PITCH + i] = x;
        }
        for (var e = thread; e < DEPTH * QUADS; e += THREADS) {
            //@ if b_by_rows
            let k = e / QUADS;
            let j = e % QUADS;
            //@ else
            let k = e % DEPTH;
            let j = e / DEPTH;
            //@ end
            var x = vec4<f32>();
            if (first + k < terms) {
                for (var n = 0u; n < 4u; n++) {
                    let column = first_column + 4u * j + n;
                    if (column < columns) {
                        x[n] = b[b_base + (first + k) * info[16] + column * info[18]];
                    }
                }
            }
            right[k * PITCH + j] = x;
        }
        workgroupBarrier();
        for (var k = 0u; k < min(DEPTH, terms - first); k++) {
            let x = left[k * PITCH + r];
            let y = right[k * PITCH + q];
            s[0] += x.x * y;
            s[1] += x.y * y;
            s[2] += x.z * y;
            s[3] += x.w * y;
        }
    }

    let row = first_row + 4u * r;
    let column = first_column + 4u * q;
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            if (row + i < rows && column + j < columns) {
                //@ if bias
                c[(matrix * rows + row + i) * columns + column + j] = s[i][j] + bias[column + j];
                //@ else
                c[(matrix * rows + row + i) * columns + column + j] = s[i][j];
                //@ end
            }
        }
    }
}

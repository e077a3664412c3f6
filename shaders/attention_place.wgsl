// The place where a gang of tile.wgsl works, in attention and attention maps. This is added to the texts of all six passes. They
// declare qkv, (B, N, 3, H, D), and `info`: tokens, heads, number of all tiles, scale; two words each.

const D: u32 = {{ head_size }}u;
const SLICES: u32 = (D + SLICE - 1u) / SLICE;

// These values are the same for every invocation, so they may control loops with barriers. They are a struct of their own,
// because a struct is only as uniform as its least uniform field.
struct Sizes {
    tokens: u32,
    heads: u32,
    scale: f32,
}

struct Place {
    tiles: u32,       // of a row of tiles
    start: u32,       // the first row of the gang's tile
    pair: u32,        // the index of the row of tiles: of (image, head), head fastest; in a map, of (image, tile of queries)
    kept: bool,       // false past the last tile: the gang then repeats the last tile and keeps nothing
    r: u32,           // the invocation's rows begin at 4 r on the left and at 4 c on the right
    c: u32,
}

fn read_sizes() -> Sizes {
    return Sizes(info[0], info[2], bitcast<f32>(info[6]));
}

fn place_of(unit: u32, thread: u32) -> Place {
    let tiles = (info[0] + SIDE - 1u) / SIDE;
    let wanted = unit * UNITS + thread / GANG;
    let tile = min(wanted, info[4] - 1u);
    let member = thread % GANG;
    return Place(tiles, (tile % tiles) * SIDE, tile / tiles, wanted == tile, member / QUADS, member % QUADS);
}

// Queries (part 0), keys (1) or values (2) of a head.
fn part_of_qkv(part: u32, image: u32, head: u32) -> Rows {
    let heads = info[2];
    let step = 3u * heads * D;                     // from one token to the next
    return Rows(0u, image * info[0] * step + (part * heads + head) * D, step);
}

//! The strokes of each digit, in the handwritings that people use.
//!
//! Coordinates run from 0 to 100, x to the right and y down. A stroke is a smooth curve through its nodes; `c` marks a
//! node where the pen turns sharply, `s` one that it passes smoothly.

/// A place that the pen passes.
pub struct Node {
    pub x: i16,
    pub y: i16,
    /// Whether the pen turns sharply here.
    pub corner: bool,
}

/// One way to write a digit.
pub struct Skeleton {
    /// How common it is, among those of the same digit.
    pub weight: u64,
    /// How far its nodes may stray, 1 being usual.
    pub jitter: f64,
    pub strokes: &'static [&'static [Node]],
}

const fn s(x: i16, y: i16) -> Node {
    Node { x, y, corner: false }
}

const fn c(x: i16, y: i16) -> Node {
    Node { x, y, corner: true }
}

const fn way(weight: u64, strokes: &'static [&'static [Node]]) -> Skeleton {
    Skeleton { weight, jitter: 1.0, strokes }
}

/// A way in which straying changes the digit soon.
const fn strict(weight: u64, jitter: f64, strokes: &'static [&'static [Node]]) -> Skeleton {
    Skeleton { weight, jitter, strokes }
}

/// By digit.
pub const SKELETONS: [&[Skeleton]; 10] = [ZERO, ONE, TWO, THREE, FOUR, FIVE, SIX, SEVEN, EIGHT, NINE];

#[rustfmt::skip]
const ZERO: &[Skeleton] = &[
    // An oval from the top, anticlockwise.
    way(5, &[&[s(55, 2), s(25, 12), s(10, 45), s(18, 85), s(45, 98), s(75, 85), s(88, 50), s(80, 15), s(53, 2)]]),
    // A circle.
    way(4, &[&[s(50, 0), s(15, 15), s(0, 50), s(15, 85), s(50, 100), s(85, 85), s(100, 50), s(85, 15), s(48, 1)]]),
    // Closed past its start.
    way(3, &[&[s(75, 8), s(40, 2), s(12, 35), s(15, 80), s(48, 98), s(82, 75), s(85, 30), s(60, 6), s(35, 14)]]),
    // A narrow one.
    way(2, &[&[s(55, 2), s(35, 15), s(25, 50), s(30, 85), s(48, 98), s(65, 85), s(73, 50), s(70, 15), s(54, 2)]]),
    // The end turns inside.
    way(2, &[
        &[s(45, 20), s(22, 22), s(8, 55), s(22, 92), s(55, 96), s(88, 65), s(85, 20), s(55, 2), s(30, 8), s(34, 24)],
    ]),
    // Left open at the top.
    way(1, &[&[s(40, 4), s(14, 30), s(12, 70), s(40, 98), s(74, 88), s(88, 52), s(80, 18), s(58, 8)]]),
    // Struck through.
    way(1, &[
        &[s(55, 2), s(25, 12), s(10, 45), s(18, 85), s(45, 98), s(75, 85), s(88, 50), s(80, 15), s(53, 2)],
        &[s(72, 14), s(28, 86)],
    ]),
    // A tail stands out at the top.
    strict(2, 0.7, &[
        &[s(92, 4), s(62, 8), s(24, 22), s(8, 60), s(26, 94), s(62, 90), s(86, 54), s(74, 16), s(46, 8)],
    ]),
    // Slim, its sides near each other.
    strict(2, 0.5, &[
        &[s(54, 2), s(38, 18), s(32, 52), s(36, 84), s(49, 98), s(62, 84), s(67, 50), s(65, 18), s(52, 2)],
    ]),
    // Wide and low.
    strict(1, 0.7, &[
        &[s(72, 22), s(36, 24), s(4, 50), s(14, 76), s(48, 80), s(88, 64), s(94, 36), s(66, 22), s(40, 28)],
    ]),
    // The end curls in from the right.
    strict(2, 0.7, &[
        &[s(60, 8), s(26, 16), s(8, 56), s(30, 96), s(70, 90), s(88, 52), s(72, 20), s(46, 20), s(32, 30)],
    ]),
    strict(1, 0.6, &[
        &[s(68, 16), s(40, 4), s(14, 34), s(12, 74), s(42, 98), s(76, 82), s(84, 48), s(66, 18), s(52, 30)],
    ]),
];

#[rustfmt::skip]
const ONE: &[Skeleton] = &[
    strict(16, 0.5, &[&[s(50, 0), s(50, 50), s(50, 100)]]),
    // With an upstroke.
    strict(2, 0.5, &[&[c(30, 22), c(52, 2), s(51, 50), s(50, 100)]]),
    strict(1, 0.5, &[&[c(36, 16), c(52, 0), s(51, 50), s(50, 100)]]),
    // With an upstroke and a foot.
    strict(2, 0.6, &[&[c(28, 22), c(50, 2), s(50, 50), s(50, 98)], &[c(18, 98), c(82, 97)]]),
    strict(1, 0.5, &[&[c(50, 0), s(50, 50), s(50, 98)], &[c(25, 99), c(75, 97)]]),
    // A long upstroke and a wide foot.
    strict(1, 0.7, &[&[c(14, 34), s(36, 18), c(54, 0), s(52, 50), s(48, 98)], &[c(6, 98), c(96, 96)]]),
];

#[rustfmt::skip]
const TWO: &[Skeleton] = &[
    // A sharp foot.
    way(5, &[&[s(12, 25), s(32, 4), s(62, 3), s(78, 22), s(68, 50), s(40, 78), c(10, 96), s(50, 95), s(92, 94)]]),
    // A loop at the foot.
    way(4, &[
        &[
            s(12, 22), s(35, 3), s(65, 3), s(76, 28), s(58, 62), s(28, 92),
            s(8, 92), s(14, 76), s(40, 82), s(68, 94), s(95, 86),
        ],
    ]),
    // A great loop.
    way(3, &[
        &[
            s(18, 16), s(42, 2), s(68, 10), s(68, 36), s(52, 68), s(26, 96),
            s(4, 88), s(14, 64), s(42, 68), s(66, 88), s(98, 92),
        ],
    ]),
    // A small loop, the foot a wave.
    way(3, &[
        &[s(8, 18), s(34, 2), s(62, 8), s(64, 34), s(44, 66), s(20, 90), s(16, 80), s(36, 78), s(60, 90), s(96, 78)],
    ]),
    // A round foot, without a loop.
    way(3, &[&[s(15, 20), s(40, 2), s(72, 12), s(72, 40), s(45, 70), c(15, 94), s(35, 90), s(62, 96), s(92, 90)]]),
    way(2, &[&[s(20, 10), s(50, 2), s(75, 15), s(75, 40), s(50, 72), c(20, 98), s(50, 92), s(85, 98)]]),
    // Flat and wide, like a Z.
    way(2, &[&[s(8, 16), s(36, 4), s(68, 8), s(70, 26), s(44, 54), s(22, 78), s(24, 92), s(58, 92), s(98, 84)]]),
    // Begun with a curl.
    way(2, &[&[s(26, 34), s(12, 24), s(28, 4), s(64, 2), s(80, 24), s(64, 54), c(12, 94), s(46, 88), s(90, 96)]]),
    // A tall neck and a short foot.
    way(1, &[&[s(30, 16), s(48, 2), s(66, 16), s(62, 50), s(46, 80), c(30, 96), s(54, 94), s(74, 96)]]),
    // A flat loop from which the foot runs level.
    way(3, &[
        &[s(16, 20), s(42, 3), s(70, 12), s(66, 40), s(40, 72), s(10, 88), s(4, 74), s(30, 66), s(62, 78), s(92, 86)],
    ]),
    // The same, the foot falling.
    way(2, &[
        &[
            s(20, 18), s(46, 2), s(74, 14), s(62, 44), s(34, 74),
            s(8, 82), s(10, 66), s(40, 62), s(66, 76), s(86, 100),
        ],
    ]),
    // The foot turns back at a point and rises.
    way(2, &[&[s(10, 20), s(38, 4), s(70, 10), s(68, 36), s(42, 70), c(6, 92), s(34, 78), s(64, 78), s(98, 82)]]),
    // A coiled start, almost a ring.
    way(1, &[&[s(44, 36), s(20, 34), s(20, 8), s(56, 0), s(80, 18), s(70, 48), c(18, 90), s(48, 86), s(96, 96)]]),
    // A steep narrow one with a small loop.
    way(2, &[&[s(28, 20), s(46, 2), s(66, 14), s(60, 48), s(44, 82), s(28, 94), s(24, 82), s(44, 84), s(74, 96)]]),
];

#[rustfmt::skip]
const THREE: &[Skeleton] = &[
    way(6, &[
        &[
            s(15, 14), s(45, 2), s(74, 15), s(66, 38), c(38, 48),
            s(70, 55), s(84, 75), s(62, 96), s(32, 98), s(10, 86),
        ],
    ]),
    // A small loop in the waist.
    way(3, &[
        &[s(18, 8), s(50, 2), s(74, 18), s(60, 42), s(38, 50), s(50, 50), s(74, 60), s(78, 82), s(50, 98), s(15, 92)],
    ]),
    // A shallow waist.
    way(3, &[&[s(18, 12), s(50, 2), s(76, 16), s(62, 42), s(46, 50), s(66, 58), s(74, 78), s(52, 96), s(14, 94)]]),
    // Leaning back over a short foot.
    way(3, &[&[s(28, 14), s(60, 2), s(84, 14), s(68, 38), c(42, 48), s(66, 54), s(70, 76), s(42, 94), s(2, 94)]]),
    // A great lower bow.
    way(2, &[
        &[s(22, 10), s(48, 0), s(66, 14), s(54, 32), c(34, 38), s(70, 44), s(88, 68), s(68, 94), s(36, 98), s(8, 86)],
    ]),
    // A great upper bow.
    way(1, &[&[s(8, 22), s(38, 2), s(76, 8), s(80, 36), c(44, 56), s(66, 60), s(74, 78), s(54, 96), s(18, 92)]]),
    // A flat top.
    way(1, &[&[c(15, 4), c(75, 4), c(42, 42), s(70, 48), s(84, 70), s(62, 95), s(35, 98), s(10, 88)]]),
    // A hanging tail.
    way(1, &[&[s(12, 16), s(44, 2), s(70, 16), s(58, 38), c(38, 44), s(64, 50), s(72, 70), s(62, 90), s(48, 100)]]),
    // A deep hook at the upper left, the foot falling short.
    way(2, &[&[s(10, 26), s(26, 6), s(58, 2), s(74, 20), c(44, 44), s(70, 52), s(74, 74), s(50, 96), s(26, 96)]]),
    // Both ends curl far in.
    way(2, &[
        &[
            s(16, 26), s(28, 4), s(64, 4), s(74, 26), c(46, 46),
            s(78, 58), s(80, 86), s(46, 100), s(12, 88), s(14, 74),
        ],
    ]),
    // The arms near each other, the ends almost closed.
    way(1, &[
        &[
            s(20, 18), s(44, 0), s(72, 12), s(64, 36), c(40, 46),
            s(72, 52), s(80, 78), s(54, 98), s(22, 92), s(24, 74),
        ],
    ]),
];

#[rustfmt::skip]
const FOUR: &[Skeleton] = &[
    // Open, two strokes.
    way(5, &[&[c(22, 5), s(18, 35), c(18, 55), s(50, 53), s(82, 50)], &[c(78, 2), s(72, 50), s(68, 98)]]),
    way(3, &[&[s(18, 8), s(10, 40), s(22, 56), s(50, 54), s(90, 48)], &[c(68, 15), s(64, 55), s(62, 98)]]),
    // The bar crosses far.
    way(3, &[&[c(36, 2), s(22, 30), c(8, 56), s(50, 54), s(98, 46)], &[c(68, 20), s(60, 60), s(50, 98)]]),
    // Open, one stroke.
    way(4, &[&[s(20, 5), s(14, 38), s(28, 55), s(58, 50), s(76, 30), c(82, 4), s(74, 50), s(68, 98)]]),
    way(2, &[&[c(30, 8), s(20, 32), c(24, 48), s(50, 46), c(72, 42), c(76, 6), s(68, 50), s(60, 98)]]),
    // Low and square.
    way(2, &[&[c(14, 12), s(10, 40), c(10, 66), s(50, 66), s(86, 64)], &[c(82, 2), s(80, 50), s(78, 98)]]),
    // Closed.
    way(2, &[&[c(64, 98), s(66, 50), c(68, 2), s(35, 32), c(8, 62), s(50, 62), s(94, 60)]]),
    // Nearly closed above.
    way(1, &[&[c(50, 0), s(24, 28), c(10, 50), s(44, 52), s(80, 50)], &[c(58, 4), s(58, 50), s(54, 98)]]),
    // The cross at mid-height, both arms narrow.
    way(2, &[&[c(44, 4), s(34, 30), c(26, 54), s(50, 54), s(76, 52)], &[c(66, 4), s(60, 50), s(56, 98)]]),
    // The left arm a round cup.
    way(2, &[&[s(30, 6), s(10, 34), s(14, 58), s(44, 62), s(74, 44), c(86, 8), s(70, 52), s(56, 98)]]),
];

#[rustfmt::skip]
const FIVE: &[Skeleton] = &[
    way(5, &[&[c(80, 4), c(28, 6), c(22, 44), s(48, 36), s(76, 52), s(74, 82), s(44, 98), s(10, 88)]]),
    // The bar apart.
    way(4, &[
        &[c(30, 8), c(24, 42), s(52, 42), s(72, 62), s(62, 88), s(36, 98), s(10, 92)],
        &[c(28, 8), s(60, 5), s(92, 2)],
    ]),
    // A long bar over a small bow.
    way(4, &[
        &[c(40, 16), c(28, 46), s(46, 46), s(58, 62), s(48, 86), s(24, 98), s(2, 92)],
        &[c(40, 16), s(66, 10), s(98, 6)],
    ]),
    // Round, like an S.
    way(4, &[&[s(88, 4), s(50, 4), s(32, 22), s(38, 42), s(62, 58), s(68, 80), s(42, 98), s(10, 90)]]),
    way(2, &[&[c(98, 4), s(64, 8), s(42, 20), s(38, 40), s(56, 54), s(58, 76), s(36, 96), s(4, 90)]]),
    // A bow that curls up at its end.
    way(2, &[&[c(82, 4), c(30, 8), c(24, 42), s(54, 38), s(78, 58), s(70, 88), s(42, 98), s(14, 88), s(18, 72)]]),
    // A neck without a bar.
    way(1, &[&[c(56, 2), s(34, 12), c(30, 46), s(58, 44), s(70, 64), s(62, 90), s(34, 98)]]),
    // A straight neck and a great bow that nearly closes.
    way(2, &[&[c(76, 6), c(40, 8), c(30, 42), s(62, 42), s(80, 68), s(58, 96), s(24, 94), s(16, 76), s(28, 68)]]),
    // A slanted bar that does not touch.
    way(2, &[&[c(32, 16), c(26, 48), s(54, 46), s(66, 66), s(54, 90), s(30, 98), s(8, 88)], &[c(44, 14), c(88, 4)]]),
    // Low and wide.
    way(2, &[&[c(92, 14), c(34, 20), c(26, 46), s(56, 46), s(70, 62), s(54, 82), s(24, 88), s(0, 80)]]),
    // A slim one with a hanging bow.
    way(1, &[&[c(68, 4), c(42, 10), s(36, 30), s(54, 48), s(62, 70), s(50, 92), s(34, 100)]]),
    // A wide bow whose end lies far left of the neck.
    way(4, &[&[c(86, 6), c(40, 10), c(30, 38), s(60, 40), s(78, 62), s(62, 92), s(28, 98), s(0, 80)]]),
    // A square neck, the bow low and round.
    way(2, &[&[c(84, 8), c(26, 4), c(28, 38), s(60, 36), s(82, 60), s(70, 92), s(36, 98), s(4, 84)]]),
];

#[rustfmt::skip]
const SIX: &[Skeleton] = &[
    way(5, &[&[s(66, 2), s(36, 25), s(16, 62), s(26, 94), s(58, 96), s(76, 74), s(58, 56), s(32, 64), s(18, 82)]]),
    // A straight back and a small bowl.
    way(3, &[&[s(50, 0), s(28, 35), s(18, 70), s(30, 96), s(62, 94), s(74, 74), s(56, 62), s(34, 70), s(26, 86)]]),
    // A wide, curled back.
    way(1, &[&[s(86, 8), s(56, 6), s(24, 36), s(14, 74), s(36, 98), s(70, 92), s(80, 70), s(58, 54), s(26, 66)]]),
    // A great bowl under a short back.
    way(3, &[
        &[s(36, 2), s(16, 28), s(6, 66), s(22, 94), s(58, 96), s(88, 72), s(80, 44), s(52, 38), s(26, 54), s(18, 72)],
    ]),
    // An open bowl.
    way(3, &[&[s(40, 0), s(22, 34), s(16, 74), s(38, 98), s(70, 90), s(82, 64), s(62, 50), s(44, 64), s(40, 78)]]),
    // An upright back that the bowl leaves late.
    way(2, &[&[s(30, 0), s(18, 40), s(16, 82), s(42, 98), s(78, 88), s(74, 62), s(46, 58), s(22, 80)]]),
    // A long back, the bowl tiny.
    way(2, &[&[s(62, 0), s(40, 34), s(28, 72), s(36, 98), s(58, 94), s(62, 78), s(48, 72), s(36, 84)]]),
    // Low and wide, the back short.
    way(2, &[&[s(30, 14), s(8, 44), s(10, 76), s(42, 88), s(82, 78), s(92, 54), s(66, 44), s(38, 58), s(30, 74)]]),
    // A plump bowl, the back bent right at the top.
    way(2, &[&[s(60, 4), s(34, 18), s(14, 52), s(22, 90), s(56, 98), s(84, 76), s(72, 50), s(40, 50), s(18, 70)]]),
];

#[rustfmt::skip]
const SEVEN: &[Skeleton] = &[
    way(6, &[&[c(12, 12), s(48, 8), c(86, 6), s(64, 48), s(46, 98)]]),
    // A hook at the left.
    way(3, &[&[c(14, 26), c(16, 6), s(50, 8), c(84, 6), s(64, 48), s(52, 98)]]),
    way(2, &[&[c(10, 34), s(18, 16), c(28, 8), s(54, 14), c(82, 6), s(74, 48), s(64, 98)]]),
    // A round shoulder.
    way(3, &[&[s(10, 18), s(40, 6), s(78, 8), s(76, 36), s(58, 70), s(48, 98)]]),
    // A wave for a bar, as wide as high.
    way(2, &[&[s(0, 28), s(22, 12), s(52, 18), c(92, 6), s(68, 38), s(42, 84)]]),
    // Narrow.
    strict(2, 0.8, &[&[c(26, 12), s(48, 10), c(70, 6), s(62, 50), s(54, 98)]]),
    // A bar.
    way(2, &[&[c(12, 10), s(48, 7), c(86, 5), s(62, 50), s(44, 98)], &[c(34, 52), c(84, 46)]]),
    way(1, &[&[s(16, 16), s(46, 4), s(72, 10), s(66, 44), s(46, 98)], &[c(26, 58), c(82, 48)]]),
    // A long hook at the left, a narrow top.
    way(2, &[&[c(22, 36), c(26, 8), s(50, 10), c(74, 8), s(68, 50), s(62, 98)]]),
    way(2, &[&[c(20, 40), s(24, 16), s(44, 6), s(68, 14), s(68, 50), s(58, 98)]]),
    // A deep wave at the left.
    way(1, &[&[s(6, 30), s(14, 10), s(34, 22), s(56, 24), c(88, 4), s(66, 44), s(40, 92)]]),
];

#[rustfmt::skip]
const EIGHT: &[Skeleton] = &[
    way(5, &[
        &[
            s(76, 14), s(46, 2), s(20, 20), s(42, 44), s(72, 68), s(60, 96),
            s(26, 94), s(20, 70), s(50, 46), s(78, 24), s(72, 8),
        ],
    ]),
    // Left open at the upper right.
    way(4, &[
        &[s(72, 18), s(50, 2), s(24, 16), s(36, 40), s(64, 66), s(56, 94), s(26, 96), s(22, 74), s(50, 48), s(90, 8)],
    ]),
    way(2, &[
        &[
            s(66, 14), s(38, 4), s(22, 22), s(40, 46), s(60, 72),
            s(46, 98), s(22, 88), s(34, 62), s(64, 34), s(88, 16),
        ],
    ]),
    // Begun at the waist.
    way(4, &[&[s(50, 46), s(24, 24), s(48, 2), s(74, 20), s(52, 46), s(24, 74), s(46, 98), s(74, 80), s(50, 46)]]),
    // A wide head over a slim body.
    way(3, &[
        &[
            s(84, 18), s(52, 2), s(18, 18), s(34, 42), s(56, 66),
            s(52, 96), s(34, 96), s(36, 68), s(62, 44), s(86, 20),
        ],
    ]),
    // A small head.
    way(2, &[
        &[
            s(62, 8), s(44, 0), s(32, 16), s(46, 34), s(76, 62), s(66, 94),
            s(26, 96), s(14, 66), s(46, 36), s(66, 18), s(60, 6),
        ],
    ]),
    // Two rings.
    way(2, &[
        &[s(50, 2), s(26, 12), s(28, 38), s(50, 46), s(74, 36), s(74, 12), s(48, 2)],
        &[s(50, 46), s(20, 62), s(24, 92), s(50, 98), s(78, 88), s(80, 60), s(50, 46)],
    ]),
    // The body a mere stroke.
    way(1, &[
        &[
            s(74, 20), s(50, 2), s(24, 16), s(34, 40), s(58, 58),
            s(58, 80), s(46, 98), s(42, 80), s(50, 56), s(78, 24),
        ],
    ]),
    // Squat rings side on.
    way(2, &[
        &[
            s(86, 24), s(54, 6), s(16, 18), s(26, 40), s(70, 56), s(80, 82),
            s(48, 96), s(18, 82), s(36, 58), s(76, 38), s(84, 20),
        ],
    ]),
    // Slim and upright.
    way(2, &[
        &[
            s(62, 14), s(48, 2), s(34, 18), s(46, 42), s(62, 72),
            s(52, 98), s(36, 86), s(42, 62), s(56, 40), s(62, 16),
        ],
    ]),
    // A hook above that never meets its ring.
    way(2, &[
        &[s(88, 6), s(50, 8), s(26, 24), s(46, 42), s(72, 64), s(58, 94), s(24, 92), s(26, 72), s(56, 50), s(72, 34)],
    ]),
    // A tiny body.
    way(2, &[
        &[
            s(80, 16), s(50, 2), s(20, 16), s(32, 38), s(52, 54), s(60, 80),
            s(44, 98), s(34, 84), s(46, 62), s(74, 36), s(80, 14),
        ],
    ]),
    // A slanted one, the closing stroke straight.
    way(2, &[
        &[c(96, 2), s(60, 4), s(42, 18), s(52, 44), s(58, 74), s(38, 98), s(14, 92), s(22, 72), s(56, 42), c(94, 6)],
    ]),
];

#[rustfmt::skip]
const NINE: &[Skeleton] = &[
    // A straight tail.
    way(6, &[&[s(76, 18), s(48, 3), s(20, 24), s(32, 48), s(62, 42), c(78, 12), s(74, 50), s(68, 98)]]),
    // A slim head.
    way(3, &[&[s(70, 14), s(44, 6), s(26, 28), s(36, 44), s(58, 32), c(72, 10), s(64, 50), s(44, 98)]]),
    // A curled tail.
    way(2, &[&[s(74, 16), s(48, 2), s(22, 20), s(28, 44), s(56, 44), c(76, 14), s(78, 60), s(58, 94), s(20, 90)]]),
    // A round head.
    way(3, &[&[s(72, 28), s(50, 4), s(22, 18), s(24, 42), s(50, 48), s(72, 24), s(70, 60), s(58, 98)]]),
    // A great head.
    way(2, &[&[s(84, 22), s(50, 2), s(12, 24), s(14, 56), s(44, 64), s(78, 42), c(86, 12), s(80, 60), s(76, 98)]]),
    // A head left open above.
    way(2, &[&[c(60, 10), s(32, 14), s(20, 36), s(38, 48), s(64, 36), c(78, 16), s(70, 56), s(62, 98)]]),
    // One ring from the waist, the tail bent left.
    way(2, &[&[s(66, 40), s(36, 46), s(28, 18), s(54, 2), s(72, 20), s(70, 56), s(56, 86), s(34, 98)]]),
    // An angular head.
    way(1, &[&[c(74, 8), s(40, 12), c(14, 40), s(44, 44), c(76, 38), c(76, 8), s(72, 50), s(70, 98)]]),
    // A great slanted ring and hardly a tail.
    strict(2, 0.8, &[
        &[s(84, 14), s(50, 4), s(14, 34), s(12, 64), s(40, 64), s(74, 34), c(88, 8), s(78, 56), s(72, 100)],
    ]),
    // A hooked tail under an open head.
    strict(1, 0.8, &[
        &[c(84, 8), s(52, 4), s(24, 20), s(34, 42), s(66, 34), c(80, 20), s(78, 60), s(60, 94), s(28, 96)],
    ]),
    // The tail far to the right, a wide head.
    strict(1, 0.8, &[&[s(80, 26), s(46, 18), s(4, 34), s(10, 58), s(46, 54), c(84, 28), s(92, 60), s(94, 90)]]),
    // A small head on a long tail.
    strict(2, 0.6, &[&[s(64, 12), s(46, 2), s(32, 16), s(42, 32), s(62, 20), s(62, 54), s(56, 98)]]),
    // Begun far to the right, the head a bag.
    strict(2, 0.8, &[&[c(94, 2), s(58, 8), s(28, 26), s(32, 44), s(60, 40), c(82, 18), s(70, 56), s(58, 98)]]),
];

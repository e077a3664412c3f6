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
    Node {
        x,
        y,
        corner: false,
    }
}

const fn c(x: i16, y: i16) -> Node {
    Node { x, y, corner: true }
}

const fn way(weight: u64, strokes: &'static [&'static [Node]]) -> Skeleton {
    Skeleton {
        weight,
        jitter: 1.0,
        strokes,
    }
}

/// A way in which straying changes the digit soon.
const fn strict(weight: u64, jitter: f64, strokes: &'static [&'static [Node]]) -> Skeleton {
    Skeleton {
        weight,
        jitter,
        strokes,
    }
}

/// By digit.
pub const SKELETONS: [&[Skeleton]; 10] =
    [ZERO, ONE, TWO, THREE, FOUR, FIVE, SIX, SEVEN, EIGHT, NINE];

const ZERO: &[Skeleton] = &[
    // An oval from the top, anticlockwise.
    way(
        5,
        &[&[
            s(55, 2),
            s(25, 12),
            s(10, 45),
            s(18, 85),
            s(45, 98),
            s(75, 85),
            s(88, 50),
            s(80, 15),
            s(53, 2),
        ]],
    ),
    // A circle.
    way(
        4,
        &[&[
            s(50, 0),
            s(15, 15),
            s(0, 50),
            s(15, 85),
            s(50, 100),
            s(85, 85),
            s(100, 50),
            s(85, 15),
            s(48, 1),
        ]],
    ),
    // Closed past its start.
    way(
        3,
        &[&[
            s(75, 8),
            s(40, 2),
            s(12, 35),
            s(15, 80),
            s(48, 98),
            s(82, 75),
            s(85, 30),
            s(60, 6),
            s(35, 14),
        ]],
    ),
    // A narrow one.
    way(
        2,
        &[&[
            s(55, 2),
            s(35, 15),
            s(25, 50),
            s(30, 85),
            s(48, 98),
            s(65, 85),
            s(73, 50),
            s(70, 15),
            s(54, 2),
        ]],
    ),
];

const ONE: &[Skeleton] = &[
    strict(14, 0.5, &[&[s(50, 0), s(50, 50), s(50, 100)]]),
    // With an upstroke.
    strict(2, 0.5, &[&[c(30, 22), c(52, 2), s(51, 50), s(50, 100)]]),
    // With an upstroke and a foot.
    strict(
        1,
        0.5,
        &[
            &[c(28, 22), c(50, 2), s(50, 50), s(50, 98)],
            &[c(22, 98), c(80, 97)],
        ],
    ),
    strict(
        1,
        0.5,
        &[&[c(50, 0), s(50, 50), s(50, 98)], &[c(25, 99), c(75, 97)]],
    ),
];

const TWO: &[Skeleton] = &[
    // A sharp foot.
    way(
        5,
        &[&[
            s(12, 25),
            s(32, 4),
            s(62, 3),
            s(78, 22),
            s(68, 50),
            s(40, 78),
            c(10, 96),
            s(50, 95),
            s(92, 94),
        ]],
    ),
    // A loop at the foot.
    way(
        5,
        &[&[
            s(12, 22),
            s(35, 3),
            s(65, 3),
            s(76, 28),
            s(58, 62),
            s(28, 92),
            s(8, 92),
            s(14, 76),
            s(40, 82),
            s(68, 94),
            s(95, 86),
        ]],
    ),
    // A round foot, without a loop.
    way(
        3,
        &[&[
            s(15, 20),
            s(40, 2),
            s(72, 12),
            s(72, 40),
            s(45, 70),
            c(15, 94),
            s(35, 90),
            s(62, 96),
            s(92, 90),
        ]],
    ),
    way(
        2,
        &[&[
            s(20, 10),
            s(50, 2),
            s(75, 15),
            s(75, 40),
            s(50, 72),
            c(20, 98),
            s(50, 92),
            s(85, 98),
        ]],
    ),
];

const THREE: &[Skeleton] = &[
    way(
        6,
        &[&[
            s(15, 14),
            s(45, 2),
            s(74, 15),
            s(66, 38),
            c(38, 48),
            s(70, 55),
            s(84, 75),
            s(62, 96),
            s(32, 98),
            s(10, 86),
        ]],
    ),
    // A small loop in the waist.
    way(
        3,
        &[&[
            s(18, 8),
            s(50, 2),
            s(74, 18),
            s(60, 42),
            s(38, 50),
            s(50, 50),
            s(74, 60),
            s(78, 82),
            s(50, 98),
            s(15, 92),
        ]],
    ),
    // A flat top.
    way(
        1,
        &[&[
            c(15, 4),
            c(75, 4),
            c(42, 42),
            s(70, 48),
            s(84, 70),
            s(62, 95),
            s(35, 98),
            s(10, 88),
        ]],
    ),
];

const FOUR: &[Skeleton] = &[
    // Open, two strokes.
    way(
        5,
        &[
            &[c(22, 5), s(18, 35), c(18, 55), s(50, 53), s(82, 50)],
            &[c(78, 2), s(72, 50), s(68, 98)],
        ],
    ),
    way(
        3,
        &[
            &[s(18, 8), s(10, 40), s(22, 56), s(50, 54), s(90, 48)],
            &[c(68, 15), s(64, 55), s(62, 98)],
        ],
    ),
    // Open, one stroke.
    way(
        3,
        &[&[
            s(20, 5),
            s(14, 38),
            s(28, 55),
            s(58, 50),
            s(76, 30),
            c(82, 4),
            s(74, 50),
            s(68, 98),
        ]],
    ),
    // Closed.
    way(
        2,
        &[&[
            c(64, 98),
            s(66, 50),
            c(68, 2),
            s(35, 32),
            c(8, 62),
            s(50, 62),
            s(94, 60),
        ]],
    ),
];

const FIVE: &[Skeleton] = &[
    way(
        5,
        &[&[
            c(80, 4),
            c(28, 6),
            c(22, 44),
            s(48, 36),
            s(76, 52),
            s(74, 82),
            s(44, 98),
            s(10, 88),
        ]],
    ),
    // The bar apart.
    way(
        4,
        &[
            &[
                c(30, 8),
                c(24, 42),
                s(52, 42),
                s(72, 62),
                s(62, 88),
                s(36, 98),
                s(10, 92),
            ],
            &[c(28, 8), s(60, 5), s(92, 2)],
        ],
    ),
    // Round, like an S.
    way(
        3,
        &[&[
            s(88, 4),
            s(50, 4),
            s(32, 22),
            s(38, 42),
            s(62, 58),
            s(68, 80),
            s(42, 98),
            s(10, 90),
        ]],
    ),
];

const SIX: &[Skeleton] = &[
    way(
        5,
        &[&[
            s(66, 2),
            s(36, 25),
            s(16, 62),
            s(26, 94),
            s(58, 96),
            s(76, 74),
            s(58, 56),
            s(32, 64),
            s(18, 82),
        ]],
    ),
    // A straight back and a small bowl.
    way(
        3,
        &[&[
            s(50, 0),
            s(28, 35),
            s(18, 70),
            s(30, 96),
            s(62, 94),
            s(74, 74),
            s(56, 62),
            s(34, 70),
            s(26, 86),
        ]],
    ),
    // A wide, curled back.
    way(
        3,
        &[&[
            s(86, 8),
            s(56, 6),
            s(24, 36),
            s(14, 74),
            s(36, 98),
            s(70, 92),
            s(80, 70),
            s(58, 54),
            s(26, 66),
        ]],
    ),
];

const SEVEN: &[Skeleton] = &[
    way(6, &[&[c(12, 12), s(48, 8), c(86, 6), s(64, 48), s(46, 98)]]),
    // A hook at the left.
    way(
        3,
        &[&[
            c(14, 26),
            c(16, 6),
            s(50, 8),
            c(84, 6),
            s(64, 48),
            s(52, 98),
        ]],
    ),
    // A round shoulder.
    way(
        3,
        &[&[
            s(10, 18),
            s(40, 6),
            s(78, 8),
            s(76, 36),
            s(58, 70),
            s(48, 98),
        ]],
    ),
    // A bar.
    way(
        2,
        &[
            &[c(12, 10), s(48, 7), c(86, 5), s(62, 50), s(44, 98)],
            &[c(34, 52), c(84, 46)],
        ],
    ),
];

const EIGHT: &[Skeleton] = &[
    way(
        5,
        &[&[
            s(76, 14),
            s(46, 2),
            s(20, 20),
            s(42, 44),
            s(72, 68),
            s(60, 96),
            s(26, 94),
            s(20, 70),
            s(50, 46),
            s(78, 24),
            s(72, 8),
        ]],
    ),
    // Begun at the waist.
    way(
        4,
        &[&[
            s(50, 46),
            s(24, 24),
            s(48, 2),
            s(74, 20),
            s(52, 46),
            s(24, 74),
            s(46, 98),
            s(74, 80),
            s(50, 46),
        ]],
    ),
];

const NINE: &[Skeleton] = &[
    // A straight tail.
    way(
        6,
        &[&[
            s(76, 18),
            s(48, 3),
            s(20, 24),
            s(32, 48),
            s(62, 42),
            c(78, 12),
            s(74, 50),
            s(68, 98),
        ]],
    ),
    // A curled tail.
    way(
        3,
        &[&[
            s(74, 16),
            s(48, 2),
            s(22, 20),
            s(28, 44),
            s(56, 44),
            c(76, 14),
            s(78, 60),
            s(58, 94),
            s(20, 90),
        ]],
    ),
    // A round head.
    way(
        3,
        &[&[
            s(72, 28),
            s(50, 4),
            s(22, 18),
            s(24, 42),
            s(50, 48),
            s(72, 24),
            s(70, 60),
            s(58, 98),
        ]],
    ),
];

//! RandAugment (Cubuk et al., 2019), as in timm and as in torchvision: a few operations are drawn for each image.
//!
//! timm's policies have the names of its option, such as `rand-m9-mstd0.5-inc1`: each of `n` operations (2) is drawn with
//! replacement from 15, and is applied with probability 0.5. Its magnitude is drawn from N(9, 0.5) and limited to 0 to 10.
//! torchvision's policies have names such as `torchvision-n2-m9`: each of `n` operations is drawn from 14 and always applied,
//! with the tenth of 31 magnitudes. `inc1` are timm's operations that all become stronger with the magnitude. timm's other
//! operations are not implemented.

use serde::{Deserialize, Serialize};

use super::ops::{Op, Sampling};
use super::{Error, Interpolation, Picture, Rng};

/// The colour outside the image: ImageNet's mean, rounded as in timm.
const FILL: [u8; 3] = [124, 116, 104];

/// The library of the operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Timm,
    Torchvision,
}

/// A policy. It is read from its name and written as its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RandAugment {
    family: Family,
    /// Number of operations for each image.
    operations: u32,
    /// 0 to 10, or 0 to 30 in torchvision's family.
    magnitude: f64,
    /// Standard deviation of the magnitude.
    deviation: f64,
}

impl RandAugment {
    /// Reads a policy's name.
    ///
    /// # Errors
    /// The part of the name that is not known.
    pub fn named(name: &str) -> Result<Self, Error> {
        let fail = |reason: &str| Error::Policy {
            name: name.to_owned(),
            reason: format!("{reason}; take rand-m9-mstd0.5-inc1 or torchvision-n2-m9"),
        };
        let mut parts = name.split('-');
        let family = match parts.next() {
            Some("rand") => Family::Timm,
            Some("torchvision") => Family::Torchvision,
            _ => return Err(fail("it begins with neither rand nor torchvision")),
        };
        let (least, most) = if family == Family::Timm { (0.0, 10.0) } else { (0.0, 30.0) };
        let mut policy =
            Self { family, operations: 2, magnitude: if least < most { 9.0 } else { least }, deviation: 0.0 };
        let mut increasing = family == Family::Torchvision;
        for part in parts {
            let split = part.find(|c: char| c.is_ascii_digit()).unwrap_or(part.len());
            let (key, number) = part.split_at(split);
            let number: f64 = number.parse().map_err(|_| fail(&format!("{part} has no number")))?;
            match (key, family) {
                ("m", _) if (least..=most).contains(&number) => policy.magnitude = number,
                ("m", _) => return Err(fail(&format!("a magnitude is from {least} to {most}"))),
                ("n", _) if (1.0..=16.0).contains(&number) && libm::floor(number) == number => {
                    policy.operations = number as u32;
                }
                ("n", _) => return Err(fail("there are 1 to 16 operations an image")),
                ("mstd", Family::Timm) if (0.0..=100.0).contains(&number) => policy.deviation = number,
                ("inc", Family::Timm) if number == 1.0 => increasing = true,
                _ => return Err(fail(&format!("{part} is not known"))),
            }
        }
        if family == Family::Torchvision && libm::floor(policy.magnitude) != policy.magnitude {
            return Err(fail("torchvision's magnitudes are whole"));
        }
        match increasing {
            true => Ok(policy),
            false => Err(fail("of timm's operations only the increasing ones are here (-inc1)")),
        }
    }

    /// The policy's name.
    pub fn name(&self) -> String {
        let Self { family, operations, magnitude, deviation } = self;
        match family {
            Family::Timm => format!("rand-n{operations}-m{magnitude}-mstd{deviation}-inc1"),
            Family::Torchvision => format!("torchvision-n{operations}-m{magnitude}"),
        }
    }

    /// Draws operations and applies them.
    pub(super) fn apply<'a>(
        &self,
        mut picture: Picture<'a>,
        interpolation: Interpolation,
        rng: &mut Rng,
    ) -> Picture<'a> {
        for _ in 0..self.operations {
            match self.family {
                Family::Timm => {
                    let op = rng.below(15);
                    if rng.chance(0.5) {
                        let magnitude = (self.magnitude + self.deviation * rng.normal()).clamp(0.0, 10.0);
                        let sampling = match interpolation {
                            Interpolation::Bilinear => Sampling::Bilinear,
                            Interpolation::Bicubic => Sampling::Bicubic,
                        };
                        let op = timm(op, magnitude, rng.chance(0.5), &picture);
                        picture = op.apply(picture, sampling, FILL);
                    }
                }
                Family::Torchvision => {
                    let op = rng.below(14);
                    let negative = rng.chance(0.5);
                    if let Some(op) = torchvision(op, self.magnitude, negative, &picture) {
                        picture = op.apply(picture, Sampling::Nearest, [0; 3]);
                    }
                }
            }
        }
        picture
    }
}

impl TryFrom<String> for RandAugment {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        Self::named(&name)
    }
}

impl From<RandAugment> for String {
    fn from(policy: RandAugment) -> Self {
        policy.name()
    }
}

/// One of timm's 15 increasing operations at a magnitude from 0 to 10.
fn timm(op: u64, magnitude: f64, negative: bool, picture: &Picture<'_>) -> Op {
    let share = magnitude / 10.0;
    let signed = |amount: f64| if negative { -amount } else { amount };
    let factor = (1.0 + signed(0.9 * share)).max(0.1) as f32;
    let (width, height) = (picture.shape.width as f64, picture.shape.height as f64);
    match op {
        0 => Op::AutoContrast,
        1 => Op::Equalize,
        2 => Op::Invert,
        3 => Op::Rotate(signed(30.0 * share)),
        4 => Op::Posterize(4 - (4.0 * share) as u32),
        5 => Op::Solarize(256 - (256.0 * share).min(256.0) as u32),
        6 => Op::SolarizeAdd((110.0 * share).min(128.0) as u8),
        7 => Op::Color(factor),
        8 => Op::Contrast(factor),
        9 => Op::Brightness(factor),
        10 => Op::Sharpness(factor),
        11 => Op::ShearX(signed(0.3 * share)),
        12 => Op::ShearY(signed(0.3 * share)),
        13 => Op::TranslateX(signed(0.45 * share) * width),
        _ => Op::TranslateY(signed(0.45 * share) * height),
    }
}

/// One of torchvision's 14 operations at one of its 31 magnitudes. `None` does not change the image.
fn torchvision(op: u64, magnitude: f64, negative: bool, picture: &Picture<'_>) -> Option<Op> {
    let share = magnitude / 30.0;
    let signed = |amount: f64| if negative { -amount } else { amount };
    let factor = (1.0 + signed(0.9 * share)) as f32;
    // torchvision's shift moves the image. The amount of an operation here moves the place that is read.
    let shift = |side: usize| -libm::trunc(signed(150.0 / 331.0 * side as f64 * share));
    Some(match op {
        0 => return None,
        1 => Op::ShearX(signed(0.3 * share)),
        2 => Op::ShearY(signed(0.3 * share)),
        3 => Op::TranslateX(shift(picture.shape.width)),
        4 => Op::TranslateY(shift(picture.shape.height)),
        5 => Op::Rotate(signed(30.0 * share)),
        6 => Op::Brightness(factor),
        7 => Op::Color(factor),
        8 => Op::Contrast(factor),
        9 => Op::Sharpness(factor),
        10 => Op::Posterize(8 - libm::rint(magnitude / 7.5) as u32),
        11 => Op::Solarize(libm::ceil(255.0 * (1.0 - share)) as u32),
        12 => Op::AutoContrast,
        _ => Op::Equalize,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{ImageShape, Purpose};
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let policy = RandAugment::named("rand-m9-mstd0.5-inc1").unwrap();
        assert_eq!((policy.operations, policy.magnitude, policy.deviation), (2, 9.0, 0.5));
        assert_eq!(RandAugment::named(&policy.name()).unwrap(), policy);
        let torchvision = RandAugment::named("torchvision-n3-m12").unwrap();
        assert_eq!(RandAugment::named(&torchvision.name()).unwrap(), torchvision);
        for name in [
            "",
            "augmix",
            "rand-m9",
            "rand-m11-inc1",
            "rand-mx-inc1",
            "rand-m9-inc0",
            "rand-w1-inc1",
            "torchvision-m31",
        ] {
            assert!(RandAugment::named(name).is_err(), "{name}");
        }
    }

    /// The amounts at magnitude 9 that the two libraries' code gives.
    #[test]
    fn amounts_are_the_libraries() {
        let shape = ImageShape { channels: 3, height: 100, width: 200 };
        let picture = Picture { shape, pixels: vec![0; shape.bytes()].into() };
        let timm = |op, negative| timm(op, 9.0, negative, &picture);
        assert_eq!(timm(3, true), Op::Rotate(-27.0));
        assert_eq!([4, 5, 6].map(|op| timm(op, false)), [Op::Posterize(1), Op::Solarize(26), Op::SolarizeAdd(99)]);
        assert_eq!([timm(7, false), timm(8, true)], [Op::Color(1.81), Op::Contrast(0.19)]);
        assert_eq!([timm(11, false), timm(13, true)], [Op::ShearX(0.27), Op::TranslateX(-81.0)]);
        let torchvision = |op, negative| torchvision(op, 9.0, negative, &picture);
        assert_eq!(torchvision(0, false), None);
        assert_eq!(torchvision(3, false), Some(Op::TranslateX(-27.0)));
        assert_eq!(torchvision(10, false), Some(Op::Posterize(7)));
        assert_eq!(torchvision(11, false), Some(Op::Solarize(179)));
        assert_eq!(torchvision(5, true), Some(Op::Rotate(-9.0)));
    }

    #[test]
    fn half_of_the_operations_happen() {
        let shape = ImageShape { channels: 3, height: 8, width: 8 };
        let picture = || Picture { shape, pixels: (0..192).map(|i| (i * 5 % 251) as u8).collect() };
        let policy = RandAugment::named("rand-n1-m9-inc1").unwrap();
        let changed = (0..1000)
            .filter(|&index| {
                let mut rng = Rng::new(0, 0, index, Purpose::Augment);
                policy.apply(picture(), Interpolation::Bicubic, &mut rng) != picture()
            })
            .count();
        assert!((420..=540).contains(&changed), "{changed} of 1000");
    }
}

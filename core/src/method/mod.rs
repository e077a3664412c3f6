//! Distillation methods, and how they make one loss. Each method has a file.
//!
//! A method is a term of the loss ([`Method`]). It declares its numbers, the networks that it refuses, what it reads of the two
//! networks, the head that it teaches, and the layers that it trains with the student. It computes named losses, each a mean over
//! the batch. `methods!` below is the only list of methods. Recipes, flags, forms and the reference of the command follow from
//! it.
//!
//! An [`Objective`] is a list of weighted terms. A [`Preset`] makes such a list from what a recipe says. A [`Lesson`] is an
//! objective that has been checked against its networks. It says what the forward passes must store, and computes the loss from
//! it. The log shows each part of the loss without its weight, so that the scale of every part is known.

pub mod aid;
#[cfg(feature = "all-methods")]
pub mod at;
pub mod class_token;
#[cfg(feature = "all-methods")]
pub mod dist;
#[cfg(feature = "all-methods")]
pub mod dkd;
#[cfg(feature = "all-methods")]
pub mod hint;
#[cfg(feature = "all-methods")]
pub mod kd_standard;
mod labels;
mod lesson;
pub mod logits;
pub mod manifold;
mod maths;
pub mod numbers;
mod objective;
pub mod pairs;
mod preset;
mod readout;
pub mod retrospection;
#[cfg(feature = "all-methods")]
pub mod rkd;
mod saf;
mod softened_teacher;
#[cfg(feature = "all-methods")]
pub mod sp;
pub mod teacher;
pub mod teacher_labels;
pub mod term;

use serde::{Deserialize, Serialize};

pub use aid::{Aid, Aids};
#[cfg(feature = "all-methods")]
pub use at::At;
pub use class_token::{ClassToken, Matching};
#[cfg(feature = "all-methods")]
pub use dist::Dist;
#[cfg(feature = "all-methods")]
pub use dkd::Dkd;
#[cfg(feature = "all-methods")]
pub use hint::Hint;
#[cfg(feature = "all-methods")]
pub use kd_standard::KdStandard;
pub use labels::Labels;
pub use lesson::{Given, Lesson, Loss};
pub use logits::{Logits, Normalisation, SoftTargets};
pub use manifold::Manifold;
pub use numbers::{NumberError, Numbers};
pub use objective::{Mismatch, Objective};
pub use pairs::end_pairs;
pub use preset::{Deit, LogitDistillation, Mode, Preset, TeacherTemperature};
pub use readout::{Head, Readout};
pub use retrospection::{LogitTable, Past, Retrospection};
#[cfg(feature = "all-methods")]
pub use rkd::Rkd;
pub use saf::Saf;
pub use softened_teacher::SoftenedTeacher;
#[cfg(feature = "all-methods")]
pub use sp::Sp;
pub use teacher::{Renormalise, Teacher, Teachers};
pub use teacher_labels::TeacherLabels;
pub use term::{Ask, Heads, Known, Method, NamedLoss, Scene};

/// A method that can be added to others: `--distillation SAF+KD`, or a section of a recipe's `distillation`.
pub trait Section: Method + Numbers + Default {
    /// Its name on the command line, in capitals.
    const NAME: &'static str;
    /// The usual weight α if this is the only method. The labels weigh 1 − α.
    const ALPHA: f64 = 0.0;

    /// The term, in a sum with this α.
    fn term(&self, alpha: f64) -> Term;
}

/// A description of a method, from which flags, forms and the reference of the command are made.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name on the command line, in capitals.
    pub name: &'static str,
    /// Its section in a recipe's `distillation`.
    pub section: &'static str,
    /// Its numbers.
    pub numbers: Vec<AboutNumber>,
}

/// A number of a method.
#[derive(Clone, Debug)]
pub struct AboutNumber {
    /// Its key in the section.
    pub key: &'static str,
    /// Its help, a sentence.
    pub help: &'static str,
    /// Its range; `None` for a field that is not a single number.
    pub range: Option<numbers::Range>,
    /// Whether it is a whole number.
    pub whole: bool,
    /// Flags of published commands that set it.
    pub flags: &'static [&'static str],
    /// Its default; NaN for a field that is not a single number.
    pub usual: f64,
}

impl AboutNumber {
    /// The numbers of a method.
    pub fn of<T: Numbers + Default>() -> Vec<Self> {
        let usual = T::default();
        let number = |field: &numbers::Field<T>| Self {
            key: field.key,
            help: field.help.trim(),
            range: field.range,
            whole: field.whole,
            flags: field.flags,
            usual: (field.value)(&usual),
        };
        T::FIELDS.iter().map(number).collect()
    }
}

fn about<S: Section>(section: &'static str) -> About {
    About { name: S::NAME, section, numbers: AboutNumber::of::<S>() }
}

/// The list of methods. A line says when the method is compiled (`all()`: always), its struct, and its name in a list of terms
/// (`term = "..."`). If the method can be added to others, the line also says its section and the struct of the section's numbers,
/// which is usually the method's own struct.
macro_rules! methods {
    ($($when:meta: $method:ident $key:literal $(or $old:literal)? $(, section $section:ident: $numbers:ident)?;)*) => {
        /// Any method with its numbers, as in a list of terms.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "term", deny_unknown_fields)]
        pub enum Term {
            $(
                #[cfg($when)]
                #[doc = concat!("`", $key, "`: see [`", stringify!($method), "`].")]
                #[serde(rename = $key $(, alias = $old)?)]
                $method($method),
            )*
        }

        $(
            #[cfg($when)]
            impl From<$method> for Term {
                fn from(method: $method) -> Self {
                    Self::$method(method)
                }
            }
        )*

        impl Term {
            /// The method.
            pub fn method(&self) -> &dyn Method {
                match self {
                    $(#[cfg($when)] Self::$method(method) => method,)*
                }
            }

            /// The method, to change it.
            pub fn method_mut(&mut self) -> &mut dyn Method {
                match self {
                    $(#[cfg($when)] Self::$method(method) => method,)*
                }
            }

            /// Checks its numbers.
            ///
            /// # Errors
            /// [`NumberError`] with the number, its value and the range.
            pub fn validate(&self) -> Result<(), NumberError> {
                match self {
                    $(#[cfg($when)] Self::$method(method) => Numbers::check(method, $key),)*
                }
            }
        }

        /// A sum of methods. A method takes part if its section is present:
        ///
        /// `L = (1 − α) CE(z_S, y) + α (w_kd τ² KL + w_saf L_saf) + L_others`
        ///
        /// α weighs labels against logits and attention, as in DViTSAF. Every other method has only its own weights.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Sum {
            /// Weight α of logits and attention. The labels weigh 1 − α.
            pub alpha: f64,
            /// Label smoothing ε of the cross-entropy.
            pub smoothing: f64,
            $($(
                #[cfg($when)]
                #[doc = concat!("The numbers of ", stringify!($numbers), ", if it takes part.")]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $section: Option<$numbers>,
            )?)*
        }

        impl Default for Sum {
            fn default() -> Self {
                Self { alpha: 0.5, smoothing: 0.0, $($(#[cfg($when)] $section: None,)?)* }
            }
        }

        impl Sum {
            // The terms of the sections, in the order of the list.
            fn sections(&self) -> Vec<Term> {
                let mut terms = Vec::new();
                $($(#[cfg($when)] terms.extend(self.$section.as_ref().map(|section| section.term(self.alpha)));)?)*
                terms
            }

            fn check_sections(&self) -> Result<(), NumberError> {
                $($(
                    #[cfg($when)]
                    if let Some(section) = &self.$section {
                        section.check(stringify!($section))?;
                    }
                )?)*
                Ok(())
            }

            fn shrink(&mut self, last: [usize; 2]) {
                $($(
                    #[cfg($when)]
                    if let Some(section) = &mut self.$section {
                        section.shrink(last);
                    }
                )?)*
            }

            // Adds a section by its name, with its usual numbers. Returns its usual α, or `None` if there is no such method or if
            // it is there already.
            fn add(&mut self, name: &str) -> Option<f64> {
                $($(
                    #[cfg($when)]
                    if name.eq_ignore_ascii_case(<$numbers as Section>::NAME) {
                        let fresh = self.$section.replace($numbers::default()).is_none();
                        return fresh.then_some(<$numbers as Section>::ALPHA);
                    }
                )?)*
                None
            }
        }

        /// Every method that can be added to others, in the order of the list.
        pub fn methods() -> Vec<About> {
            Vec::from([$($(#[cfg($when)] about::<$numbers>(stringify!($section)),)?)*])
        }
    };
}

methods! {
    all(): Labels "labels";
    all(): Logits "logits", section kd: SoftTargets;
    all(): TeacherLabels "teacher-labels";
    all(): SoftenedTeacher "softened-teacher";
    all(): Saf "saf" or "attention", section saf: Saf;
    all(): ClassToken "class-token", section class_token: ClassToken;
    all(): Manifold "manifold", section manifold: Manifold;
    feature = "all-methods": KdStandard "kd-standard", section kd_standard: KdStandard;
    feature = "all-methods": Dkd "dkd", section dkd: Dkd;
    feature = "all-methods": Dist "dist", section dist: Dist;
    feature = "all-methods": Sp "sp", section sp: Sp;
    feature = "all-methods": At "at", section at: At;
    feature = "all-methods": Hint "hint", section hint: Hint;
    feature = "all-methods": Rkd "rkd", section rkd: Rkd;
}

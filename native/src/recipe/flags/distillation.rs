//! How a student is distilled, in the words of the line: a name, a mode of the CIFAR-10 project, or the options of DeiT,
//! CLS-KD and learning with retrospection.

use std::sync::LazyLock;

use potstill_core::method::{About, AboutNumber, Deit, Labels, Matching, Mode, Preset, Retrospection, Term, methods};
use toml::Value;

use super::flag::Flag;
use crate::error::{Failure, Result};
use crate::given::{Given, words};
use crate::recipe::experiment::Goal;
use crate::recipe::layer::Layer;
use crate::recipe::table::Laid;

/// DeiT's `--distillation-type`.
const TYPES: [&str; 3] = ["none", "soft", "hard"];

pub(super) const NAME: &[Flag] = &[Flag::text("distillation", "NAME", "The distillation objective").does(name)];

pub(super) const FLAGS: &[Flag] = &[
    Flag::word("distillation-type", "TYPE", || TYPES.to_vec(), "DeiT's distillation").does(name),
    Flag::word("distill-mode", "MODE", words::<Mode>, "The CIFAR-10 project's mode").does(name),
    Flag::number("distillation-alpha", "A", "Weight α of the teacher").does(alpha),
    Flag::number("distillation-tau", "T", "Temperature τ").does(tau),
    Flag::number("smoothing", "EPS", "Label smoothing").sets(&[
        "teacher.smoothing",
        "student.smoothing",
        "distillation.smoothing?",
        "distillation.labels?.smoothing",
    ]),
];

// A flag of CLS-KD: whoever gives one distils by it.
const fn cls_kd(flag: Flag, keys: &'static [&'static str]) -> Flag {
    flag.does(distil).sets(keys).any_or(CLS_KD_ONLY)
}

pub(super) const CLS_KD: &[Flag] = &[
    cls_kd(
        Flag::word("dim-match", "HOW", words::<Matching>, "CLS-KD: how class tokens of different widths are compared"),
        &["distillation.class_token?.matching"],
    ),
    Flag::new("s-id", super::Kind::Wholes, "BLOCK", "CLS-KD: the student's blocks, from 0").does(pairs),
    Flag::new("t-id", super::Kind::Wholes, "BLOCK", "CLS-KD: the teacher's blocks, from 0, as many").does(pairs),
    Flag::switch("manifold", "true", "CLS-KD: compare how tokens lie to one another, as it does unless told otherwise")
        .does(manifold),
    Flag::switch("no-manifold", "true", "CLS-KD: leave the manifold terms out").does(manifold),
];

pub(super) const RETROSPECT: &[Flag] = &[Flag::switch(
    "retrospect",
    "true",
    "Learn with retrospection: from the network's own past logits beside the labels",
)
.does(retrospect)];

/// The flags of the numbers of methods, made of what the methods' own files say: `--dkd-beta` sets `distillation.dkd.beta`, and
/// published commands' flags set the same keys.
pub(super) fn numbers() -> &'static [Flag] {
    static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(|| {
        let methods = methods().into_iter().flat_map(|method| {
            let About { name, section, numbers } = method;
            numbers.into_iter().filter(|number| number.range.is_some()).flat_map(move |number| {
                let keys = kept_keys(format!("distillation.{section}?.{}", number.key));
                let own = kept(format!("{section}-{}", number.key).replace('_', "-"));
                let unnamed = kept(format!("this distillation; name it, --distillation {name}"));
                let own = flag(own, &number, name).sets(keys).any_or(unnamed);
                let published = number.flags.iter().map(move |flags| cls_kd(flag(flags, &number, name), keys));
                published.chain([own]).collect::<Vec<_>>()
            })
        });
        let past = AboutNumber::of::<Retrospection>().into_iter().flat_map(|number| {
            let keys = kept_keys(format!("learner.retrospection?.{}", number.key));
            let without = "a training without a past; give --retrospect";
            number.flags.iter().map(move |name| flag(name, &number, "Retrospection").sets(keys).any_or(without))
        });
        methods.chain(past).collect()
    });
    &FLAGS
}

fn flag(name: &'static str, number: &AboutNumber, method: &str) -> Flag {
    let help = kept(format!("{method}: {}", number.help));
    if number.whole { Flag::whole(name, "N", help) } else { Flag::number(name, "X", help) }
}

// Rows live as long as the process.
fn kept(text: String) -> &'static str {
    text.leak()
}

fn kept_keys(key: String) -> &'static [&'static str] {
    Vec::leak(vec![kept(key)])
}

/// Whether a line is CLS-KD's.
pub fn is_cls_kd(given: &Given) -> bool {
    CLS_KD.iter().chain(numbers()).any(|flag| flag.rewrite.is_some() && given.has(flag.name))
}

const CLS_KD_ONLY: &str = "this distillation; take --distillation CLS-KD, or leave it out";

// What a line that names a distillation trains, unless it says so.
fn goal(given: &Given) -> Result<Goal> {
    Ok(given.word("objective")?.unwrap_or(Goal::Distillation))
}

fn distil(layer: &mut Layer, given: &Given) -> Result<()> {
    let goal = goal(given)?;
    layer.rewrite(|recipe| {
        recipe.objective = goal;
        Ok(())
    })
}

// Takes the distillation that the line names.
fn name(layer: &mut Layer, given: &Given) -> Result<()> {
    let naming = ["distillation", "distill-mode", "distillation-type"];
    let naming: Vec<&str> = naming.into_iter().filter(|name| given.has(name)).collect();
    if let [first, second, ..] = naming[..] {
        return Err(Failure::usage(format!("--{first} and --{second} both name a distillation; give one")));
    }
    let unknown =
        |name: &str| Failure::usage(format!("there is no distillation {name:?}; there are {}", Preset::names()));
    let mode: Option<Mode> = given.word("distill-mode")?;
    let named = match (given.text("distillation"), mode) {
        (Some(name), _) => Preset::named(name).ok_or_else(|| unknown(name))?,
        (None, Some(mode)) => Preset::Deit(Deit { mode, ..Deit::default() }),
        (None, None) => typed(given)?,
    };
    let goal = goal(given)?;
    layer.rewrite(|recipe| {
        // KD by name keeps the numbers of the recipe below, and a mode those of its row's own recipe; any other name brings
        // its own.
        let kept = match (&named, &recipe.distillation) {
            (Preset::Kd(kd), Preset::Kd(_)) => *kd == Default::default(),
            (Preset::Deit(deit), Preset::Deit(below)) => mode.is_some() && deit.mode == below.mode,
            _ => false,
        };
        if !kept {
            recipe.distillation = named;
        }
        if recipe.distillation.objective().needs_teacher() {
            recipe.objective = goal;
            return Ok(());
        }
        // A distillation without a teacher trains the student on labels.
        let student = recipe.student.as_mut().ok_or_else(|| Failure::usage("the recipe has no [student] to train"))?;
        let shape = student.config("student")?.shape();
        recipe.distillation.check(&shape, &shape).map_err(Failure::usage)?;
        recipe.objective = Goal::Student;
        if let Some(Term::Labels(Labels { smoothing, .. })) = recipe.distillation.objective().terms().first() {
            student.smoothing = *smoothing;
        }
        Ok(())
    })
}

// What DeiT's or CLS-KD's own command teaches by its type, with their defaults: DeiT's divergence is divided by batch times
// classes; CLS-KD's labels and logits share one weight, and its other terms stand beside them.
fn typed(given: &Given) -> Result<Preset> {
    let kind = given.text("distillation-type").unwrap_or("none");
    let alpha: f64 = given.parsed("distillation-alpha")?.unwrap_or(0.5);
    let tau: f64 = given.parsed("distillation-tau")?.unwrap_or(1.0);
    let text = if is_cls_kd(given) {
        let (left, taught) = match kind {
            "soft" => (
                1.0 - alpha,
                format!(
                    "{{ term = 'logits', weight = {alpha:?}, temperature = {tau:?}, normalisation = 'batchmean', head = 'class' }},"
                ),
            ),
            "hard" => (1.0 - alpha, format!("{{ term = 'teacher-labels', weight = {alpha:?}, head = 'class' }},")),
            // Without a teacher's logits, the labels have the whole weight.
            _ => (1.0, String::new()),
        };
        format!(
            "kind = 'terms'\nterms = [{{ term = 'labels', weight = {left:?}, smoothing = 0.1 }}, {taught} {{ term = \
             'class-token', matching = 'projector' }}, {{ term = 'manifold' }}]"
        )
    } else {
        format!("kind = 'deit'\nmode = '{kind}'\nalpha = {alpha:?}\ntemperature = {tau:?}\nnormalisation = 'numel'")
    };
    toml::from_str(&text).map_err(Failure::usage)
}

fn alpha(layer: &mut Layer, given: &Given) -> Result<()> {
    weigh(layer, given, "distillation-alpha", &["distillation.alpha?"])
}

fn tau(layer: &mut Layer, given: &Given) -> Result<()> {
    weigh(layer, given, "distillation-tau", &["distillation.temperature?", "distillation.kd?.temperature"])
}

// α or τ of a distillation that has both. A type has taken them already.
fn weigh(layer: &mut Layer, given: &Given, name: &str, keys: &[&str]) -> Result<()> {
    if given.has("distillation-type") {
        return Ok(());
    }
    let value = Value::Float(given.parsed(name)?.unwrap_or_default());
    for key in keys {
        if layer.set(key, &value)? == Laid::Done {
            return Ok(());
        }
    }
    Err(Failure::usage(format!("--{name} is for KD and DeiT's objectives; use --set distillation.KEY")))
}

fn pairs(layer: &mut Layer, given: &Given) -> Result<()> {
    let blocks = |name: &str| -> Result<Vec<Value>> {
        let number = |said: &String| said.parse().map(Value::Integer);
        let read: Result<_, _> = given.all(name).unwrap_or_default().iter().map(number).collect();
        read.map_err(|_| Failure::usage(format!("--{name} takes the numbers of blocks")))
    };
    let (s, t) = (blocks("s-id")?, blocks("t-id")?);
    if s.len() != t.len() {
        return Err(Failure::usage(format!(
            "--s-id names {} blocks and --t-id {}; they are paired, so name as many",
            s.len(),
            t.len()
        )));
    }
    let pairs = s.into_iter().zip(t).map(|(s, t)| Value::Array(vec![s, t])).collect();
    let pairs = Value::Array(pairs);
    let class_token = layer.set("distillation.class_token?.pairs", &pairs)?;
    if (class_token, layer.set("distillation.manifold?.pairs", &pairs)?) == (Laid::NoPlace, Laid::NoPlace) {
        return Err(Failure::usage(format!("--s-id has no place in {CLS_KD_ONLY}")));
    }
    distil(layer, given)
}

fn manifold(layer: &mut Layer, given: &Given) -> Result<()> {
    let left_out = given.has("no-manifold");
    let is_manifold = |term: &Value| term.get("term").and_then(Value::as_str) == Some("manifold");
    let distillation = layer.section("distillation");
    let own = distillation.is_some_and(|table| {
        let listed = table.get_mut("terms").and_then(Value::as_array_mut);
        let listed = listed.is_some_and(|terms| {
            let there = terms.iter().any(is_manifold);
            terms.retain(|term| !(left_out && is_manifold(term)));
            there
        });
        let own = table.contains_key("manifold");
        if left_out {
            table.remove("manifold");
        }
        own || listed
    });
    if !own {
        let flag = if left_out { "--no-manifold" } else { "--manifold" };
        return Err(Failure::usage(format!("{flag} has no place in {CLS_KD_ONLY}")));
    }
    distil(layer, given)
}

fn retrospect(layer: &mut Layer, _: &Given) -> Result<()> {
    layer.rewrite(|recipe| {
        recipe.learner_mut().into_iter().for_each(|network| {
            network.retrospection.get_or_insert_default();
        });
        Ok(())
    })
}

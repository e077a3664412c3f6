//! How a student is distilled, in the words of the line: a name, a mode of the CIFAR-10 project, or the options of DeiT,
//! CLS-KD and learning with retrospection.

use potstill_core::method::{Deit, Labels, Matching, Mode, Preset, Term};
use toml::Value;

use super::{Flag, Given, words};
use crate::error::{Failure, Result};
use crate::recipe::Goal;
use crate::recipe::layers::{Laid, Layer};

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
        Flag::number("w-cls", "W", "CLS-KD: weight of the class token's term"),
        &["distillation.class_token?.weight"],
    ),
    cls_kd(
        Flag::number("w-atn", "W", "CLS-KD: weight of its cosines with the patches"),
        &["distillation.class_token?.map_weight"],
    ),
    cls_kd(
        Flag::number("last-w", "W", "CLS-KD: extra factor of the last pair of blocks"),
        &["distillation.class_token?.last_weight"],
    ),
    cls_kd(
        Flag::word("dim-match", "HOW", words::<Matching>, "CLS-KD: how class tokens of different widths are compared"),
        &["distillation.class_token?.matching"],
    ),
    cls_kd(
        Flag::number("distillation-beta", "B", "CLS-KD: weight β of the manifold terms"),
        &["distillation.manifold?.weight"],
    ),
    cls_kd(
        Flag::number("w-sample", "W", "CLS-KD: weight of the manifold term across images"),
        &["distillation.manifold?.sample"],
    ),
    cls_kd(
        Flag::number("w-patch", "W", "CLS-KD: weight of the manifold term within images"),
        &["distillation.manifold?.patch"],
    ),
    cls_kd(
        Flag::number("w-rand", "W", "CLS-KD: weight of the manifold term of random rows"),
        &["distillation.manifold?.random"],
    ),
    cls_kd(Flag::whole("K", "K", "CLS-KD: number of random rows"), &["distillation.manifold?.rows"]),
    Flag::new("s-id", super::Kind::Wholes, "BLOCK", "CLS-KD: the student's blocks, from 0").does(pairs),
    Flag::new("t-id", super::Kind::Wholes, "BLOCK", "CLS-KD: the teacher's blocks, from 0, as many").does(pairs),
    Flag::switch("manifold", "true", "CLS-KD: compare how tokens lie to one another, as it does unless told otherwise")
        .does(manifold),
    Flag::switch("no-manifold", "true", "CLS-KD: leave the manifold terms out").does(manifold),
];

const fn past(flag: Flag, keys: &'static [&'static str]) -> Flag {
    flag.sets(keys).any_or("a training without a past; give --retrospect")
}

pub(super) const RETROSPECTION: &[Flag] = &[
    Flag::switch(
        "retrospect",
        "true",
        "Learn with retrospection: from the network's own past logits beside the labels",
    )
    .does(retrospect),
    past(
        Flag::whole("lwr-k", "K", "Retrospection: epochs between two copies of the past"),
        &["learner.retrospection?.k"],
    ),
    past(
        Flag::number("lwr-update-rate", "RATE", "Retrospection: what the labels lose in all"),
        &["learner.retrospection?.update_rate"],
    ),
    past(Flag::number("lwr-tau", "T", "Retrospection: temperature"), &["learner.retrospection?.temperature"]),
    past(
        Flag::whole("lwr-max-epochs", "E", "Retrospection: epochs over which the labels lose it"),
        &["learner.retrospection?.max_epochs"],
    ),
];

/// Whether a line is CLS-KD's.
pub fn is_cls_kd(given: &Given) -> bool {
    CLS_KD.iter().any(|flag| given.has(flag.name))
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

//! How a student is distilled, in the words of the line: a name, a mode of the CIFAR-10 project, or the options of DeiT
//! and CLS-KD.

use potstill_core::method::{
    ClassToken, Deit, Head, Labels, Logits, Manifold, Matching, Mode, Normalisation, Preset, Sum, TeacherLabels, Term,
};

use super::super::{Goal, Recipe};
use crate::cli::{DistillationType, Method, Train};
use crate::error::{Failure, Result};

/// Applies every flag about distillation.
///
/// # Errors
/// Exit code 2 for a flag that has no place in the distillation that the line or the recipe below it names.
pub fn apply(recipe: &mut Recipe, options: &Train) -> Result<()> {
    let method = &options.method;
    let named = named(options)?;
    // A distillation is asked for, unless the line says what to train.
    let goal = options.objective.unwrap_or(Goal::Distillation);
    if let Some(named) = named {
        // KD by name keeps the numbers of the recipe below, and a mode those of its row's own recipe; any other name brings
        // its own.
        let kept = match (&named, &recipe.distillation) {
            (Preset::Kd(kd), Preset::Kd(_)) => *kd == Default::default(),
            (Preset::Deit(deit), Preset::Deit(below)) => options.distillation.is_none() && deit.mode == below.mode,
            _ => false,
        };
        if !kept {
            recipe.distillation = named;
        }
        match recipe.distillation.objective().needs_teacher() {
            true => recipe.objective = goal,
            false => labels_alone(recipe)?,
        }
    }
    match (method.is_cls_kd(), method.distillation_type) {
        (true, kind) => {
            if let Some(kind) = kind {
                recipe.distillation = cls_kd(kind, method);
            }
            lay_cls_kd(&mut recipe.distillation, method)?;
            recipe.objective = goal;
        }
        (false, Some(kind)) => {
            recipe.distillation = deit(kind, method);
            match kind {
                DistillationType::None => labels_alone(recipe)?,
                _ => recipe.objective = goal,
            }
        }
        (false, None) => {}
    }
    // A type has taken them already.
    if method.distillation_type.is_none() {
        weigh(&mut recipe.distillation, method)?;
    }
    if let Some(smoothing) = method.smoothing {
        smooth(&mut recipe.distillation, smoothing);
        for network in [recipe.teacher.as_mut(), recipe.student.as_mut()].into_iter().flatten() {
            network.smoothing = smoothing;
        }
    }
    Ok(())
}

// What --distillation or --distill-mode names.
fn named(options: &Train) -> Result<Option<Preset>> {
    let method = &options.method;
    let given: Vec<&str> = [
        ("--distillation", options.distillation.is_some()),
        ("--distill-mode", method.distill_mode.is_some()),
        ("--distillation-type", method.distillation_type.is_some()),
    ]
    .into_iter()
    .filter_map(|(flag, given)| given.then_some(flag))
    .collect();
    if let [first, second, ..] = given[..] {
        return Err(Failure::usage(format!("{first} and {second} both name a distillation; give one")));
    }
    if let Some(mode) = method.distill_mode {
        return Ok(Some(Preset::Deit(Deit { mode: mode.mode(), ..Deit::default() })));
    }
    let unknown =
        |name: &String| Failure::usage(format!("there is no distillation {name:?}; there are {}", Preset::names()));
    options.distillation.as_ref().map(|name| Preset::named(name).ok_or_else(|| unknown(name))).transpose()
}

// A distillation without a teacher trains the student on labels.
fn labels_alone(recipe: &mut Recipe) -> Result<()> {
    let student = recipe.student.as_mut().ok_or_else(|| Failure::usage("the recipe has no [student] to train"))?;
    let shape = student.config("student")?.shape();
    recipe.distillation.check(&shape, &shape).map_err(Failure::usage)?;
    recipe.objective = Goal::Student;
    if let Some(Term::Labels(Labels { smoothing, .. })) = recipe.distillation.objective().terms().first() {
        student.smoothing = *smoothing;
    }
    Ok(())
}

// α and τ of an objective that has both.
fn weigh(objective: &mut Preset, method: &Method) -> Result<()> {
    let place = match objective {
        Preset::Deit(deit) => Some((&mut deit.alpha, &mut deit.temperature)),
        Preset::Kd(kd) => Some((&mut kd.alpha, &mut kd.temperature)),
        Preset::Sum(Sum { alpha, kd: Some(kd), .. }) => Some((alpha, &mut kd.temperature)),
        _ => None,
    };
    match (place, method.distillation_alpha, method.distillation_tau) {
        (_, None, None) => Ok(()),
        (None, ..) => Err(Failure::usage(
            "--distillation-alpha and --distillation-tau are for KD and DeiT's objectives; use --set distillation.KEY",
        )),
        (Some((alpha, temperature)), a, t) => {
            *alpha = a.unwrap_or(*alpha);
            *temperature = t.unwrap_or(*temperature);
            Ok(())
        }
    }
}

// The label smoothing of the data's labels.
fn smooth(objective: &mut Preset, value: f64) {
    match objective {
        Preset::Labels { smoothing } => *smoothing = value,
        Preset::Kd(kd) => kd.smoothing = value,
        Preset::Deit(deit) => deit.smoothing = value,
        Preset::TeacherTemperature(soft) => soft.smoothing = value,
        Preset::Sum(sum) => sum.smoothing = value,
        Preset::Terms { terms } => terms.iter_mut().for_each(|part| {
            if let Term::Labels(labels) = part {
                labels.smoothing = value;
            }
        }),
    }
}

// DeiT's own main.py: its defaults are α 0.5, τ 1, and a divergence divided by batch times classes.
fn deit(kind: DistillationType, method: &Method) -> Preset {
    let mode = match kind {
        DistillationType::None => Mode::None,
        DistillationType::Soft => Mode::Soft,
        DistillationType::Hard => Mode::Hard,
    };
    Preset::Deit(Deit {
        mode,
        alpha: method.distillation_alpha.unwrap_or(0.5),
        temperature: method.distillation_tau.unwrap_or(1.0),
        normalisation: Normalisation::Numel,
        ..Deit::default()
    })
}

// CLS-KD's own command, before its weights: labels and logits by α, class token and maps, and the manifold terms.
fn cls_kd(kind: DistillationType, method: &Method) -> Preset {
    let alpha = method.distillation_alpha.unwrap_or(0.5);
    let temperature = method.distillation_tau.unwrap_or(1.0);
    let head = Head::Class;
    // Without a teacher's logits, the labels have the whole weight.
    let label_weight = if kind == DistillationType::None { 1.0 } else { 1.0 - alpha };
    let mut terms = vec![Term::from(Labels { weight: label_weight, smoothing: 0.1 })];
    match kind {
        DistillationType::None => {}
        DistillationType::Soft => {
            let normalisation = Normalisation::Batchmean;
            terms.push(Logits { weight: alpha, temperature, normalisation, head }.into());
        }
        DistillationType::Hard => terms.push(TeacherLabels { weight: alpha, smoothing: 0.0, head }.into()),
    }
    terms.push(ClassToken { matching: Matching::Projector, ..ClassToken::default() }.into());
    terms.push(Manifold::default().into());
    Preset::Terms { terms }
}

// CLS-KD's options on an objective that has what they change.
fn lay_cls_kd(objective: &mut Preset, method: &Method) -> Result<()> {
    let (s, t) = (method.s_id.as_deref().unwrap_or_default(), method.t_id.as_deref().unwrap_or_default());
    if s.len() != t.len() {
        return Err(Failure::usage(format!(
            "--s-id names {} blocks and --t-id {}; they are paired, so name as many",
            s.len(),
            t.len()
        )));
    }
    let (class_token, manifold) = class_token_and_manifold(objective);
    let [no_class_token, no_manifold] = [class_token.is_none(), manifold.is_none()];
    for (flag, given, no_place) in [
        ("--w-cls", method.w_cls.is_some(), no_class_token),
        ("--w-atn", method.w_atn.is_some(), no_class_token),
        ("--last-w", method.last_w.is_some(), no_class_token),
        ("--dim-match", method.dim_match.is_some(), no_class_token),
        ("--distillation-beta", method.distillation_beta.is_some(), no_manifold),
        ("--manifold", method.manifold, no_manifold),
        ("--no-manifold", method.no_manifold, no_manifold),
        ("--w-sample", method.w_sample.is_some(), no_manifold),
        ("--w-patch", method.w_patch.is_some(), no_manifold),
        ("--w-rand", method.w_rand.is_some(), no_manifold),
        ("--K", method.rows.is_some(), no_manifold),
        ("--s-id", method.s_id.is_some(), no_class_token && no_manifold),
    ] {
        if given && no_place {
            return Err(Failure::usage(format!(
                "{flag} has no place in this distillation; take --distillation CLS-KD, or leave it out"
            )));
        }
    }
    let pairs = || s.iter().zip(t).map(|(s, t)| [*s, *t]).collect();
    if let Some(own) = class_token {
        own.weight = method.w_cls.unwrap_or(own.weight);
        own.map_weight = method.w_atn.unwrap_or(own.map_weight);
        own.last_weight = method.last_w.unwrap_or(own.last_weight);
        own.matching = match method.dim_match.as_deref() {
            Some("relation") => Matching::Relation,
            Some(_) => Matching::Projector,
            None => own.matching,
        };
        if !s.is_empty() {
            own.pairs = pairs();
        }
    }
    if let Some(own) = manifold {
        own.weight = method.distillation_beta.unwrap_or(own.weight);
        own.sample = method.w_sample.unwrap_or(own.sample);
        own.patch = method.w_patch.unwrap_or(own.patch);
        own.random = method.w_rand.unwrap_or(own.random);
        own.rows = method.rows.unwrap_or(own.rows);
        if !s.is_empty() {
            own.pairs = pairs();
        }
    }
    match objective {
        Preset::Sum(sum) if method.no_manifold => sum.manifold = None,
        Preset::Terms { terms } if method.no_manifold => terms.retain(|part| !matches!(part, Term::Manifold(_))),
        _ => {}
    }
    Ok(())
}

fn class_token_and_manifold(objective: &mut Preset) -> (Option<&mut ClassToken>, Option<&mut Manifold>) {
    match objective {
        Preset::Sum(sum) => (sum.class_token.as_mut(), sum.manifold.as_mut()),
        Preset::Terms { terms } => {
            let (mut class_token, mut manifold) = (None, None);
            for part in terms {
                match part {
                    Term::ClassToken(own) => class_token = Some(own),
                    Term::Manifold(own) => manifold = Some(own),
                    _ => {}
                }
            }
            (class_token, manifold)
        }
        _ => (None, None),
    }
}

//! What holds of all objectives: names, sums, taps, and what is refused.

use burn::tensor::{Device, Tensor};
use potstill_core::kernel::attention_map;
use potstill_core::model::{Network, Pool, Taps, Trace, VitConfig};
use potstill_core::objective::{
    AttentionForcing, ClassToken, Deit, Head, Lesson, LogitDistillation, Manifold, Mode, Objective, Part, Sum,
};
use potstill_core::train::Learner;

use crate::digits::{batch, values};
use crate::plain::{close, golden_logits, plain, tall, tiny, wave};

#[test]
fn a_list_of_terms_is_the_sum_that_it_writes_out() {
    let (student, teacher, targets) = golden_logits();
    let (student, teacher) = (Trace::of_logits(student), Trace::of_logits(teacher));
    let kd = LogitDistillation { alpha: 0.25, temperature: 3.0, ..LogitDistillation::default() };
    let named = Objective::Kd(kd).loss(&student, Some(&teacher), targets.clone());
    let logits = |weight| Part::Logits {
        weight,
        temperature: 3.0,
        normalisation: potstill_core::objective::Normalisation::Batchmean,
        head: Head::Token,
    };
    let terms = vec![logits(0.125), Part::Labels { weight: 0.75, smoothing: 0.0 }, logits(0.125)];
    let listed = Objective::Terms { terms };
    listed.validate().expect("sensible");
    let listed = listed.loss(&student, Some(&teacher), targets);
    let names: Vec<_> = listed.terms.iter().map(|term| term.name.as_ref()).collect();
    assert_eq!(names, ["logits", "labels", "logits 2"], "no two terms share a name");
    close("a list", listed.total, f64::from(values(named.total)[0]));
    for terms in [
        vec![],
        vec![Part::Labels { weight: 1.0, smoothing: 0.0 }; 2],
        vec![Part::Attention(AttentionForcing::default()); 2],
        vec![logits(-1.0)],
    ] {
        Objective::Terms { terms }.validate().expect_err("nonsense");
    }
}

#[test]
fn a_trace_holds_what_was_asked_for_and_changes_nothing() {
    let model = tall().init(0, &Device::flex()).expect("a valid model");
    let images = plain(&wave(2 * 28 * 28, 0.37, 0.0, 1.0), [2, 1, 28, 28]);
    let bare = model.forward(images.clone(), None);
    assert!(bare.tokens.is_empty() && bare.queries_and_keys.is_empty() && bare.attention_maps.is_empty());
    let taps = Taps { tokens: vec![3, 0, 3], queries_and_keys: vec![2], attention_maps: vec![1, 2] };
    let trace = model.forward_with(images, None, &taps);
    assert_eq!(values(trace.logits), values(bare.logits));
    assert_eq!(trace.tokens.iter().map(Tensor::dims).collect::<Vec<_>>(), [[2, 18, 24]; 3]);
    assert_eq!(values(trace.tokens[0].clone()), values(trace.tokens[2].clone()));
    assert_ne!(values(trace.tokens[0].clone()), values(trace.tokens[1].clone()));
    assert_eq!(trace.queries_and_keys[0].packed.dims(), [2, 18, 3, 4, 6]);
    assert_eq!(trace.attention_maps.iter().map(Tensor::dims).collect::<Vec<_>>(), [[2, 18, 18]; 2]);
    let [first, second] = [0, 1].map(|tap| values(trace.attention_maps[tap].clone()));
    assert!(second == values(attention_map(trace.queries_and_keys[0].clone())) && first != second);
    assert_eq!(trace.prefix_tokens, 2);
    assert_eq!(model.shape(), tall().shape());
}

#[test]
fn names_stand_for_the_objectives_of_the_works_they_come_from() {
    let Some(Objective::Kd(kd)) = Objective::named("KD") else { panic!("a distillation") };
    assert_eq!(kd, LogitDistillation::default());
    let Some(Objective::Sum(both)) = Objective::named("saf+kd") else { panic!("a sum") };
    assert_eq!((both.alpha, both.saf.map(|saf| saf.weight)), (0.5, Some(1.0)));
    let kd = both.kd.expect("logits");
    assert_eq!((kd.weight, kd.temperature), (1.0, 2.0));
    assert_eq!(kd.normalisation, potstill_core::objective::Normalisation::Numel);
    assert!(matches!(Objective::named("both"), Some(Objective::Deit(Deit { mode: Mode::Both, .. }))));
    for name in ["", "magic", "SAF+", "SAF+SAF", "KD+magic"] {
        assert_eq!(Objective::named(name), None, "{name:?}");
    }
    for name in ["KD", "KD-numel", "SAF", "CLS", "MANIFOLD", "SAF+KD", "cls+manifold", "CLS-KD", "DistillViT", "soft"] {
        let objective = Objective::named(name).expect(name);
        objective.validate().expect(name);
        objective.check(&tiny().shape(), &tall().shape()).expect(name);
    }
    Objective::Sum(Sum::default()).validate().expect_err("a sum of nothing");
}

#[test]
fn the_published_sum_has_the_published_weights() {
    let Some(objective) = Objective::named("CLS-KD") else { panic!("CLS-KD is known") };
    let loss = loss_of(&objective, &tiny(), &tall());
    let weights: Vec<_> = loss.terms.iter().map(|term| (term.name.as_ref(), term.weight)).collect();
    assert_eq!(
        weights,
        [
            ("labels", 0.0),
            ("logits", 1.0),
            ("class-token", 1.0),
            ("class-map", 2.0),
            ("samples", 0.1),
            ("patches", 4.0),
            ("rows", 0.2)
        ]
    );
}

/// The loss of untrained networks on a batch of digits.
fn loss_of(objective: &Objective, student: &VitConfig, teacher: &VitConfig) -> potstill_core::objective::Loss {
    let device = Device::flex();
    let (student, teacher) = (student.init(1, &device).expect("valid"), teacher.init(2, &device).expect("valid"));
    let (student_taps, teacher_taps) = objective.taps(student.shape().depth, teacher.shape().depth);
    let batch = batch(0, 4, &device);
    let teacher = Network::from(teacher);
    let learner = Learner::new(student.into(), Some(&teacher), objective, 3, &device);
    let student = learner.student.forward_with(batch.images.clone(), None, &student_taps);
    let teacher = teacher.forward_with(batch.images, None, &teacher_taps);
    let lesson = Lesson { teacher: Some(&teacher), projector: learner.projector.as_ref(), ..Lesson::default() };
    objective.loss_with(&student, &lesson, batch.targets)
}

#[test]
fn each_method_of_a_sum_reads_its_own_pairs() {
    // Class-token and manifold terms of one sum are those that each has alone, whichever of them names its pairs.
    let named = || vec![[1, 3]];
    for (class_pairs, manifold_pairs) in
        [(vec![], vec![]), (named(), vec![]), (vec![], named()), (named(), vec![[0, 0], [1, 2]])]
    {
        let class_token = Some(ClassToken { pairs: class_pairs, ..ClassToken::default() });
        let manifold = Some(Manifold { pairs: manifold_pairs, ..Manifold::default() });
        let terms = |class_token: Option<ClassToken>, manifold: Option<Manifold>| -> Vec<f32> {
            let sum = Objective::Sum(Sum { class_token, manifold, ..Sum::default() });
            let terms = loss_of(&sum, &tiny(), &tall()).terms;
            terms.into_iter().skip(1).map(|term| values(term.value)[0]).collect()
        };
        let together = terms(class_token.clone(), manifold.clone());
        assert_eq!(together, [terms(class_token, None), terms(None, manifold)].concat());
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_what_does() {
    let named = |name: &str| Objective::named(name).expect(name);
    let no_token = VitConfig { distillation_token: false, ..tiny() };
    let pooled = VitConfig { pool: Pool::Mean, class_token: false, distillation_token: false, ..tiny() };
    let coarse = VitConfig { patch_size: 14, ..tiny() };
    let few = VitConfig { classes: 3, ..tiny() };
    let deep = VitConfig { depth: 5, ..tiny() };
    let beyond = Objective::Sum(Sum {
        saf: Some(AttentionForcing { pairs: vec![[0, 9]], ..AttentionForcing::default() }),
        ..Sum::default()
    });
    for (objective, student, parts) in [
        (named("SAF"), &coarse, ["tokens", "take KD"]),
        (named("SAF"), &no_token, ["tokens", "prefix tokens"]),
        (named("SAF"), &deep, ["no even stride", "saf.pairs"]),
        (beyond, &tiny(), ["block 9", "0 to 3"]),
        (named("distill"), &no_token, ["no distillation token", "soft or hard"]),
        (named("both"), &no_token, ["no distillation token", "soft or hard"]),
        (named("class"), &pooled, ["class token", "none"]),
        (named("KD"), &few, ["classes", "equal"]),
        (named("CLS"), &pooled, ["class token", "manifold"]),
        (named("CLS"), &coarse, ["patches", "patch_size"]),
        (named("MANIFOLD"), &coarse, ["patches", "take KD"]),
    ] {
        let reason = objective.check(&student.shape(), &tall().shape()).expect_err(parts[0]).to_string();
        for part in parts {
            assert!(reason.contains(part), "{part:?} is not in {reason:?}");
        }
    }
    // Other prefix tokens do not matter where patches alone can be compared.
    named("MANIFOLD").check(&pooled.shape(), &tall().shape()).expect("patches are compared");
}

#[test]
fn an_objectives_numbers_are_checked() {
    let text = |objective: Objective| objective.validate().expect_err("nonsense").to_string();
    let deit = |deit: Deit| text(Objective::Deit(deit));
    assert!(deit(Deit { alpha: 1.5, ..Deit::default() }).contains("alpha"));
    assert!(deit(Deit { temperature: 0.0, ..Deit::default() }).contains("temperature"));
    assert!(deit(Deit { teacher_smoothing: f64::NAN, ..Deit::default() }).contains("teacher_smoothing"));
    let saf = AttentionForcing { weight: -1.0, ..AttentionForcing::default() };
    assert!(text(Objective::Sum(Sum { saf: Some(saf), ..Sum::default() })).contains("saf.weight"));
    let manifold = Manifold { rows: 0, ..Manifold::default() };
    assert!(text(Objective::Sum(Sum { manifold: Some(manifold), ..Sum::default() })).contains("manifold.rows"));
}

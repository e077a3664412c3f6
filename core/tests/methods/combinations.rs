//! What holds of all objectives: names, sums, taps, and what is refused.

use burn::tensor::Device;
use potstill_core::method::{
    ClassToken, Deit, Given, Labels, Lesson, LogitDistillation, Logits, Loss, Manifold, Mode, Preset, Saf, Sum,
    Teachers, Term,
};
use potstill_core::model::{Network, Pool, Taps, Trace, VitConfig};
use potstill_core::op::attention_map;
use potstill_core::train::Learner;

use crate::digits::{batch, values};
use crate::plain::{close, given, golden_logits, loss_of_logits, plain, tall, tiny, wave};

#[test]
fn a_list_of_terms_is_the_sum_that_it_writes_out() {
    let (student, teacher, targets) = golden_logits();
    let (student, teacher) = (Trace::of_logits(student), Trace::of_logits(teacher));
    let kd = LogitDistillation { alpha: 0.25, temperature: 3.0, ..LogitDistillation::default() };
    let named = loss_of_logits(&Preset::Kd(kd), &student, &teacher, targets.clone());
    let logits = |weight| -> Term { Logits { weight, temperature: 3.0, ..Logits::default() }.into() };
    let labels = |weight| -> Term { Labels { weight, smoothing: 0.0 }.into() };
    let listed = Preset::Terms { terms: vec![logits(0.125), labels(0.75), logits(0.125)] };
    listed.validate().expect("sensible");
    let listed = loss_of_logits(&listed, &student, &teacher, targets);
    let names: Vec<_> = listed.parts.iter().map(|part| part.name.as_ref()).collect();
    assert_eq!(names, ["logits", "labels", "logits 2"], "no two parts share a name");
    close("a list", listed.total, f64::from(values(named.total)[0]));
    for terms in [vec![], vec![labels(1.0); 2], vec![logits(-1.0)]] {
        Preset::Terms { terms }.validate().expect_err("nonsense");
    }
}

#[test]
fn two_terms_of_one_method_read_their_own_blocks() {
    let saf = |pairs| -> Term { Saf { pairs, ..Saf::default() }.into() };
    let parts = |terms: Vec<Term>| -> Vec<f32> {
        let parts = loss_of(&Preset::Terms { terms }, &tiny(), &tall()).parts;
        parts.into_iter().map(|part| values(part.value)[0]).collect()
    };
    let [first, second] = [vec![[0, 1]], vec![[1, 3], [0, 0]]];
    let together = parts(vec![saf(first.clone()), saf(second.clone())]);
    assert_eq!(together, [parts(vec![saf(first)]), parts(vec![saf(second)])].concat());
    assert_ne!(together[0], together[1]);
}

#[test]
fn a_trace_holds_what_was_asked_for_and_changes_nothing() {
    let model = tall().init(0, &Device::flex()).expect("a valid model");
    let images = plain(&wave(2 * 28 * 28, 0.37, 0.0, 1.0), [2, 1, 28, 28]);
    let bare = model.forward(images.clone(), None);
    let mut taps = Taps::default();
    let [last, first, again] = [3, 0, 3].map(|block| taps.tokens(block));
    let queries = taps.queries_and_keys(2);
    let maps = [1, 2].map(|block| taps.attention_map(block));
    let features = taps.features();
    let trace = model.forward_with(images, None, &taps);
    assert_eq!(values(trace.logits.clone()), values(bare.logits));
    assert_eq!([last, first, again].map(|tap| trace.tokens(tap).dims()), [[2, 18, 24]; 3]);
    assert_eq!(last, again, "a block that is asked for twice is kept once");
    assert_ne!(values(trace.tokens(first)), values(trace.tokens(last)));
    assert_eq!(trace.queries_and_keys(queries).packed.dims(), [2, 18, 3, 4, 6]);
    let [first, second] = maps.map(|tap| trace.attention_map(tap));
    assert_eq!([first.dims(), second.dims()], [[2, 18, 18]; 2]);
    assert_eq!(values(second.clone()), values(attention_map(trace.queries_and_keys(queries))));
    assert_ne!(values(first), values(second));
    assert_eq!(trace.features(features).dims(), [2, 24]);
    assert_eq!(trace.prefix_tokens, 2);
    assert_eq!(model.shape(), tall().shape());
}

#[test]
fn names_stand_for_the_objectives_of_the_works_they_come_from() {
    let Some(Preset::Kd(kd)) = Preset::named("KD") else { panic!("a distillation") };
    assert_eq!(kd, LogitDistillation::default());
    let Some(Preset::Sum(both)) = Preset::named("saf+kd") else { panic!("a sum") };
    assert_eq!((both.alpha, both.saf.map(|saf| saf.weight)), (0.5, Some(1.0)));
    let kd = both.kd.expect("logits");
    assert_eq!((kd.weight, kd.temperature), (1.0, 2.0));
    assert_eq!(kd.normalisation, potstill_core::method::Normalisation::Numel);
    assert!(matches!(Preset::named("both"), Some(Preset::Deit(Deit { mode: Mode::Both, .. }))));
    for name in ["", "magic", "SAF+", "SAF+SAF", "KD+magic"] {
        assert_eq!(Preset::named(name), None, "{name:?}");
    }
    for name in ["KD", "KD-numel", "SAF", "CLS", "MANIFOLD", "SAF+KD", "cls+manifold", "CLS-KD", "DistillViT", "soft"] {
        let objective = Preset::named(name).expect(name);
        objective.validate().expect(name);
        objective.check(&tiny().shape(), &tall().shape()).expect(name);
    }
    Preset::Sum(Sum::default()).validate().expect_err("a sum of nothing");
}

#[test]
fn the_published_sum_has_the_published_weights() {
    let Some(objective) = Preset::named("CLS-KD") else { panic!("CLS-KD is known") };
    let loss = loss_of(&objective, &tiny(), &tall());
    let weights: Vec<_> = loss.parts.iter().map(|part| (part.name.as_ref(), part.weight)).collect();
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
fn loss_of(preset: &Preset, student: &VitConfig, teacher: &VitConfig) -> Loss {
    let device = Device::flex();
    let (student, teacher) = (student.init(1, &device).expect("valid"), teacher.init(2, &device).expect("valid"));
    let teachers = Teachers::from(Network::from(teacher));
    let lesson = Lesson::new(&preset.objective(), &student.shape(), Some(teachers)).expect("networks that fit");
    let [student_taps, _] = lesson.taps();
    let batch = batch(0, 4, &device);
    let learner = Learner::new(Network::from(student), &lesson, 3, &device);
    let student = learner.student.forward_with(batch.images.clone(), None, student_taps);
    let teacher = lesson.teachers_trace(&batch.images, None).expect("a teacher");
    lesson.loss(&student, Given { aids: &learner.aids, ..given(&teacher, batch.targets) })
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
            let sum = Preset::Sum(Sum { class_token, manifold, ..Sum::default() });
            let parts = loss_of(&sum, &tiny(), &tall()).parts;
            parts.into_iter().skip(1).map(|part| values(part.value)[0]).collect()
        };
        let together = terms(class_token.clone(), manifold.clone());
        assert_eq!(together, [terms(class_token, None), terms(None, manifold)].concat());
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_what_does() {
    let named = |name: &str| Preset::named(name).expect(name);
    let no_token = VitConfig { distillation_token: false, ..tiny() };
    let pooled = VitConfig { pool: Pool::Mean, class_token: false, distillation_token: false, ..tiny() };
    let coarse = VitConfig { patch_size: 14, ..tiny() };
    let few = VitConfig { classes: 3, ..tiny() };
    let deep = VitConfig { depth: 5, ..tiny() };
    let beyond = Preset::Sum(Sum { saf: Some(Saf { pairs: vec![[0, 9]], ..Saf::default() }), ..Sum::default() });
    for (objective, student, parts) in [
        (named("SAF"), &coarse, ["tokens", "take KD"]),
        (named("SAF"), &no_token, ["tokens", "prefix tokens"]),
        (named("SAF"), &deep, ["paired evenly", "saf.pairs"]),
        (beyond, &tiny(), ["block 9", "0 to 3"]),
        (named("distill"), &no_token, ["no distillation token", "soft or hard"]),
        (named("both"), &no_token, ["no distillation token", "soft or hard"]),
        (named("class"), &pooled, ["class token", "none"]),
        (named("KD"), &few, ["classes", "same number"]),
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
    let text = |preset: Preset| preset.validate().expect_err("nonsense").to_string();
    let deit = |deit: Deit| text(Preset::Deit(deit));
    assert!(deit(Deit { alpha: 1.5, ..Deit::default() }).contains("alpha"));
    assert!(deit(Deit { temperature: 0.0, ..Deit::default() }).contains("temperature"));
    assert!(deit(Deit { teacher_smoothing: f64::NAN, ..Deit::default() }).contains("teacher_smoothing"));
    let saf = Saf { weight: -1.0, ..Saf::default() };
    assert!(text(Preset::Sum(Sum { saf: Some(saf), ..Sum::default() })).contains("saf.weight"));
    let manifold = Manifold { rows: 0, ..Manifold::default() };
    assert!(text(Preset::Sum(Sum { manifold: Some(manifold), ..Sum::default() })).contains("manifold.rows"));
}

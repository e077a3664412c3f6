//! The session as the worker drives it, on the CPU.
#![recursion_limit = "256"]

use std::sync::Arc;

use burn::cubecl::future::block_on;
use burn::tensor::{Device, Tensor, TensorData};
use potstill_core::data::{
    Dataset, Digits, Draw, ImageShape, Normalisation, Relabelled, Split, Subset, Transform, assemble, assemble_visits,
    without_classes,
};
use potstill_core::method::{Lesson, LogitDistillation, Preset};
use potstill_core::train::{Batches, Course, CourseConfig, DeviceBatch, Evaluation, TrainingRecipe};
use potstill_core::weights::{self, Description};
use potstill_web::data::transform;
use potstill_web::plan::{Plan, live_teacher};
use potstill_web::protocol::{
    Answer, Command, DataChoice, DistilRecipe, Event, History, Method, Model, Quantity, StopReason, TeacherChoice,
};
use potstill_web::session::{Buffers, Session};

fn clock() -> f64 {
    use std::time::Instant;
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1000.0
}

fn session() -> Session {
    Session::new(Device::flex(), clock)
}

fn recipe(method: Method) -> DistilRecipe {
    DistilRecipe {
        method,
        train_samples: 96,
        labels: None,
        alpha: 0.5,
        temperature: 2.0,
        batch: 32,
        depth: 1,
        width: 16,
        steps: 20,
        ..DistilRecipe::default()
    }
}

/// An untrained teacher as a file: what it says is wrong, and as good for a comparison as what is right.
fn teacher_file() -> Vec<u8> {
    let config = live_teacher();
    let network = config.init(77, &Device::flex()).expect("valid");
    let tensors = block_on(weights::read(&network)).expect("readable");
    let mut description = Description::of("unnamed", config, &Default::default()).expect("valid");
    description.normalisation = Normalisation::mnist();
    weights::to_safetensors(&tensors, description.metadata()).expect("a file")
}

fn ask(session: &mut Session, command: Command, buffers: Buffers) -> Result<(Answer, Buffers), String> {
    block_on(session.handle(command, buffers, &mut |_, _| {}))
}

fn prepare(session: &mut Session, recipe: DistilRecipe) {
    let files = if recipe.teacher == TeacherChoice::Shipped { vec![teacher_file()] } else { Vec::new() };
    ask(session, Command::Prepare { recipe: Box::new(recipe) }, files).expect("prepared");
}

/// Runs, and returns the curves as the events gave them, and why it stopped.
fn run(session: &mut Session, steps: Option<u32>) -> (History, StopReason) {
    ask(session, Command::Run { steps }, Vec::new()).expect("started");
    let (mut whole, mut stopped) = (History::default(), None);
    while session.is_running() {
        let mut news = |event, _| match event {
            Event::Progress { history, .. } => whole.extend(*history),
            Event::Stopped { reason, .. } => stopped = Some(reason),
            _ => {}
        };
        block_on(session.advance(&mut news));
    }
    (whole, stopped.expect("it stopped"))
}

/// One curve's values.
fn values(history: &History, model: Model, quantity: Quantity) -> &[f32] {
    history.curve(model, &quantity).map_or(&[], |curve| &curve.values)
}

/// A model's total losses.
fn losses(history: &History, model: Model) -> &[f32] {
    values(history, model, Quantity::Loss)
}

/// The steps of a model's total losses.
fn steps(history: &History, model: Model) -> &[u32] {
    history.curve(model, &Quantity::Loss).map_or(&[], |curve| &curve.steps)
}

/// The curves that a snapshot holds.
fn history(session: &mut Session) -> History {
    let (_, mut file) = ask(session, Command::Snapshot, Vec::new()).expect("a snapshot");
    let mut other = self::session();
    let files = vec![file.remove(0), teacher_file()];
    match ask(&mut other, Command::Restore, files).expect("restored").0 {
        Answer::Prepared { history, .. } => *history,
        answer => panic!("{answer:?}"),
    }
}

/// All samples of a recipe with their labels.
fn all_samples(recipe: &DistilRecipe) -> Arc<dyn Dataset> {
    let digits = Digits::new(Split::Train, 20_000);
    Arc::new(Subset::balanced(digits, recipe.train_samples as usize, u64::from(recipe.seed)).expect("enough"))
}

/// The losses of a course on `data` as the command drives it: one network by itself, its samples read for training, ten steps
/// a transfer, numbers from the recipe for digits.
fn command_losses(recipe: &DistilRecipe, preset: &Preset, data: &dyn Dataset) -> Vec<f32> {
    let (device, seed) = (Device::flex(), u64::from(recipe.seed));
    let (tensors, metadata) = weights::from_safetensors(&teacher_file()).expect("readable");
    let description = Description::read(&metadata).expect("readable").expect("described");
    let teacher = description.network(tensors, &device).expect("fits");
    let student = Plan::new(recipe.clone()).expect("valid").student;
    let lesson = Lesson::new(&preset.objective(), &student.shape(), Some(teacher.into())).expect("fits");
    let student = student.init(seed, &device.clone().autodiff()).expect("valid");
    let batches = Batches::new(data.len(), recipe.batch as usize, 1, seed);
    let numbers = TrainingRecipe { lr: 3e-3, ..TrainingRecipe::digits() };
    let config = CourseConfig { lesson, recipe: numbers, batches, steps: u64::from(recipe.steps), seed };
    let mut course = Course::new(student, config, &device);
    let (mut order, mut losses) = (batches.order(), Vec::new());
    while !course.is_finished() {
        let (epoch, _) = batches.place(course.step());
        let visits = order.visits(course.step());
        let batch = assemble_visits(data, visits, &transform(), Some(Draw { seed, epoch })).expect("readable");
        course.take(DeviceBatch::new(batch, &device)).expect("samples of the data set");
        if course.unread() == 10 || course.is_finished() {
            let taken = block_on(Course::read(&mut [&mut course])).expect("readable").remove(0);
            losses.extend(taken.into_iter().map(|taken| taken.loss));
        }
    }
    losses
}

#[test]
fn twenty_steps_are_those_of_the_command() {
    let recipe = recipe(Method::Soft);
    let mut session = session();
    prepare(&mut session, recipe.clone());
    let (told, reason) = run(&mut session, None);
    assert_eq!((reason, steps(&told, Model::Student).len()), (StopReason::Finished, 20));
    let kd = LogitDistillation::default();
    assert_eq!((kd.alpha, kd.temperature), (f64::from(recipe.alpha), f64::from(recipe.temperature)));
    let data = all_samples(&recipe);
    assert_eq!(losses(&told, Model::Student), command_losses(&recipe, &Preset::Kd(kd), &data));
    assert_eq!(losses(&told, Model::Baseline), command_losses(&recipe, &Preset::Labels { smoothing: 0.0 }, &data));
    assert_eq!(told, history(&mut session), "the events tell all that the run recorded");
    assert_eq!(told.curve(Model::Student, &Quantity::Accuracy).expect("checked").steps, [0, 5, 10, 15, 20]);
    for term in ["labels", "logits"] {
        assert_eq!(values(&told, Model::Student, Quantity::Term(term.into())).len(), 20, "{term}");
    }
}

#[test]
fn what_is_told_of_the_samples_is_told_as_by_the_command() {
    let few = DistilRecipe { labels: Some(10), label_noise: 0.3, omit: vec![3], ..recipe(Method::Soft) };
    let mut session = session();
    prepare(&mut session, few.clone());
    let (told, _) = run(&mut session, None);
    // By hand, as it is defined: without the 3s, ten labels kept, three of them replaced; the baseline sees the ten alone.
    let all = all_samples(&few);
    let kept = without_classes(&all, &[3]);
    let own = Relabelled::new(Subset::of(all, kept).expect("there")).keep(10, 0).expect("enough").noise(0.3, 0);
    let own = Arc::new(own);
    let labelled: Vec<u64> = (0..own.len() as u64).filter(|index| own.known_label(*index as usize).is_some()).collect();
    let again = labelled.into_iter().cycle().take(own.len()).collect();
    let alone = Subset::of(own.clone(), again).expect("there");
    let kd = LogitDistillation::default();
    assert_eq!(losses(&told, Model::Student), command_losses(&few, &Preset::Kd(kd), &own));
    assert_eq!(losses(&told, Model::Baseline), command_losses(&few, &Preset::Labels { smoothing: 0.0 }, &alone));
    for model in [Model::Student, Model::Baseline] {
        let corrected = told.curve(model, &Quantity::UnseenCorrected).expect("at the end");
        assert_eq!(
            (corrected.steps.clone(), told.curve(model, &Quantity::Corrected).expect("too").steps.len()),
            (vec![20], 1)
        );
        // Said as often as it comes, it is right at times, where it never was before.
        assert!(corrected.values[0] > values(&told, model, Quantity::Unseen)[4], "{model:?}");
    }
    for model in [Model::Teacher, Model::Student, Model::Baseline] {
        assert_eq!(told.curve(model, &Quantity::Unseen).expect("3s are left out").steps, [0, 5, 10, 15, 20]);
    }
}

#[test]
fn without_a_label_the_baseline_stays_as_it_was() {
    let none = DistilRecipe { labels: Some(0), alpha: 1.0, ..recipe(Method::Soft) };
    let mut whole = session();
    prepare(&mut whole, none.clone());
    let (told, _) = run(&mut whole, None);
    assert_eq!(losses(&told, Model::Baseline).len(), 0);
    let alone = values(&told, Model::Baseline, Quantity::Accuracy);
    assert!(alone[..4].windows(2).all(|pair| pair[0] == pair[1]), "{alone:?}");
    assert!(losses(&told, Model::Student).iter().all(|loss| loss.is_finite()));
    // And it goes on from a snapshot.
    let mut now = session();
    prepare(&mut now, none);
    run(&mut now, Some(7));
    let (_, file) = ask(&mut now, Command::Snapshot, Vec::new()).expect("a snapshot");
    now = session();
    ask(&mut now, Command::Restore, vec![file[0].clone(), teacher_file()]).expect("restored");
    run(&mut now, None);
    assert_eq!(history(&mut now), told);
}

#[test]
fn each_check_shows_the_same_samples() {
    let mut session = session();
    prepare(&mut session, DistilRecipe { omit: vec![3], ..recipe(Method::Soft) });
    let heard = hear_all(&mut session, None);
    let shown = heard.iter().filter_map(|(event, pixels)| match event {
        Event::Checked { step, samples } => Some((*step, samples, &pixels[0])),
        _ => None,
    });
    let shown: Vec<_> = shown.collect();
    assert_eq!(shown.iter().map(|(step, ..)| *step).collect::<Vec<_>>(), [0, 5, 10, 15, 20]);
    for (_, samples, pixels) in &shown {
        assert_eq!((samples.len(), pixels.len()), (40, 40 * 784));
        assert_eq!(samples.iter().filter(|sample| sample.label == 3).count(), 20, "half are of what is left out");
        assert!(samples.iter().zip(shown[0].1).all(|(now, first)| now.index == first.index));
    }
}

#[test]
fn a_run_goes_on_from_its_snapshot_as_if_it_had_never_stopped() {
    for (method, teacher) in [
        (Method::Soft, TeacherChoice::Shipped),
        (Method::Lwr, TeacherChoice::Shipped),
        (Method::ClsKd, TeacherChoice::Live),
    ] {
        let recipe = DistilRecipe { teacher, teacher_steps: 5, steps: 10, ..recipe(method) };
        let mut whole = session();
        prepare(&mut whole, recipe.clone());
        let (expected, _) = run(&mut whole, None);
        // Stopped in the teacher's training, where there is any, and in the student's.
        let mut now = session();
        prepare(&mut now, recipe);
        for steps in [3, 4] {
            let (_, reason) = run(&mut now, Some(steps));
            assert_eq!(reason, StopReason::Paused);
            let (_, mut file) = ask(&mut now, Command::Snapshot, Vec::new()).expect("a snapshot");
            now = session();
            ask(&mut now, Command::Restore, vec![file.remove(0), teacher_file()]).expect("restored");
        }
        run(&mut now, None);
        let found = history(&mut now);
        assert_eq!(found, expected, "{method:?}");
        assert_eq!(steps(&found, Model::Student), (1..=10).collect::<Vec<_>>());
        assert!(losses(&found, Model::Student).iter().all(|loss| loss.is_finite()));
    }
}

/// A saved run as it was written when the baseline was called the twin and curves were lists.
fn in_older_names(file: &[u8], history: &History) -> Vec<u8> {
    let (mut tensors, mut metadata) = weights::from_safetensors(file).expect("readable");
    for tensor in &mut tensors {
        tensor.name = tensor.name.replace("baseline.", "twin.");
    }
    let mut run: serde_json::Value = serde_json::from_str(&metadata["potstill.run"]).expect("json");
    run["updates"] = serde_json::json!({ "student": run["step"], "twin": run["step"] });
    run["history"] = serde_json::json!({
        "steps": steps(history, Model::Student), "studentLoss": losses(history, Model::Student),
        "twinLoss": losses(history, Model::Baseline), "termNames": [], "terms": [], "checks": [],
        "teacherAccuracy": [], "studentAccuracy": [], "twinAccuracy": [], "agreement": [],
    });
    metadata.insert("potstill.run".into(), run.to_string());
    weights::to_safetensors(&tensors, metadata).expect("a file")
}

#[test]
fn a_run_that_an_older_version_saved_goes_on() {
    let mut whole = session();
    prepare(&mut whole, recipe(Method::None));
    run(&mut whole, Some(4));
    let (_, file) = ask(&mut whole, Command::Snapshot, Vec::new()).expect("a snapshot");
    let older = in_older_names(&file[0], &history(&mut whole));
    let mut now = session();
    ask(&mut now, Command::Restore, vec![older, teacher_file()]).expect("restored");
    for session in [&mut whole, &mut now] {
        run(session, Some(3));
    }
    let [expected, found] = [&mut whole, &mut now].map(history);
    assert_eq!(steps(&found, Model::Baseline), [1, 2, 3, 4, 5, 6, 7]);
    for model in [Model::Student, Model::Baseline] {
        assert_eq!(losses(&found, model), losses(&expected, model));
    }
}

#[test]
fn a_snapshot_is_a_file_of_its_student() {
    let mut session = session();
    prepare(&mut session, recipe(Method::None));
    run(&mut session, Some(2));
    let (_, files) = ask(&mut session, Command::Snapshot, Vec::new()).expect("a snapshot");
    let (_, exported) = ask(&mut session, Command::Export { model: Model::Student }, Vec::new()).expect("a file");
    let network = |bytes: &[u8]| {
        let (tensors, metadata) = weights::from_safetensors(bytes).expect("readable");
        let description = Description::read(&metadata).expect("readable").expect("described");
        block_on(weights::read(&description.network(tensors, &Device::flex()).expect("fits"))).expect("readable")
    };
    assert_eq!(network(&files[0]), network(&exported[0]));
}

/// The fraction of the native program's first `samples` held-out digits that a file's network is right about.
fn accuracy_of(file: &[u8], samples: usize) -> f32 {
    let (tensors, metadata) = weights::from_safetensors(file).expect("readable");
    let description = Description::read(&metadata).expect("readable").expect("described");
    let shape = ImageShape { channels: 1, height: 28, width: 28 };
    let transform =
        Transform { preprocess: description.preprocess, ..Transform::plain(shape, description.normalisation.clone()) };
    let network = description.network(tensors, &Device::flex()).expect("fits");
    let digits = Digits::new(Split::Test, samples);
    let mut evaluation = Evaluation::new(10);
    for start in (0..samples).step_by(100) {
        let batch =
            assemble(&digits, &(start as u64..start as u64 + 100).collect::<Vec<_>>(), &transform).expect("readable");
        let images = Tensor::<4>::from_data(TensorData::new(batch.images, [100, 1, 28, 28]), &Device::flex());
        let logits = description.readout.of(&network.forward(images, None)).into_data();
        evaluation.add(&logits.iter().collect::<Vec<f32>>(), &batch.labels);
    }
    evaluation.accuracy() as f32
}

#[test]
fn a_saved_file_is_as_accurate_as_the_session_says() {
    let mut session = session();
    prepare(&mut session, DistilRecipe { train_samples: 640, ..recipe(Method::Soft) });
    run(&mut session, None);
    let (_, files) = ask(&mut session, Command::Snapshot, Vec::new()).expect("a snapshot");
    let Ok((Answer::Evaluation(told), _)) = ask(&mut session, Command::Evaluate, Vec::new()) else {
        panic!("an evaluation")
    };
    for (file, model) in [(teacher_file(), Model::Teacher), (files[0].clone(), Model::Student)] {
        let said = told.models.iter().find(|told| told.model == model).expect("of each network").accuracy;
        assert_eq!(accuracy_of(&file, told.samples as usize), said, "{model:?}");
    }
}

#[test]
fn every_method_trains() {
    let methods =
        [Method::None, Method::Soft, Method::Hard, Method::Saf, Method::ClsKd, Method::Lwr, Method::LabelSmoothing];
    for method in methods {
        let mut session = session();
        prepare(&mut session, DistilRecipe { steps: 6, ..recipe(method) });
        let (told, reason) = run(&mut session, None);
        assert_eq!(reason, StopReason::Finished, "{method:?}");
        let mut numbers = told.curves.iter().flat_map(|curve| &curve.values);
        assert!(numbers.all(|number| number.is_finite()), "{method:?}: {told:?}");
        let same = losses(&told, Model::Student) == losses(&told, Model::Baseline);
        assert_eq!(same, method == Method::None, "{method:?}: the baseline is not taught");
    }
}

#[test]
fn three_networks_are_shown_side_by_side() {
    let mut session = session();
    prepare(&mut session, recipe(Method::Soft));
    run(&mut session, Some(3));
    let Ok((Answer::Evaluation(evaluation), _)) = ask(&mut session, Command::Evaluate, Vec::new()) else {
        panic!("an evaluation")
    };
    assert_eq!((evaluation.samples, evaluation.models.len()), (2_000, 3));
    for model in &evaluation.models {
        assert_eq!(model.confusion.iter().sum::<u32>(), 2_000);
        let right: u32 = (0..10).map(|class| model.confusion[11 * class]).sum();
        assert_eq!(model.accuracy, right as f32 / 2_000.0);
    }
    let cell = Command::Cell { model: Model::Teacher, label: 3, predicted: 3 };
    let Ok((Answer::Samples { samples }, pixels)) = ask(&mut session, cell, Vec::new()) else { panic!("samples") };
    assert_eq!(samples.len() as u32, evaluation.models[0].confusion[33].min(500));
    assert_eq!(pixels[0].len(), 784 * samples.len());
    assert!(samples.iter().all(|note| (note.label, note.teacher) == (3, 3)));
    let Ok((Answer::Samples { samples }, _)) = ask(&mut session, Command::Disagreements { count: 5 }, Vec::new())
    else {
        panic!("samples")
    };
    assert_eq!(samples.len(), 5);
    let browse = Command::Browse { first: 1_990, count: 50 };
    let Ok((Answer::Samples { samples }, _)) = ask(&mut session, browse, Vec::new()) else { panic!("samples") };
    assert_eq!(samples.iter().map(|note| note.index).collect::<Vec<_>>(), (1_990..2_000).collect::<Vec<_>>());
    let look = Command::Look { sample: Some(4), temperature: 5.0 };
    let Ok((Answer::Opinions { opinions }, maps)) = ask(&mut session, look, Vec::new()) else { panic!("opinions") };
    assert_eq!(opinions.iter().map(|o| o.model).collect::<Vec<_>>(), [Model::Teacher, Model::Student, Model::Baseline]);
    for (opinion, maps) in opinions.iter().zip(&maps) {
        assert_eq!(maps.len(), 4 * 784 * opinion.layers as usize);
        assert!((opinion.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let highest = |p: &[f32]| p.iter().copied().fold(0.0, f32::max);
        assert!(highest(&opinion.softened) < highest(&opinion.probabilities), "a temperature softens");
    }
}

#[test]
fn what_is_broken_is_one_line_and_the_session_goes_on() {
    let mut session = session();
    let mut refused = |command: Command, files: Buffers| {
        let line = ask(&mut session, command, files).expect_err("refused");
        assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
        line
    };
    let prepare = |recipe| Command::Prepare { recipe: Box::new(recipe) };
    for early in
        [Command::Run { steps: None }, Command::Snapshot, Command::Evaluate, Command::Disagreements { count: 1 }]
    {
        assert!(refused(early, Vec::new()).contains("first"));
    }
    refused(prepare(recipe(Method::Soft)), Vec::new());
    assert!(refused(prepare(recipe(Method::Soft)), vec![vec![1; 99]]).contains("teacher's file"));
    let mut cut = teacher_file();
    cut.truncate(cut.len() / 2);
    assert!(refused(prepare(recipe(Method::Soft)), vec![cut]).contains("safetensors"));
    let mut lying = teacher_file();
    // The header's length in the first bytes promises more than there is.
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(prepare(recipe(Method::Soft)), vec![lying.clone()]);
    refused(prepare(DistilRecipe { width: 63, ..recipe(Method::Soft) }), vec![teacher_file()]);
    let mnist = DistilRecipe { data: DataChoice::Mnist, ..recipe(Method::Soft) };
    assert!(refused(prepare(mnist), vec![teacher_file()]).contains("MNIST"));
    refused(Command::Restore, vec![lying]);
    assert!(refused(Command::Restore, vec![teacher_file()]).contains("no saved run"));
    let names = vec!["odd.gz".to_owned()];
    let data = Command::Data { data: DataChoice::Mnist, names };
    assert!(refused(data, vec![vec![0x1f, 0x8b, 8, 0]]).contains("odd.gz"));
    refused(Command::Classifier { name: "x".into(), beside: Vec::new() }, vec![vec![0; 10]]);
    self::prepare(&mut session, recipe(Method::None));
    for late in [
        Command::Look { sample: Some(9_999), temperature: 1.0 },
        Command::Look { sample: Some(1), temperature: 0.0 },
        Command::Look { sample: None, temperature: 1.0 },
    ] {
        ask(&mut session, late, Vec::new()).expect_err("refused");
    }
    assert_eq!(run(&mut session, Some(1)).1, StopReason::Paused);
}

/// A saved run whose student says nothing sensible.
fn without_numbers(file: &[u8]) -> Vec<u8> {
    let (mut tensors, metadata) = weights::from_safetensors(file).expect("readable");
    let bias = tensors.iter_mut().find(|tensor| tensor.name == "head.bias").expect("the student's head");
    bias.values[0] = f32::NAN;
    weights::to_safetensors(&tensors, metadata).expect("a file")
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_with_advice() {
    let mut session = session();
    prepare(&mut session, recipe(Method::Soft));
    let (_, files) = ask(&mut session, Command::Snapshot, Vec::new()).expect("a snapshot");
    let file = without_numbers(&files[0]);
    ask(&mut session, Command::Restore, vec![file, teacher_file()]).expect("restored");
    let (_, reason) = run(&mut session, None);
    let StopReason::Failed(line) = reason else { panic!("{reason:?}") };
    assert!(line.contains("no longer a number") && line.contains("lower the learning rate"), "{line}");
    assert!(losses(&history(&mut session), Model::Student)[0].is_nan(), "what was saved of it can be loaded");
}

/// Four files in MNIST's form, of drawn digits.
fn mnist_files() -> Buffers {
    let file = |sizes: &[u32], data: &[u8]| {
        let start = [0, 0, 8, sizes.len() as u8];
        let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
        start.into_iter().chain(sizes).chain(data.iter().copied()).collect::<Vec<u8>>()
    };
    [(Split::Train, 96), (Split::Test, 20)]
        .into_iter()
        .flat_map(|(split, samples)| {
            let digits = Digits::new(split, samples);
            let mut pixels = vec![0; samples * 784];
            pixels.chunks_mut(784).enumerate().for_each(|(index, image)| digits.draw(index, image));
            let labels: Vec<u8> = (0..samples).map(|index| digits.label(index) as u8).collect();
            [file(&[samples as u32, 28, 28], &pixels), file(&[samples as u32], &labels)]
        })
        .collect()
}

#[test]
fn files_opened_anew_end_the_run_on_those_before() {
    let mut session = session();
    let open = |session: &mut Session| {
        let (mut heard, open) = (Vec::new(), Command::Data { data: DataChoice::Mnist, names: Vec::new() });
        block_on(session.handle(open, mnist_files(), &mut |event, _| heard.push(event))).expect("opened");
        heard
    };
    open(&mut session);
    prepare(&mut session, DistilRecipe { data: DataChoice::Mnist, ..recipe(Method::None) });
    assert_eq!(run(&mut session, Some(1)).1, StopReason::Paused);
    ask(&mut session, Command::Run { steps: None }, Vec::new()).expect("started");
    assert!(matches!(open(&mut session)[..], [Event::Stopped { step: 1, reason: StopReason::Paused }]));
    assert!(!session.is_running());
    let line = ask(&mut session, Command::Run { steps: Some(1) }, Vec::new()).expect_err("there is no run");
    assert!(line.contains("first"), "{line}");
}

/// Runs `steps`, and hears what happens.
fn hear_all(session: &mut Session, steps: Option<u32>) -> Vec<(Event, Buffers)> {
    ask(session, Command::Run { steps }, Vec::new()).expect("started");
    let mut heard = Vec::new();
    while session.is_running() {
        block_on(session.advance(&mut |event, buffers| heard.push((event, buffers))));
    }
    heard
}

/// Runs `steps`, or until it is paused after the first chunk, and hears how it ends: a checkpoint, and that it stopped.
fn hear(session: &mut Session, steps: Option<u32>, pause: bool) -> Vec<(Event, Buffers)> {
    ask(session, Command::Run { steps }, Vec::new()).expect("started");
    let mut heard = Vec::new();
    let mut news = |event, buffers| match event {
        Event::Progress { .. } | Event::Checked { .. } => {}
        // On a slow machine there are some on the way.
        Event::Checkpoint { .. } => heard = vec![(event, buffers)],
        event => heard.push((event, buffers)),
    };
    if pause {
        block_on(session.advance(&mut news));
        block_on(session.handle(Command::Pause, Vec::new(), &mut news)).expect("paused");
    }
    while session.is_running() {
        block_on(session.advance(&mut news));
    }
    heard
}

#[test]
fn a_run_that_stops_leaves_a_checkpoint_of_its_last_step() {
    for (steps, pause) in [(Some(1), false), (Some(3), false), (None, true), (None, false)] {
        let mut session = session();
        prepare(&mut session, recipe(Method::Soft));
        let heard = hear(&mut session, steps, pause);
        let [(Event::Checkpoint { step }, files), (Event::Stopped { step: last, .. }, _)] = &heard[..] else {
            panic!("{steps:?}: {:?}", heard.iter().map(|(event, _)| event).collect::<Vec<_>>())
        };
        let expected = if pause { *last } else { steps.unwrap_or(20) };
        assert_eq!((*step, *last), (expected, expected));
        let (_, snapshot) = ask(&mut session, Command::Snapshot, Vec::new()).expect("a snapshot");
        let contents = |files: &Buffers| {
            let (mut tensors, metadata) = weights::from_safetensors(&files[0]).expect("readable");
            tensors.sort_by(|one, other| one.name.cmp(&other.name));
            (tensors, metadata)
        };
        let (tensors, metadata) = contents(files);
        let (expected, described) = contents(&snapshot);
        assert_eq!(metadata, described);
        assert!(tensors == expected, "the checkpoint is the run as it stopped");
    }
    // What failed is nothing to continue from.
    let mut session = session();
    prepare(&mut session, recipe(Method::Soft));
    let (_, files) = ask(&mut session, Command::Snapshot, Vec::new()).expect("a snapshot");
    ask(&mut session, Command::Restore, vec![without_numbers(&files[0]), teacher_file()]).expect("restored");
    let heard = hear(&mut session, None, false);
    assert!(matches!(heard[..], [(Event::Stopped { reason: StopReason::Failed(_), .. }, _)]));
}

#[test]
fn steps_of_a_live_teacher_are_not_the_students() {
    let mut session = session();
    let recipe = DistilRecipe { teacher: TeacherChoice::Live, teacher_steps: 5, steps: 4, ..recipe(Method::Soft) };
    prepare(&mut session, recipe);
    let heard = hear(&mut session, Some(3), false);
    let [(Event::Checkpoint { step: 0 }, files), (Event::Stopped { step: 0, .. }, _)] = &heard[..] else {
        panic!("{:?}", heard.iter().map(|(event, _)| event).collect::<Vec<_>>())
    };
    let restored = ask(&mut session, Command::Restore, files.clone()).expect("restored").0;
    let Answer::Prepared { step: 0, history, .. } = restored else { panic!("{restored:?}") };
    assert_eq!(steps(&history, Model::Teacher), [1, 2, 3]);
    let heard = hear(&mut session, None, false);
    assert!(matches!(heard[..], [(Event::Checkpoint { step: 4 }, _), (Event::Stopped { step: 4, .. }, _)]));
}

//! What the situations of the page show, over five seeds: the figures of the teacher's page and of `docs/results/browser.md`.
//!
//!     cargo test --release --workspace --test situations -- --ignored --nocapture
//!
//! POTSTILL_SITUATIONS=few-labels,no-labels takes some of them, POTSTILL_SEEDS=0,1 some seeds; POTSTILL_RECIPE, as JSON, sets
//! keys of the recipe otherwise, to choose its numbers. It is driven as the worker drives it, on the CPU.
#![recursion_limit = "256"]

use std::time::Instant;

use burn::cubecl::future::block_on;
use burn::tensor::Device;
use potstill_web::protocol::{Command, DistilRecipe, Event, History, Model, Quantity, Situation, StopReason};
use potstill_web::session::Session;

fn clock() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1000.0
}

fn run(recipe: DistilRecipe) -> History {
    let teacher = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/weights/digits_teacher.safetensors"));
    let mut session = Session::new(Device::flex(), clock);
    let ask = |session: &mut Session, command, buffers| {
        block_on(session.handle(command, buffers, &mut |_, _| {})).expect("done");
    };
    ask(&mut session, Command::Prepare { recipe: Box::new(recipe) }, vec![teacher.expect("the page's teacher")]);
    ask(&mut session, Command::Run { steps: None }, Vec::new());
    let mut whole = History::default();
    while session.is_running() {
        block_on(session.advance(&mut |event, _| match event {
            Event::Progress { history, .. } => whole.extend(*history),
            Event::Stopped { reason, .. } => assert_eq!(reason, StopReason::Finished),
            _ => {}
        }));
    }
    whole
}

/// Keys of the recipe that the environment sets.
fn changed(recipe: DistilRecipe) -> DistilRecipe {
    let Ok(text) = std::env::var("POTSTILL_RECIPE") else { return recipe };
    let mut keys = serde_json::to_value(recipe).expect("plain");
    let other: serde_json::Map<_, _> = serde_json::from_str(&text).expect("an object");
    keys.as_object_mut().expect("an object").extend(other);
    serde_json::from_value(keys).expect("a recipe")
}

fn listed(variable: &str, usual: &str) -> Vec<String> {
    std::env::var(variable).unwrap_or_else(|_| usual.to_owned()).split(',').map(str::to_owned).collect()
}

/// `mean (least to greatest)`, in percent.
fn spread(shares: &[f32]) -> String {
    let mean = 100.0 * shares.iter().sum::<f32>() / shares.len() as f32;
    let least = 100.0 * shares.iter().copied().fold(f32::INFINITY, f32::min);
    let most = 100.0 * shares.iter().copied().fold(0.0, f32::max);
    format!("{mean:.1} ({least:.1} to {most:.1})")
}

#[test]
#[ignore = "takes minutes: it trains each situation with five seeds"]
fn the_student_is_ahead_in_every_seed() {
    let chosen = listed("POTSTILL_SITUATIONS", "few-labels,no-labels,unseen-three,wrong-labels,all-labels");
    let seeds: Vec<u32> =
        listed("POTSTILL_SEEDS", "0,1,2,3,4").iter().map(|seed| seed.parse().expect("a seed")).collect();
    println!("| situation | what | teacher | student | baseline | least lead, points |\n|---|---|--:|--:|--:|--:|");
    for situation in Situation::ALL.into_iter().filter(|one| chosen.iter().any(|name| name == one.name())) {
        let start = Instant::now();
        let runs: Vec<_> =
            seeds.iter().map(|&seed| run(changed(DistilRecipe { seed, ..situation.recipe() }))).collect();
        for (what, quantity) in [
            ("all digits", Quantity::Accuracy),
            ("left out", Quantity::Unseen),
            ("all digits, corrected", Quantity::Corrected),
            ("left out, corrected", Quantity::UnseenCorrected),
        ] {
            let last = |model| runs.iter().filter_map(|run| run.last(model, &quantity)).collect::<Vec<f32>>();
            let [teacher, student, baseline] = [Model::Teacher, Model::Student, Model::Baseline].map(last);
            if student.is_empty() {
                continue;
            }
            let leads = student.iter().zip(&baseline).map(|(student, baseline)| 100.0 * (student - baseline));
            let least = leads.fold(f32::INFINITY, f32::min);
            let (name, [teacher, learnt, alone]) =
                (situation.name(), [&teacher, &student, &baseline].map(|all| spread(all)));
            println!("| {name} | {what} | {teacher} | {learnt} | {alone} | {least:.1} |");
            let must_lead = situation != Situation::AllLabels
                && (what.contains("corrected") || situation != Situation::UnseenThree);
            assert!(least > 0.0 || !must_lead, "{name}: the student is not ahead in every seed");
        }
        eprintln!("{}: {:.1} s a seed", situation.name(), start.elapsed().as_secs_f32() / seeds.len() as f32);
    }
}

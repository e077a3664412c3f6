//! `docs/commands.md`, which is written from the command line's own declaration.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};

use super::Cli;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");

fn option(arg: &Arg) -> String {
    let values: String = arg.get_value_names().unwrap_or_default().iter().map(|value| format!(" {value}")).collect();
    let takes = arg.get_action().takes_values();
    let mut line = match arg.get_long() {
        Some(long) if takes => format!("`--{long}{values}`"),
        Some(long) => format!("`--{long}`"),
        None => format!("`{}`", values.trim_start()),
    };
    let others: Vec<String> =
        arg.get_visible_aliases().unwrap_or_default().iter().map(|other| format!("`--{other}`")).collect();
    if !others.is_empty() {
        line += &format!(" (also {})", others.join(", "));
    }
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    line += &format!(": {help}");
    if !takes {
        return line;
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let words: Vec<String> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    for (what, found) in [("one of", words.join(", ")), ("default", defaults.join(" "))] {
        if !found.is_empty() {
            line += &format!(" [{what} {found}]");
        }
    }
    line
}

fn describe(text: &mut String, command: &mut Command, depth: usize) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let name = usage.split(" [").next().and_then(|line| line.split(" <").next()).unwrap_or_default();
    let head = "#".repeat(depth);
    writeln!(text, "{head} {name}\n\n{about}.\n\n    {usage}\n").expect("a string");
    let shown: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version"))
        .collect();
    let shown: Vec<&Arg> = shown.into_iter().filter(|arg| depth == 1 || !arg.is_global_set()).collect();
    let mut headings: Vec<Option<&str>> = shown.iter().map(|arg| arg.get_help_heading()).collect();
    headings.sort_by_key(Option::is_some);
    headings.dedup();
    let mut seen = Vec::new();
    for heading in headings {
        if seen.contains(&heading) {
            continue;
        }
        seen.push(heading);
        if let Some(heading) = heading {
            writeln!(text, "{head}# {heading}\n").expect("a string");
        }
        for arg in shown.iter().filter(|arg| arg.get_help_heading() == heading) {
            writeln!(text, "* {}", option(arg)).expect("a string");
        }
        writeln!(text).expect("a string");
    }
    for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
        describe(text, inner, 2);
    }
}

#[test]
fn the_reference_is_the_commands_own() {
    let mut command = Cli::command();
    command.build();
    let mut text = String::from(
        "<!-- Written from the command line's own declaration: POTSTILL_WRITE=1 cargo test --release --workspace the_reference -->\n\n",
    );
    describe(&mut text, &mut command, 1);
    let text = format!("{}\n", text.trim_end());
    if std::env::var_os("POTSTILL_WRITE").is_some() {
        std::fs::write(PATH, &text).expect("writes");
    }
    let kept = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(kept == text, "docs/commands.md is not current; write it with POTSTILL_WRITE=1");
}

#[test]
fn the_declaration_is_sound_and_a_repeated_option_is_overridden() {
    use clap::Parser;
    Cli::command().debug_assert();
    let given = |line: &str| match Cli::try_parse_from(line.split(' ')).expect(line).command {
        super::Command::Train(train) => train.given,
        other => panic!("{other:?}"),
    };
    let line =
        "potstill train --epochs 3 --s-id 0 1 --epochs 4 --s_id 2 --model-ema --no-model-ema --set a=1 --set b=2";
    let found = given(line);
    assert_eq!((found.text("epochs"), found.all("s-id")), (Some("4"), Some(&["2".to_owned()][..])));
    assert!(found.has("no-model-ema") && !found.has("model-ema"));
    assert_eq!(found.names(), ["--epochs", "--no-model-ema", "--s-id", "--set"]);
}

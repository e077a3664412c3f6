//! The `potstill` command.
#![recursion_limit = "256"]

mod bench;
mod cli;
mod command;
mod confusion;
mod dataset;
mod device;
mod error;
mod evaluate;
mod fetch;
mod folder;
mod given;
mod group;
mod memory;
mod pictures;
mod pool;
mod progress;
mod recipe;
mod report;
mod run;
mod statistics;
mod sweep;
mod train;
mod weights;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Shaders, TileChoice};
use potstill_core::op::{Reduction, Tiles};

fn run(cli: &Cli) -> error::Result<()> {
    match &cli.command {
        Command::Train(options) => command::train::run(options, &cli.device),
        Command::Compare(options) => command::compare::run(options),
        Command::Sweep(options) => command::sweep::run(options, &cli.device),
        Command::Recipes(options) => command::recipes::run(options),
        Command::Eval(options) => command::eval::run(options, &cli.device),
        Command::Export(options) => command::export::run(options, &cli.device),
        Command::Fetch(options) => command::fetch::run(options),
        Command::Predict(options) => command::predict::run(options, &cli.device),
        Command::Devices(options) => command::devices::run(options, &cli.device),
        Command::Selftest(options) => command::selftest::run(options, &cli.device),
        Command::Bench(options) => command::bench::run(options, &cli.device),
    }
}

fn main() -> ExitCode {
    memory::keep();
    let cli = Cli::parse_from(cli::arguments());
    let reduction = match cli.shaders {
        Shaders::Plain => Reduction::Plain,
        Shaders::Subgroups => Reduction::Subgroups,
    };
    let tiles = cli.tiles.map(|tiles| match tiles {
        TileChoice::Counted => Tiles::Counted,
        TileChoice::Measured => Tiles::Measured,
    });
    device::prefer(reduction, tiles);
    match pool::within(|| run(&cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

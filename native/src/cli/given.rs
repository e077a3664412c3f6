//! Which options of `train` a command line gives, where that counts and not their values.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

use super::Train;

/// The options that were given, as the help spells them.
#[derive(Debug)]
pub struct Given(pub Vec<String>);

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let command = Train::augment_args(Command::new("train"));
        let given = |arg: &&Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        let name = |arg: &Arg| arg.get_long().map_or_else(|| "the recipe".to_owned(), |long| format!("--{long}"));
        Ok(Self(command.get_arguments().filter(given).map(name).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

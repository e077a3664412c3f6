//! The flags as clap knows them: declared from the table, and read back.

use clap::builder::StyledStr;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use super::flag::{Flag, Kind};
use super::{distillation, table};
use crate::cli::Train;
use crate::given::Given;

/// The flags of the table where the help does not list them: that of `train` does.
#[derive(Debug, Default)]
pub struct Untold(pub Given);

impl FromArgMatches for Untold {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Given::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Args for Untold {
    fn augment_args(command: Command) -> Command {
        command.args(table().map(|flag| flag.arg().hide(true)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl Flag {
    fn arg(&self) -> Arg {
        let underscored = |name: &str| name.contains('-').then(|| name.replace('-', "_"));
        let spelt = self.others.iter().flat_map(|other| [Some((*other).to_owned()), underscored(other)]);
        let spelt: Vec<String> = spelt.chain([underscored(self.name)]).flatten().collect();
        let arg = Arg::new(self.name).long(self.name).help(self.help()).help_heading(self.heading);
        // Of a flag and the one that takes it back the later counts.
        let opposite = self.name.strip_prefix("no-").map_or_else(|| format!("no-{}", self.name), str::to_owned);
        let opposite = table().map(|flag| flag.name).find(|name| *name == opposite);
        let arg = match self.idle {
            Some(_) => arg.hide(true).aliases(spelt),
            None => arg.visible_aliases(spelt),
        };
        let arg = arg.overrides_with_all(opposite);
        let arg = match self.kind {
            Kind::Switch(_) => return arg.action(ArgAction::SetTrue),
            Kind::Numbers(count) => arg.num_args(count),
            Kind::Wholes => arg.num_args(1..),
            // Processes are numbered from -1.
            _ => arg.allow_negative_numbers(self.idle.is_some()),
        };
        let arg = arg.value_names(self.value.split(' ')).action(ArgAction::Set);
        let arg = self.needs.map_or(arg.clone(), |other| arg.requires(other));
        self.excludes.map_or(arg.clone(), |other| arg.conflicts_with(other))
    }

    fn help(&self) -> StyledStr {
        match self.kind {
            Kind::Word(words) => format!("{} [possible values: {}]", self.help, words().join(", ")).into(),
            _ => self.help.into(),
        }
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let command = Train::augment_args(Command::new("train"));
        // `sweep` has some of the options of `train`.
        let given = |id: &str| {
            matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(ValueSource::CommandLine)
        };
        let names = command.get_arguments().filter(|arg| given(arg.get_id().as_str()));
        let names = names.map(|arg| arg.get_long().map_or_else(|| "the recipe".to_owned(), |long| format!("--{long}")));
        let said = |flag: &Flag| match flag.kind {
            Kind::Switch(_) => Vec::new(),
            _ => matches.get_many::<String>(flag.name).into_iter().flatten().cloned().collect(),
        };
        let values = table().filter(|flag| given(flag.name)).map(|flag| (flag.name, said(&flag)));
        let method = |given: &Self| distillation::is_cls_kd(given).then_some("CLS-KD");
        Ok(Self::new(values.collect(), names.collect(), method))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command.args(table().map(|flag| flag.arg()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

//! An experiment as data: what it consists of, and how a command line, a file and a shipped recipe make one.
//!
//! | file | what it is |
//! |---|---|
//! | `experiment`, `data` | the resolved experiment and its checks |
//! | `table` | TOML tables: one laid over another, a key set |
//! | `layer` | an experiment in the making |
//! | `library` | the recipes that ship with the command |
//! | `flags` | the table of flags, and what each sets |
//! | `smoke` | any experiment made small |
//! | `layers` | all of it, one laid over the other |

mod data;
mod experiment;
mod flags;
mod layer;
mod layers;
pub mod library;
mod smoke;
mod table;

pub use data::{Class, DataRecipe};
pub use experiment::{Control, Goal, KeepNetwork, NetworkRecipe, Precision, Recipe, model_named};
pub use flags::Untold;
pub use layers::{Request, Resolved, resolve};

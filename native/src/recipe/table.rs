//! TOML tables: one laid over another, and a key set in one.
//!
//! Tables are merged key by key; a table of another `kind` replaces the one below it.

use toml::{Table, Value};

use crate::error::{Failure, Result};

/// Reads TOML that goes by a name.
///
/// # Errors
/// Exit code 2 with the place of the fault.
pub(super) fn parse(text: &str, name: &str) -> Result<Table> {
    let parsed: Result<Table, toml::de::Error> = toml::from_str(text);
    parsed.map_err(|error| Failure::usage(format!("{name}: {error}")))
}

/// What became of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Laid {
    /// It is set.
    Done,
    /// The recipe has no place for it.
    NoPlace,
    /// The recipe has no such section.
    NoSection,
}

/// Sets `a.b.c` in nested tables, or `b.c` in each of a list of terms that is called b.
pub(super) fn lay(table: &mut Table, path: &str, value: &Value) -> Result<Laid> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, only_there) = first.strip_suffix('?').map_or((first, false), |name| (name, true));
    let there = table.contains_key(name);
    if let (Some(rest), false, Some(Value::Array(terms))) = (rest, there, table.get_mut("terms")) {
        let called = name.replace('_', "-");
        let mut laid = Laid::NoPlace;
        for term in terms.iter_mut().filter_map(Value::as_table_mut) {
            if term.get("term").and_then(Value::as_str) == Some(&called) {
                laid = lay(term, rest, value)?;
            }
        }
        return Ok(laid);
    }
    if name.is_empty() {
        return Err(Failure::usage("--set needs a key before the equals sign"));
    }
    match rest {
        _ if only_there && !there => Ok(Laid::NoPlace),
        None => {
            table.insert(name.to_owned(), value.clone());
            Ok(Laid::Done)
        }
        Some(rest) => match table.entry(name).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => lay(inner, rest, value),
            _ => Err(Failure::usage(format!("{name} is a value and has no {rest} in it"))),
        },
    }
}

/// The known key or word that is nearest to the one that is not known.
pub(super) fn nearest(message: &str) -> Option<&str> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| message.starts_with("unknown"))?;
    let (distance, name) = quoted.map(|name| (distance(unknown, name), name)).min()?;
    (2 * distance <= name.len().max(unknown.len())).then_some(name)
}

// How many letters are to be put in, left out, exchanged for others or for their neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(row[j - 1] + 1).min(rows[i - 1][j] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// `[[objective]]` tables are the terms of a distillation.
pub(super) fn listed_terms(table: &mut Table) -> Result<()> {
    let Some(Value::Array(terms)) = table.get_mut("objective") else { return Ok(()) };
    let named = |term: &Value, name: &str| term.get("term").and_then(Value::as_str) == Some(name);
    if terms.iter().any(|term| named(term, "retrospection")) {
        return Err(Failure::usage(
            "retrospection is no term of a distillation, since it needs what the student said before; give the student \
             a section for it, [student.retrospection], or --retrospect",
        ));
    }
    let mut distillation = Table::new();
    distillation.insert("kind".into(), "terms".into());
    distillation.insert("terms".into(), Value::Array(std::mem::take(terms)));
    table.insert("distillation".into(), Value::Table(distillation));
    table.insert("objective".into(), "distillation".into());
    Ok(())
}

/// Sets what `KEY=VALUE` says.
pub(super) fn apply_assignment(table: &mut Table, assignment: &str) -> Result<()> {
    let Some((key, text)) = assignment.split_once('=') else {
        return Err(Failure::usage(format!("--set {assignment:?} is not of the form KEY=VALUE")));
    };
    match lay(table, key.trim(), &value_of(text))? {
        Laid::Done => Ok(()),
        _ => Err(Failure::usage(format!("--set: a recipe has no key {key:?}"))),
    }
}

/// A value as it is written: what TOML understands is what TOML says, and a bare word is a string.
pub(super) fn value_of(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    parsed.and_then(|mut parsed| parsed.remove("value")).unwrap_or_else(|| text.into())
}

/// Lays `over` on `table`: tables are merged key by key, anything else is replaced. Tables of two kinds have nothing in
/// common: the numbers of one objective or schedule do not fit another.
pub(super) fn merge(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => {
                if value.get("kind").is_some_and(|kind| inner.get("kind").is_some_and(|other| other != kind)) {
                    inner.clear();
                }
                merge(inner, value);
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

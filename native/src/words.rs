//! Words from outside, made fit to be shown: names of classes, tensors and files are anybody's.
//!
//! A terminal obeys control characters, a drawing is XML and may hold none, and a spreadsheet computes what begins like a
//! formula.

use std::borrow::Cow;

/// Characters of a name that a line of text has room for.
const LONGEST: usize = 60;

/// A text on one line: what is no visible character is written as its code, `\u001b`, which is also how JSON writes it.
pub fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// The same of several lines.
pub fn plain_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character == '\n')
}

/// A name on one line, cut where it is too long for one.
pub fn short(name: &str) -> String {
    let mut short: String = name.chars().take(LONGEST).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    plain(&short).into_owned()
}

/// A cell of a CSV file, in quotes, which a spreadsheet takes for text.
pub fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    format!("\"{}{}\"", if formula { "'" } else { "" }, plain(text).replace('"', "\"\""))
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let hidden = |character: char| !keep(character) && (character.is_control() || turns(character));
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match hidden(character) {
            true => plain += &format!("\\u{:04x}", u32::from(character)),
            false => plain.push(character),
        }
    }
    Cow::Owned(plain)
}

// Characters that end a line, or turn the direction of what follows, without being seen.
fn turns(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(plain("a\u{1b}[31mb\nc\u{7f}\u{9b}\u{202e}"), "a\\u001b[31mb\\u000ac\\u007f\\u009b\\u202e");
        assert_eq!(plain_lines("a\nb\r"), "a\nb\\u000d");
        assert!(matches!(plain("Größe, 数字"), Cow::Borrowed(_)));
        // As JSON it is the character again.
        assert_eq!(serde_json::from_str::<String>(&format!("\"{}\"", plain("\u{9b}"))).expect("JSON"), "\u{9b}");
    }

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(short("short"), "short");
        assert_eq!(short(&"ü".repeat(65_536)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn a_formula_is_text() {
        assert_eq!(cell("=1+2"), "\"'=1+2\"");
        assert_eq!(cell("a \"cat\""), "\"a \"\"cat\"\"\"");
        for start in ["+", "-", "@", "\t"] {
            assert!(cell(start).starts_with("\"'"), "{start:?}");
        }
    }
}

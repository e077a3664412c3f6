//! A comparison as one file for a browser: the sentences, the table and the picture, with nothing to load.

use super::accuracies::picture;
use super::escape;
use super::several::{Comparison, cells};
use crate::error::Result;

// Dark letters on white and lines between rows: nothing is told by colour alone.
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:64rem;margin:2rem auto;\
                     padding:0 1rem}table{border-collapse:collapse;display:block;overflow-x:auto}caption{text-align:left}\
                     th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #ccc;white-space:nowrap}\
                     .name{text-align:left}svg{max-width:100%;height:auto}";

/// The comparison as a page.
///
/// # Errors
/// If its picture cannot be drawn.
pub fn html(comparison: &Comparison) -> Result<String> {
    let many = comparison.entries.len() > 1;
    let names = 2 + usize::from(many);
    let cells = cells(&comparison.entries);
    let row = |cells: &[String], head: bool| {
        let cell = |(column, text): (usize, &String)| {
            let class = if column < names { " class=\"name\"" } else { "" };
            let text = escape(text);
            match (head, column) {
                (true, _) => format!("<th scope=\"col\"{class}>{text}</th>"),
                // The first cell of a row names it.
                (false, 0) => format!("<th scope=\"row\"{class}>{text}</th>"),
                _ => format!("<td{class}>{text}</td>"),
            }
        };
        format!("<tr>{}</tr>\n", cells.iter().enumerate().map(cell).collect::<String>())
    };
    let head = cells.first().map(|cells| row(cells, true)).unwrap_or_default();
    let rows: String = cells.iter().skip(1).map(|cells| row(cells, false)).collect();
    let sentences: String =
        comparison.sentences().iter().map(|sentence| format!("<li>{}</li>\n", escape(sentence))).collect();
    let sentences = if sentences.is_empty() { sentences } else { format!("<ul>\n{sentences}</ul>\n") };
    let measured: Vec<String> = comparison
        .entries
        .iter()
        .map(|entry| format!("{}: {} held-out samples of {}", entry.name, entry.dataset.test, entry.dataset.name))
        .collect();
    let svg = picture(&comparison.entries)?.replacen("<svg ", "<svg role=\"img\" ", 1);
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>Comparison of runs</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Comparison of runs</h1>\n{sentences}<table>\n<caption>Accuracy on held-out samples. {}.</caption>\n<thead>\n\
         {head}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n{svg}\n</body>\n</html>\n",
        escape(&measured.join("; "))
    ))
}

#[cfg(test)]
mod tests {
    use super::super::several::tests::entry;
    use super::*;

    #[test]
    fn the_page_stands_alone_and_its_names_are_text() {
        let page = html(&Comparison::of(&[entry("one"), entry("<script>alert(1)</script>")])).expect("a page");
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
        // The namespace of SVG is the only address, and nothing is loaded from it.
        assert_eq!(page.matches("http").count(), page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
        assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("url("));
        assert!(page.contains("<svg role=\"img\" ") && page.contains("<desc>") && page.contains("lang=\"en\""));
        assert_eq!(page.matches("<th scope=\"row\"").count(), 6);
        assert!(page.contains("17.5 points better than the baseline"));
    }
}

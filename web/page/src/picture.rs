//! Digits and attention as pixels.

use wasm_bindgen::JsCast;
use web_sys::{Element, HtmlCanvasElement, HtmlElement};

use potstill_protocol::SampleNote;

use crate::{dom, words};

/// Side of a digit in points.
pub const SIDE: usize = 28;

/// Digits as grey RGBA; `grey` is white ink on black, `[28, 28]`.
pub fn grey(grey: &[u8]) -> Vec<u8> {
    grey.iter().flat_map(|&ink| [ink, ink, ink, 255]).collect()
}

/// A picture under a map of attention: what gets little is dimmed, what gets much is tinted. `rgba` is
/// `[side, side, 4]`, `map` `[side, side]` from 0 to 1.
pub fn with_attention(rgba: &[u8], map: &[f32]) -> Vec<u8> {
    // Okabe and Ito's orange, which shows on grey and on most photographs.
    const TINT: [f32; 3] = [230.0, 159.0, 0.0];
    rgba.chunks_exact(4)
        .zip(map)
        .flat_map(|(point, &attention)| {
            let attention = attention.clamp(0.0, 1.0);
            let mix = |channel: usize| {
                let dimmed = f32::from(point[channel]) * (0.35 + 0.65 * attention);
                (dimmed + (TINT[channel] - dimmed) * 0.6 * attention) as u8
            };
            [mix(0), mix(1), mix(2), 255]
        })
        .collect()
}

/// A small canvas with a text for those who do not see it.
pub fn small(parent: &Element, side: usize, rgba: &[u8], said: &str) -> HtmlCanvasElement {
    let canvas: HtmlCanvasElement = dom::add(parent, dom::make("canvas", "", "")).unchecked_into();
    dom::set(&canvas, "role", "img");
    dom::set(&canvas, "aria-label", said);
    dom::paint(&canvas, side as u32, rgba);
    canvas
}

/// Samples as buttons with their pictures; `caption` says what stands under one.
pub fn thumbs(
    area: &Element,
    samples: &[SampleNote],
    pixels: &[u8],
    caption: impl Fn(&SampleNote) -> String,
    chosen: fn(SampleNote, Vec<u8>),
) {
    dom::clear(area);
    for (sample, digit) in samples.iter().zip(pixels.chunks_exact(SIDE * SIDE)) {
        let button = dom::add(area, dom::make("button", "", ""));
        dom::set(&button, "type", "button");
        dom::set(&button, "data-sample", &sample.index.to_string());
        let canvas = small(&button, SIDE, &grey(digit), "");
        dom::set(&canvas, "aria-hidden", "true");
        dom::set(&canvas, "role", "presentation");
        canvas.remove_attribute("aria-label").ok();
        let caption = caption(sample);
        dom::add(&button, dom::make("span", "", &caption));
        dom::set(&button, "aria-label", &format!("Sample {}: {caption}", sample.index));
        let (sample, digit) = (sample.clone(), digit.to_vec());
        dom::on(&button, "click", move |_: web_sys::Event| chosen(sample.clone(), digit.clone()));
    }
}

/// Bars of one network's opinion; made once, then changed.
pub struct Bars {
    /// The row, its bar and striped bar, and the number of each.
    rows: Vec<[HtmlElement; 5]>,
}

impl Bars {
    /// A table with a row a class. `class` names the network's colour.
    pub fn new(parent: &Element, class: &str, title: &str, names: &[String]) -> Self {
        let block = dom::add(parent, dom::make("section", &format!("opinion {class}"), ""));
        dom::add(&block, dom::make("h3", "", title));
        let table = dom::add(&block, dom::make("table", "", ""));
        let caption = format!("{title}: share of each class at temperature 1 and at the chosen one");
        dom::add(&table, dom::make("caption", "unseen", &caption));
        let rows = names
            .iter()
            .map(|name| {
                let row = dom::add(&table, dom::make("tr", "", ""));
                dom::set(&dom::add(&row, dom::make("th", "", name)), "scope", "row");
                let bars = dom::add(&row, dom::make("td", "", ""));
                let bar = |kind| {
                    let track = dom::add(&bars, dom::make("span", "bar-track", ""));
                    dom::add(&track, dom::make("span", kind, ""))
                };
                let (sharp, soft) = (bar("bar-fill"), bar("bar-fill soft"));
                let numbers = dom::add(&row, dom::make("td", "number", ""));
                let number = |kind| dom::add(&numbers, dom::make("div", kind, ""));
                let (share, softer) = (number(""), number("soft"));
                [row, sharp, soft, share, softer]
            })
            .collect();
        Self { rows }
    }

    /// Shows shares; both may be empty.
    pub fn set(&self, shares: &[f32], softened: &[f32]) {
        let best = (0..shares.len()).max_by(|&a, &b| shares[a].total_cmp(&shares[b]));
        for (at, [row, sharp_bar, soft_bar, number, soft_number]) in self.rows.iter().enumerate() {
            for (bar, number, shares) in [(sharp_bar, number, shares), (soft_bar, soft_number, softened)] {
                let share = shares.get(at).copied().unwrap_or(f32::NAN);
                length(bar, share);
                dom::text(number, &words::percent(share));
            }
            dom::show(soft_number, !softened.is_empty());
            if let Some(track) = soft_bar.parent_element() {
                dom::show(&track.unchecked_into(), !softened.is_empty());
            }
            row.class_list().toggle_with_force("first", Some(at) == best).ok();
        }
    }
}

/// Sets a bar's length, from 0 to 1; a share that is no number has none.
pub fn length(bar: &HtmlElement, share: f32) {
    let share = if share > 0.0 { share.min(1.0) } else { 0.0 };
    dom::style(bar, "transform", &format!("scaleX({share:.4})"));
}

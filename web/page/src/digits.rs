//! New digits and whether a network reads them: bright and framed where it is right, dim beside its answer where it is wrong.
//!
//! One canvas a network, drawn anew at each check. The figures beside it say the same for those who do not see it.

use potstill_protocol::SampleNote;
use wasm_bindgen::{Clamped, JsCast};
use web_sys::{HtmlCanvasElement, ImageData};

use crate::dom;
use crate::picture::{self, SIDE};

/// Side of a digit with its frame, in CSS pixels.
const CELL: f64 = 32.0;

/// Draws `samples` with `pixels` `[samples, 28, 28]` onto the canvas `id`; `says` picks whose answer counts.
pub fn draw(id: &str, who: &str, samples: &[SampleNote], pixels: &[u8], says: fn(&SampleNote) -> u32) {
    let canvas = dom::canvas(id);
    let width = f64::from(canvas.parent_element().map_or(0, |parent| parent.client_width()));
    if width <= 0.0 || samples.is_empty() {
        return;
    }
    let columns = ((width / CELL).floor() as usize).clamp(1, samples.len());
    let columns = samples.len().div_ceil(samples.len().div_ceil(columns));
    let rows = samples.len().div_ceil(columns);
    // Drawn larger than it is shown, so that it is sharp on any screen.
    let pixel = dom::window().device_pixel_ratio().clamp(1.0, 3.0);
    let cell = CELL * pixel;
    canvas.set_width((columns as f64 * cell) as u32);
    canvas.set_height((rows as f64 * cell) as u32);
    dom::style(&canvas, "width", &format!("{}px", columns as f64 * CELL));
    let pen = dom::context(&canvas);
    let stamp: HtmlCanvasElement = dom::make("canvas", "", "").unchecked_into();
    stamp.set_width(SIDE as u32);
    stamp.set_height(SIDE as u32);
    let (right_colour, wrong_colour) = (dom::colour("--right"), dom::colour("--wrong"));
    let mut right = 0;
    for (at, (sample, digit)) in samples.iter().zip(pixels.chunks_exact(SIDE * SIDE)).enumerate() {
        let (x, y) = ((at % columns) as f64 * cell, (at / columns) as f64 * cell);
        let rgba = picture::grey(digit);
        if let Ok(image) = ImageData::new_with_u8_clamped_array_and_sh(Clamped(&rgba), SIDE as u32, SIDE as u32) {
            dom::context(&stamp).put_image_data(&image, 0.0, 0.0).ok();
        }
        let is_right = says(sample) == sample.label;
        right += usize::from(is_right);
        pen.set_global_alpha(if is_right { 1.0 } else { 0.4 });
        let inside = cell - 4.0 * pixel;
        pen.draw_image_with_html_canvas_element_and_dw_and_dh(&stamp, x + 2.0 * pixel, y + 2.0 * pixel, inside, inside)
            .ok();
        pen.set_global_alpha(1.0);
        if is_right {
            pen.set_stroke_style_str(&right_colour);
            pen.set_line_width(2.0 * pixel);
            pen.stroke_rect(x + 2.0 * pixel, y + 2.0 * pixel, inside, inside);
        } else {
            let part = cell * 0.44;
            pen.set_fill_style_str(&wrong_colour);
            pen.fill_rect(x + cell - part - pixel, y + cell - part - pixel, part, part);
            pen.set_fill_style_str(&dom::colour("--on-wrong"));
            pen.set_font(&format!("700 {}px system-ui, sans-serif", part * 0.9));
            pen.set_text_align("center");
            pen.set_text_baseline("middle");
            pen.fill_text(&says(sample).to_string(), x + cell - part / 2.0 - pixel, y + cell - part / 2.0).ok();
        }
    }
    dom::set(&canvas, "aria-label", &format!("{who}: {right} of {} new digits read right", samples.len()));
}

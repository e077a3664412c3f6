//! Curves on a canvas, with a legend beside it and pictures to keep.

use std::cell::RefCell;

use wasm_bindgen::prelude::*;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement};

use crate::{dom, table};

/// More points than this are more than a laptop's screen has columns for a curve.
const MOST_POINTS: usize = 600;
/// Fewer points than this get dots: a single one would not be seen at all.
const FEW_POINTS: usize = 15;
/// In CSS pixels.
const HEIGHT: f64 = 240.0;
/// About so far apart are the lines of the grid, in CSS pixels.
const GRID: f64 = 48.0;

/// One curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// In the legend.
    pub label: String,
    /// A colour of the theme.
    pub colour: &'static str,
    /// Lengths of strokes and gaps; curves differ without their colours too.
    pub dash: &'static [u32],
    /// A value an abscissa; not a number where there is none.
    pub values: Vec<f32>,
}

/// A chart in the element `{name}-plot` with its legend in `{name}-legend`.
pub struct Chart {
    name: &'static str,
    y_label: &'static str,
    /// Least and greatest of the ordinate, where they are fixed.
    range: Option<[f64; 2]>,
    steps: RefCell<Vec<u32>>,
    series: RefCell<Vec<Series>>,
}

/// From numbers to places on the canvas.
struct Scale {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let width = self.most - self.least;
        let part = if width > 0.0 { (value - self.least) / width } else { 0.5 };
        self.from + (self.to - self.from) * part
    }

    /// Round numbers about [`GRID`] apart.
    fn marks(&self, pixel: f64) -> Vec<f64> {
        let count = ((self.to - self.from).abs() / (GRID * pixel)).max(1.0);
        let spacing = table::round_spacing((self.most - self.least) / count);
        let first = (self.least / spacing).ceil();
        (0..50)
            .map(|at| (first + f64::from(at)) * spacing)
            .take_while(|mark| *mark <= self.most + spacing * 1e-6)
            .collect()
    }
}

impl Chart {
    /// An empty chart.
    pub fn new(name: &'static str, y_label: &'static str, range: Option<[f64; 2]>) -> Self {
        Self { name, y_label, range, steps: RefCell::default(), series: RefCell::default() }
    }

    /// Shows these curves over these steps.
    pub fn set(&self, steps: Vec<u32>, series: Vec<Series>) {
        let same = self.series.borrow().iter().map(|one| &one.label).eq(series.iter().map(|one| &one.label));
        *self.steps.borrow_mut() = steps;
        *self.series.borrow_mut() = series;
        if !same {
            self.draw_legend();
        }
        self.draw();
    }

    /// After the window, the theme or the view changed.
    pub fn draw_anew(&self) {
        self.draw_legend();
        self.draw();
    }

    // A hidden chart has no width and is drawn when it is shown.
    fn draw(&self) {
        let target = dom::by_id(&format!("{}-plot", self.name));
        let width = f64::from(target.client_width());
        if width <= 0.0 {
            return;
        }
        let canvas =
            target.first_element_child().unwrap_or_else(|| dom::add(&target, dom::make("canvas", "", "")).into());
        let canvas: HtmlCanvasElement = canvas.unchecked_into();
        let pixel = dom::window().device_pixel_ratio().clamp(1.0, 3.0);
        canvas.set_width((width * pixel) as u32);
        canvas.set_height((HEIGHT * pixel) as u32);
        let pen = dom::context(&canvas);
        self.draw_on(&pen, width * pixel, HEIGHT * pixel, pixel);
    }

    fn draw_on(&self, pen: &CanvasRenderingContext2d, width: f64, height: f64, pixel: f64) {
        let (steps, series) = (self.steps.borrow(), self.series.borrow());
        let large = dom::document().document_element().is_some_and(|root| root.class_list().contains("large"));
        let letter = pixel * if large { 17.0 } else { 12.0 };
        pen.set_font(&format!("{letter}px system-ui, sans-serif"));
        pen.set_text_baseline("middle");
        let finite = series.iter().flat_map(|one| &one.values).filter(|value| value.is_finite());
        let [least, most] = self.range.unwrap_or_else(|| {
            let (low, high) =
                finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
            if low > high { [0.0, 1.0] } else { [f64::from(low.min(0.0)), f64::from(high) * 1.02 + 1e-6] }
        });
        let last = steps.last().map_or(1.0, |last| f64::from((*last).max(1)));
        let y = Scale { least, most, from: height - 2.6 * letter, to: letter };
        let x = Scale { least: 0.0, most: last, from: 3.6 * letter, to: width - 1.2 * letter };

        pen.set_line_width(pixel);
        let (ink, edge) = (dom::colour("--soft"), dom::colour("--edge"));
        pen.set_stroke_style_str(&edge);
        pen.set_fill_style_str(&ink);
        let line = |from: (f64, f64), to: (f64, f64)| {
            pen.begin_path();
            pen.move_to(from.0, from.1);
            pen.line_to(to.0, to.1);
            pen.stroke();
        };
        pen.set_text_align("right");
        for mark in y.marks(pixel) {
            line((x.from, y.at(mark)), (x.to, y.at(mark)));
            pen.fill_text(&table::mark_text(mark), x.from - 0.5 * letter, y.at(mark)).ok();
        }
        pen.set_text_align("center");
        for mark in x.marks(pixel * 1.5) {
            line((x.at(mark), y.from), (x.at(mark), y.to));
            pen.fill_text(&table::mark_text(mark), x.at(mark), y.from + letter).ok();
        }
        pen.set_text_align("right");
        pen.fill_text("step", x.to, height - 0.6 * letter).ok();
        pen.set_text_align("left");
        pen.fill_text(self.y_label, 0.2 * letter, height - 0.6 * letter).ok();

        let at = table::thin(steps.len(), MOST_POINTS);
        pen.set_line_width(2.0 * pixel);
        for one in series.iter() {
            let colour = dom::colour(one.colour);
            pen.set_stroke_style_str(&colour);
            pen.set_fill_style_str(&colour);
            set_dash(pen, one.dash, pixel);
            pen.begin_path();
            let mut drawing = false;
            for &at in &at {
                let value = one.values.get(at).copied().unwrap_or(f32::NAN);
                if !value.is_finite() {
                    drawing = false;
                    continue;
                }
                let (x, y) = (x.at(f64::from(steps[at])), y.at(f64::from(value)));
                if std::mem::replace(&mut drawing, true) {
                    pen.line_to(x, y)
                } else {
                    pen.move_to(x, y)
                }
                if steps.len() < FEW_POINTS {
                    pen.fill_rect(x - 2.0 * pixel, y - 2.0 * pixel, 4.0 * pixel, 4.0 * pixel);
                }
            }
            pen.stroke();
        }
        set_dash(pen, &[], pixel);
    }

    fn draw_legend(&self) {
        let legend = dom::by_id(&format!("{}-legend", self.name));
        dom::clear(&legend);
        for one in self.series.borrow().iter() {
            let entry = dom::add(&legend, dom::make("span", "entry", ""));
            let swatch = dom::add(&entry, dom::make("span", "swatch", ""));
            let style = match one.dash.first() {
                None => "solid",
                Some(&stroke) if stroke > 3 => "dashed",
                Some(_) => "dotted",
            };
            dom::style(&swatch, "border-top-style", style);
            dom::style(&swatch, "border-top-color", &format!("var({})", one.colour));
            dom::add(&entry, dom::make("span", "", &one.label));
        }
    }

    /// The chart with its title and legend on a ground of its own; `None` before anything is drawn.
    pub fn picture(&self, title: &str) -> Option<HtmlCanvasElement> {
        const SCALE: f64 = 2.0;
        const WIDTH: f64 = 720.0;
        let series = self.series.borrow();
        if series.is_empty() {
            return None;
        }
        let line = 22.0 * SCALE;
        let canvas: HtmlCanvasElement = dom::make("canvas", "", "").unchecked_into();
        canvas.set_width((WIDTH * SCALE) as u32);
        canvas.set_height((HEIGHT * SCALE + line * (series.len() as f64 + 2.0)) as u32);
        let pen = dom::context(&canvas);
        pen.set_fill_style_str(&dom::colour("--panel"));
        pen.fill_rect(0.0, 0.0, f64::from(canvas.width()), f64::from(canvas.height()));
        pen.set_fill_style_str(&dom::colour("--ink"));
        pen.set_font(&format!("600 {}px system-ui, sans-serif", 15.0 * SCALE));
        pen.fill_text(title, 10.0 * SCALE, line).ok();
        pen.translate(0.0, line * 1.5).ok();
        self.draw_on(&pen, WIDTH * SCALE, HEIGHT * SCALE, SCALE);
        pen.set_text_align("left");
        pen.set_font(&format!("{}px system-ui, sans-serif", 13.0 * SCALE));
        pen.set_fill_style_str(&dom::colour("--ink"));
        for (at, one) in series.iter().enumerate() {
            let y = HEIGHT * SCALE + line * (at as f64 + 0.2);
            set_dash(&pen, one.dash, SCALE);
            pen.set_line_width(3.0 * SCALE);
            pen.set_stroke_style_str(&dom::colour(one.colour));
            pen.begin_path();
            pen.move_to(10.0 * SCALE, y);
            pen.line_to(50.0 * SCALE, y);
            pen.stroke();
            pen.fill_text(&one.label, 60.0 * SCALE, y).ok();
        }
        Some(canvas)
    }
}

fn set_dash(pen: &CanvasRenderingContext2d, dash: &[u32], pixel: f64) {
    let dash = dash.iter().map(|&part| JsValue::from_f64(f64::from(part) * pixel));
    pen.set_line_dash(&dash.collect::<js_sys::Array>()).ok();
}

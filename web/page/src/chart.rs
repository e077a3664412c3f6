//! Curves, drawn by uPlot, with a legend of the page's own and pictures to keep.
//!
//! uPlot comes from npm as a script of its own and is only called here.

use std::cell::RefCell;

use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use web_sys::HtmlCanvasElement;

use crate::{dom, table};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = uPlot)]
    type UPlot;
    #[wasm_bindgen(constructor, js_class = "uPlot")]
    fn new(options: &JsValue, data: &JsValue, target: &web_sys::Element) -> UPlot;
    #[wasm_bindgen(method, js_name = setData)]
    fn set_data(this: &UPlot, data: &JsValue);
    #[wasm_bindgen(method)]
    fn destroy(this: &UPlot);
    #[wasm_bindgen(method, getter)]
    fn ctx(this: &UPlot) -> web_sys::CanvasRenderingContext2d;
}

/// More points than this are more than a laptop's screen has columns for a curve.
const MOST_POINTS: usize = 600;
/// Fewer points than this get dots: a single one would not be seen at all.
const FEW_POINTS: usize = 15;
/// In CSS pixels.
const HEIGHT: u32 = 240;

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
    plot: RefCell<Option<UPlot>>,
}

impl Chart {
    /// An empty chart.
    pub fn new(name: &'static str, y_label: &'static str, range: Option<[f64; 2]>) -> Self {
        Self { name, y_label, range, steps: RefCell::default(), series: RefCell::default(), plot: RefCell::default() }
    }

    /// Shows these curves over these steps.
    pub fn set(&self, steps: Vec<u32>, series: Vec<Series>) {
        let few = steps.len() < FEW_POINTS;
        let same = few == (self.steps.borrow().len() < FEW_POINTS)
            && self.series.borrow().iter().map(|one| &one.label).eq(series.iter().map(|one| &one.label));
        *self.steps.borrow_mut() = steps;
        *self.series.borrow_mut() = series;
        if !same {
            self.draw_anew();
        } else if let Some(plot) = self.plot.borrow().as_ref() {
            plot.set_data(&self.data());
        }
    }

    /// After the window, the theme or the view changed. A hidden chart has no width and is drawn when it is shown.
    pub fn draw_anew(&self) {
        if let Some(plot) = self.plot.borrow_mut().take() {
            plot.destroy();
        }
        self.draw_legend();
        let target = dom::by_id(&format!("{}-plot", self.name));
        let width = target.client_width();
        if width > 0 {
            let options = to_js(&self.options(width));
            *self.plot.borrow_mut() = Some(UPlot::new(&options, &self.data(), &target));
        }
    }

    fn options(&self, width: i32) -> Value {
        let (ink, grid) = (dom::colour("--soft"), dom::colour("--edge"));
        let large = dom::document().document_element().is_some_and(|root| root.class_list().contains("large"));
        let font = if large { "17px system-ui, sans-serif" } else { "12px system-ui, sans-serif" };
        let axis = |label: &str| {
            json!({
                "stroke": ink, "font": font, "label": label, "labelFont": font,
                "labelSize": if large { 26 } else { 20 }, "size": if large { 56 } else { 44 },
                "grid": { "stroke": grid, "width": 1 }, "ticks": { "stroke": grid, "width": 1 },
            })
        };
        let points = self.steps.borrow().len() < FEW_POINTS;
        let curves = self.series.borrow();
        let mut series = vec![json!({})];
        series.extend(curves.iter().map(|one| {
            json!({
                "label": one.label, "stroke": dom::colour(one.colour), "dash": one.dash, "width": 2,
                "points": { "show": points, "size": 5, "fill": dom::colour(one.colour) },
            })
        }));
        let y = self.range.map_or(json!({}), |range| json!({ "range": range }));
        json!({
            "width": width, "height": HEIGHT, "legend": { "show": false }, "cursor": { "show": false },
            "scales": { "x": { "time": false }, "y": y },
            "axes": [axis("step"), axis(self.y_label)],
            "series": series,
        })
    }

    fn data(&self) -> JsValue {
        let steps = self.steps.borrow();
        let at = table::thin(steps.len(), MOST_POINTS);
        let mut lists = vec![at.iter().map(|&at| json!(steps[at])).collect::<Vec<_>>()];
        for one in self.series.borrow().iter() {
            // JSON has no NaN: serde_json writes null, which is uPlot's gap.
            lists.push(at.iter().map(|&at| json!(one.values.get(at))).collect());
        }
        to_js(&json!(lists))
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
        let plot = self.plot.borrow();
        let drawn = plot.as_ref()?.ctx().canvas()?;
        let series = self.series.borrow();
        let scale = f64::from(drawn.width()) / f64::from(dom::by_id(&format!("{}-plot", self.name)).client_width());
        let line = 22.0 * scale;
        let canvas: HtmlCanvasElement = dom::make("canvas", "", "").unchecked_into();
        canvas.set_width(drawn.width());
        canvas.set_height(drawn.height() + (line * (series.len() as f64 + 2.0)) as u32);
        let pen = dom::context(&canvas);
        pen.set_fill_style_str(&dom::colour("--panel"));
        pen.fill_rect(0.0, 0.0, f64::from(canvas.width()), f64::from(canvas.height()));
        pen.set_fill_style_str(&dom::colour("--ink"));
        pen.set_font(&format!("600 {}px system-ui, sans-serif", 15.0 * scale));
        pen.fill_text(title, 10.0 * scale, line).ok();
        pen.draw_image_with_html_canvas_element(&drawn, 0.0, line * 1.5).ok();
        pen.set_font(&format!("{}px system-ui, sans-serif", 13.0 * scale));
        for (at, one) in series.iter().enumerate() {
            let y = f64::from(drawn.height()) + line * (at as f64 + 2.0);
            let dash = one.dash.iter().map(|&part| JsValue::from_f64(f64::from(part) * scale));
            pen.set_line_dash(&dash.collect::<js_sys::Array>()).ok();
            pen.set_line_width(3.0 * scale);
            pen.set_stroke_style_str(&dom::colour(one.colour));
            pen.begin_path();
            pen.move_to(10.0 * scale, y - line * 0.2);
            pen.line_to(50.0 * scale, y - line * 0.2);
            pen.stroke();
            pen.fill_text(&one.label, 60.0 * scale, y).ok();
        }
        Some(canvas)
    }
}

fn to_js(value: &Value) -> JsValue {
    js_sys::JSON::parse(&value.to_string()).unwrap_or(JsValue::NULL)
}

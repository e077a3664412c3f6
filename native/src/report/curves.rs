//! A run's curves as a picture: accuracy after each epoch, and the training loss.

use std::collections::BTreeMap;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Drawn, INK, RunReport, colour, described};
use crate::error::{Failure, Result};
use crate::run::Role;
use crate::train::LogLine;

const SIZE: (u32, u32) = (1000, 420);
/// Draws held-out accuracy after each epoch and the smoothed training loss of each network, as SVG.
pub fn curves(lines: &[LogLine], report: &RunReport) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, lines, report).map_err(|error| Failure::work(format!("cannot draw the curves: {error}")))?;
    let description: String = report
        .models
        .iter()
        .map(|(role, model)| format!("{}: {:.2} % right on held-out samples. ", role.name(), 100.0 * model.accuracy))
        .collect();
    Ok(described(svg, &format!("Training curves on {}", report.dataset.name), &description))
}

fn draw(svg: &mut String, lines: &[LogLine], report: &RunReport) -> Drawn {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(SIZE.0 / 2);
    let mut accuracy: BTreeMap<Role, Vec<(f64, f64)>> = BTreeMap::new();
    let mut loss: BTreeMap<Role, Vec<(f64, f64)>> = BTreeMap::new();
    let mut split = "held-out";
    for line in lines {
        match line {
            LogLine::Check(check) => {
                split = check.found.split();
                accuracy.entry(check.stage).or_default().push((check.epoch as f64, 100.0 * check.found.accuracy()));
            }
            LogLine::Step(step) => loss.entry(step.stage).or_default().push((step.step as f64, f64::from(step.loss))),
        }
    }
    for points in loss.values_mut() {
        smooth(points);
    }
    // The last point is the figure on all held-out samples, where some were looked at on the way.
    for (role, points) in accuracy.iter_mut().filter(|_| split == "held-out") {
        if let (Some(last), Some(model)) = (points.last_mut(), report.models.get(role)) {
            last.1 = 100.0 * model.accuracy;
        }
    }
    let floor = accuracy.values().flatten().map(|p| p.1).fold(100.0_f64, f64::min);
    chart(&left, &format!("{split} accuracy (%)"), "epoch", &accuracy, ((floor - 1.0).max(0.0), 100.0), true)?;
    let top = loss.values().flatten().map(|p| p.1).fold(0.0_f64, f64::max);
    chart(&right, "training loss (each network's own objective)", "step", &loss, (0.0, top * 1.05 + 1e-3), false)?;
    root.present()?;
    Ok(())
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    x_name: &str,
    lines: &BTreeMap<Role, Vec<(f64, f64)>>,
    y: (f64, f64),
    marks: bool,
) -> Drawn {
    let last = lines.values().flatten().map(|p| p.0).fold(1.0_f64, f64::max);
    // Room at the right for the names beside the lines.
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16).into_font().color(&INK))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..last * 1.25, y.0..y.1)?;
    chart
        .configure_mesh()
        .light_line_style(RGBColor(245, 245, 245))
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(INK)
        .x_desc(x_name)
        .x_labels(6)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|value| if y.1 - y.0 < 5.0 { format!("{value:.1}") } else { format!("{value:.0}") })
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    // Names stand apart even where lines end at the same height.
    let mut ends: Vec<(Role, (f64, f64))> = lines.iter().filter_map(|(role, p)| Some((*role, *p.last()?))).collect();
    ends.sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
    let gap = (y.1 - y.0) * 0.055;
    let mut named: Vec<(f64, f64)> = Vec::new();
    for (role, end) in ends {
        let style = ShapeStyle { color: colour(role).to_rgba(), filled: false, stroke_width: 2 };
        let points = lines.get(&role).cloned().unwrap_or_default();
        match role {
            Role::Baseline | Role::HardLabels | Role::AllLabels => {
                chart.draw_series(DashedLineSeries::new(points.iter().copied(), 6, 4, style))?;
            }
            _ => {
                chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
            }
        }
        // A mark an epoch, while there is room between them.
        if marks && points.len() <= 25 {
            chart.draw_series(points.iter().map(|p| Circle::new(*p, 3, colour(role).filled())))?;
        }
        let beside = |other: &&(f64, f64)| (other.0 - end.0).abs() < last * 0.2;
        let lowest = named.iter().filter(beside).map(|other| other.1 + gap).fold(y.0 + gap * 0.5, f64::max);
        let height = end.1.max(lowest);
        named.push((end.0, height));
        let text = ("sans-serif", 14).into_font().color(&colour(role)).pos(Pos::new(HPos::Left, VPos::Center));
        chart.draw_series([Text::new(format!(" {}", role.name()), (end.0 + last * 0.01, height), text)])?;
    }
    Ok(())
}

// An exponential mean corrected for its start, and at most some hundreds of points.
fn smooth(points: &mut Vec<(f64, f64)>) {
    let keep = 0.95;
    let (mut mean, mut weight) = (0.0, 0.0);
    for point in points.iter_mut() {
        mean = keep * mean + (1.0 - keep) * point.1;
        weight = keep * weight + (1.0 - keep);
        point.1 = mean / weight;
    }
    let every = points.len().div_ceil(400).max(1);
    let last = points.last().copied();
    let mut index = 0;
    points.retain(|_| {
        index += 1;
        index % every == 1 || every == 1
    });
    if let Some(last) = last.filter(|last| points.last() != Some(last)) {
        points.push(last);
    }
}

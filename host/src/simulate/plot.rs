//! Outcomes as a picture: SVG, six small plots over the threshold, the cheapest marked in each.
//!
//! Always: the same outcomes are the same bytes; it needs no font, script or file beside it.

use std::fmt::Write as _;

use super::outcome::{Outcome, Threshold, cheapest};

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 150.0;
/// Around the curves of a small plot: left, top, right, below.
const MARGINS: [f64; 4] = [62.0, 34.0, 14.0, 34.0];
const COLUMNS: usize = 3;
const TITLE_HEIGHT: f64 = 34.0;

/// A figure by what it is, of an outcome that has it.
type Panel = (&'static str, fn(&Outcome) -> Option<f64>);

const PANELS: [Panel; 6] = [
    ("entries pushed a second", |outcome| Some(outcome.writes)),
    ("authors merged at a reading", |outcome| Some(outcome.merged)),
    ("delay to the last follower, s", |outcome| outcome.delay.map(|delay| delay.as_secs_f64())),
    ("busy cores", |outcome| Some(outcome.cores)),
    ("memory, GB", |outcome| Some(outcome.memory / 1e9)),
    ("machines", |outcome| outcome.machines.map(|count| count as f64)),
];

/// Draws outcomes, in the order of their thresholds, under a title.
#[must_use]
pub fn draw(title: &str, outcomes: &[Outcome]) -> String {
    let [left, top, right, below] = MARGINS;
    let (across, down) = (left + WIDTH + right, top + HEIGHT + below);
    let (width, height) = (across * COLUMNS as f64, TITLE_HEIGHT + down * (PANELS.len() / COLUMNS) as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"12\" role=\"img\">\n<title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"24\" font-size=\"15\" font-weight=\"600\" fill=\"#1a2233\">{title}</text>\n",
        title = escaped(title),
    );
    let best = cheapest(outcomes).and_then(|best| outcomes.iter().position(|one| one == best));
    for (at, (name, figure)) in PANELS.iter().enumerate() {
        let (column, row) = ((at % COLUMNS) as f64, (at / COLUMNS) as f64);
        let (x, y) = (column * across + left, TITLE_HEIGHT + row * down + top);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        let figures: Vec<Option<f64>> = outcomes.iter().map(figure).collect();
        panel(&mut svg, name, &figures, best, outcomes);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, name: &str, figures: &[Option<f64>], best: Option<usize>, outcomes: &[Outcome]) {
    let x = |at: usize| at as f64 / (figures.len().saturating_sub(1)).max(1) as f64 * WIDTH;
    let top = figures.iter().flatten().copied().fold(0.0, f64::max);
    let top = if top > 0.0 { rounded_up(top) } else { 1.0 };
    let y = |figure: f64| HEIGHT * (1.0 - figure / top);
    let _ = writeln!(svg, "<text y=\"-12\" font-weight=\"600\" fill=\"#1a2233\">{name}</text>");
    for part in [0.0, 0.5, 1.0] {
        let at = y(part * top);
        let _ = writeln!(
            svg,
            "<path d=\"M0 {at}H{WIDTH}\" stroke=\"#d5dae3\"/><text x=\"-8\" y=\"{:.1}\" text-anchor=\"end\" \
             fill=\"#586072\">{}</text>",
            at + 4.0,
            short(part * top)
        );
    }
    let every = figures.len().div_ceil(6).max(1);
    for (at, outcome) in outcomes.iter().enumerate() {
        let is_last = at + 1 == outcomes.len();
        if is_last || (at.is_multiple_of(every) && at + every <= outcomes.len()) {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#586072\">{}</text>",
                x(at),
                HEIGHT + 18.0,
                match outcome.threshold {
                    Threshold::Above(above) => short(above),
                    Threshold::Never => "∞".to_owned(),
                }
            );
        }
    }
    if let Some(best) = best {
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} 0V{HEIGHT}\" stroke=\"#0f8a5f\" stroke-dasharray=\"4 3\" stroke-width=\"1.5\"/>",
            x(best)
        );
    }
    let points: Vec<(usize, f64)> =
        figures.iter().enumerate().filter_map(|(at, figure)| Some((at, (*figure)?))).collect();
    let line: Vec<String> =
        points.iter().map(|(at, figure)| format!("{:.1},{:.1}", x(*at), y(*figure))).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#2f5fd0\" stroke-width=\"2\"/>",
        line.join(" ")
    );
    for point in &line {
        if let Some((x, y)) = point.split_once(',') {
            let _ = writeln!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"2.5\" fill=\"#2f5fd0\"/>");
        }
    }
}

/// To one, two or five of some power of ten.
fn rounded_up(figure: f64) -> f64 {
    let power = 10_f64.powf(figure.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= figure * (1.0 - 1e-9)).unwrap_or(figure)
}

/// As an axis has room for it.
fn short(figure: f64) -> String {
    let (figure, unit) = match figure {
        _ if figure >= 1e9 => (figure / 1e9, "G"),
        _ if figure >= 1e6 => (figure / 1e6, "M"),
        _ if figure >= 1e3 => (figure / 1e3, "k"),
        _ => (figure, ""),
    };
    let text = format!("{figure:.4}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome(threshold: Threshold, cores: f64, machines: Option<u64>) -> Outcome {
        Outcome {
            threshold,
            pulled_authors: 0.0,
            writes: 0.0,
            reads: 1.0,
            merged: 2.0,
            builds: 0.0,
            cores,
            memory: 3e9,
            delay: machines.map(Duration::from_secs),
            machines,
        }
    }

    #[test]
    fn a_plot_has_a_point_for_each_figure_and_a_line_where_it_is_cheapest() {
        let outcomes = [
            outcome(Threshold::Above(0.0), 4.0, Some(2)),
            outcome(Threshold::Above(10.0), 1.0, Some(1)),
            outcome(Threshold::Never, 9.0, None),
        ];
        let svg = draw("a < b & c", &outcomes);
        assert!(svg.contains("<title>a &lt; b &amp; c</title>"));
        // Six plots of three points; the last outcome has neither delay nor machines.
        assert_eq!(svg.matches("<circle").count(), 6 * 3 - 2);
        assert_eq!(svg.matches("stroke-dasharray").count(), 6);
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        assert!(draw("of nothing", &[]).ends_with("</svg>\n"));
    }

    #[test]
    fn figures_are_short_and_axes_end_at_round_ones() {
        let shown = [0.0, 0.25, 3.0, 1_500.0, 2e6, 3e8, 1e9].map(short);
        assert_eq!(shown, ["0", "0.25", "3", "1.5k", "2M", "300M", "1G"]);
        for (figure, top) in [(0.03, 0.05), (1.0, 1.0), (1.1, 2.0), (2.2, 2.5), (70.0, 100.0)] {
            assert!((rounded_up(figure) - top).abs() < 1e-9, "{figure}");
        }
    }
}

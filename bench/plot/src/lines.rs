//! Lines over a common axis, and marks at what happened when.

use std::fmt::Write as _;

use crate::svg::{MARGIN, TOP, card, escape, number, text_width};

/// One line.
pub struct Line {
    pub label: String,
    /// In the order of their x.
    pub points: Vec<(f64, f64)>,
    /// In the accent colour, and drawn above the others.
    pub ours: bool,
}

const WIDTH: f64 = 560.0;

const HEIGHT: f64 = 260.0;

/// For the numbers at the y axis.
const AXIS: f64 = 52.0;

/// Between a line's end and its label, and the least between two labels.
const GAP: f64 = 8.0;

const LABEL_STEP: f64 = 17.0;

/// From so many times the smallest value up, the y axis is logarithmic: else the lower lines would be one.
const LOGARITHMIC_FROM: f64 = 20.0;

/// About how many numbers an axis has.
const TICKS: f64 = 6.0;

/// In addition to those of all plots. Lines that are not ours are told apart by their dashes.
const STYLE: &str = "\
.line{fill:none;stroke:#818b98;stroke-width:1.6;stroke-linejoin:round}\
.line.accent{stroke:#0969da;stroke-width:2.4}\
.grid{stroke:#d1d9e0;stroke-width:1}\
.mark{stroke:#bc4c00;stroke-width:1.4;stroke-dasharray:4 3}\
.when{fill:#bc4c00}\
@media(prefers-color-scheme:dark){\
.line{stroke:#9198a1}\
.line.accent{stroke:#4493f8}\
.grid{stroke:#3d444d}\
.mark{stroke:#f0883e}\
.when{fill:#f0883e}\
}";

const DASHES: [&str; 4] = ["none", "7 4", "2 3", "10 3 2 3"];

/// Lines with their labels at their ends, and `marks` at some x. Points that are no numbers are left out.
///
/// The y axis begins at zero, or is logarithmic if values are far apart; where it is, values of zero and below are left out.
pub fn lines(
    title: &str,
    subtitle: &str,
    x_unit: &str,
    y_unit: &str,
    lines: &[Line],
    marks: &[(f64, String)],
) -> String {
    let points = || lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let x = Scale::linear(points().map(|(x, _)| *x).chain(marks.iter().map(|(x, _)| *x)));
    let y = Scale::of_values(points().map(|(_, y)| *y));
    let (left, bottom) = (MARGIN + AXIS, TOP + HEIGHT);
    let at = |point: &(f64, f64)| (left + x.part(point.0) * WIDTH, bottom - y.part(point.1) * HEIGHT);

    let mut body = format!("<style>{STYLE}</style>\n");
    axes(&mut body, (&x, x_unit), (&y, y_unit), left, bottom);
    for (when, what) in marks {
        let (position, _) = at(&(*when, y.first));
        let _ = writeln!(body, "<path class=\"mark\" d=\"M{position:.1} {TOP}V{bottom:.1}\"/>");
        let (text, above) = (escape(what), TOP + 12.0);
        let _ = writeln!(body, "<text class=\"when\" x=\"{:.1}\" y=\"{above:.1}\">{text}</text>", position + 5.0);
    }

    let drawn = |line: &Line| -> Vec<(f64, f64)> {
        line.points.iter().filter(|(x, y_value)| x.is_finite() && y.has(*y_value)).map(at).collect()
    };
    let others = lines.iter().filter(|line| !line.ours).zip(DASHES.iter().cycle());
    let ours = lines.iter().filter(|line| line.ours).map(|line| (line, &"none"));
    let mut ends = Vec::new();
    for (line, dashes) in others.chain(ours) {
        let drawn = drawn(line);
        let Some(&(_, end)) = drawn.last() else { continue };
        let path: Vec<String> = drawn.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let class = if line.ours { "line accent" } else { "line" };
        let _ = writeln!(body, "<path class=\"{class}\" stroke-dasharray=\"{dashes}\" d=\"M{}\"/>", path.join("L"));
        ends.push((end, line));
    }
    for (height, line) in apart(ends, bottom) {
        let weight = if line.ours { " class=\"mine\"" } else { "" };
        let (x, y) = (left + WIDTH + GAP, height + 4.5);
        let _ = writeln!(body, "<text{weight} x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(&line.label));
    }
    let label_width = lines.iter().map(|line| text_width(&line.label)).fold(0.0, f64::max);
    card(title, subtitle, left + WIDTH + GAP + label_width + MARGIN, bottom + 26.0 + MARGIN, &body)
}

fn axes(body: &mut String, (x, x_unit): (&Scale, &str), (y, y_unit): (&Scale, &str), left: f64, bottom: f64) {
    let label = |tick: f64, unit: &str, is_last: bool| {
        if is_last { format!("{} {unit}", number(tick)).trim_end().to_owned() } else { number(tick) }
    };
    let ticks = y.ticks();
    for (n, tick) in ticks.iter().enumerate() {
        let height = bottom - y.part(*tick) * HEIGHT;
        let _ = writeln!(body, "<path class=\"grid\" d=\"M{left:.1} {height:.1}h{WIDTH}\"/>");
        let (end, text) = (left - GAP, label(*tick, y_unit, n + 1 == ticks.len()));
        let text = escape(&text);
        let _ = writeln!(
            body,
            "<text class=\"value\" x=\"{end:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            height + 4.5
        );
    }
    let ticks = x.ticks();
    for (n, tick) in ticks.iter().enumerate() {
        let (position, below) = (left + x.part(*tick) * WIDTH, bottom + 20.0);
        let text = escape(&label(*tick, x_unit, n + 1 == ticks.len()));
        let _ = writeln!(
            body,
            "<text class=\"value\" x=\"{position:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{text}</text>"
        );
    }
}

/// Moves labels up as far as they would be in each other's way, from the lowest on.
fn apart(mut ends: Vec<(f64, &Line)>, bottom: f64) -> Vec<(f64, &Line)> {
    ends.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let mut limit = bottom;
    for (height, _) in &mut ends {
        *height = height.min(limit);
        limit = *height - LABEL_STEP;
    }
    ends
}

/// From values to the part of an axis.
struct Scale {
    first: f64,
    last: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn linear(values: impl Iterator<Item = f64>) -> Self {
        let last = values.fold(0.0, f64::max);
        Self { first: 0.0, last: if last > 0.0 { last } else { 1.0 }, is_logarithmic: false }
    }

    fn of_values(values: impl Iterator<Item = f64> + Clone) -> Self {
        let first = values.clone().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let linear = Self::linear(values);
        if linear.last <= first * LOGARITHMIC_FROM {
            return Self { last: linear.last * 1.1, ..linear };
        }
        // To the numbers next to them that an axis has.
        let down = LEADING.into_iter().rev().map(|digit| digit * decade(first)).find(|tick| *tick <= first);
        let up = LEADING
            .into_iter()
            .chain([10.0])
            .map(|digit| digit * decade(linear.last))
            .find(|tick| *tick >= linear.last);
        Self { first: down.unwrap_or(first), last: up.unwrap_or(linear.last), is_logarithmic: true }
    }

    /// Whether there is a place for it.
    fn has(&self, value: f64) -> bool {
        value.is_finite() && value >= self.first
    }

    fn part(&self, value: f64) -> f64 {
        if self.is_logarithmic {
            (value / self.first).ln() / (self.last / self.first).ln()
        } else {
            (value - self.first) / (self.last - self.first)
        }
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        if self.is_logarithmic {
            let mut power = decade(self.first);
            while power <= self.last {
                ticks.extend(LEADING.map(|digit| digit * power));
                power *= 10.0;
            }
            // So that rounding loses neither end.
            ticks.retain(|tick| (self.first * 0.999..=self.last * 1.001).contains(tick));
        } else {
            let rough = (self.last - self.first) / TICKS;
            let step = LEADING.into_iter().chain([10.0]).map(|digit| digit * decade(rough)).find(|step| *step >= rough);
            let step = step.unwrap_or(rough);
            ticks.extend((0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= self.last));
        }
        ticks
    }
}

/// What the numbers at an axis begin with.
const LEADING: [f64; 3] = [1.0, 2.0, 5.0];

/// The power of ten that is not above it.
fn decade(value: f64) -> f64 {
    10_f64.powf(value.log10().floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: &str, points: &[(f64, f64)]) -> Line {
        Line { label: label.to_owned(), points: points.to_vec(), ours: label == "ours" }
    }

    fn paths(svg: &str, class: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).unwrap();
        let nodes = document.descendants().filter(|node| node.attribute("class") == Some(class));
        nodes.map(|node| node.attribute("d").unwrap().to_owned()).collect()
    }

    #[test]
    fn is_well_formed_and_says_what_it_was_given_whatever_the_characters() {
        let hostile = "a <b> & \"c\"";
        let text = lines(hostile, hostile, "<s>", "&", &[line(hostile, &[(0.0, 1.0)])], &[(0.0, hostile.to_owned())]);
        let document = roxmltree::Document::parse(&text).unwrap();
        assert!(document.descendants().filter(|node| node.is_text() && node.text() == Some(hostile)).count() >= 4);
    }

    #[test]
    fn lines_that_are_near_each_other_are_drawn_from_zero_and_in_proportion() {
        let text =
            lines("t", "s", "s", "ms", &[line("ours", &[(0.0, 1.1), (2.0, 2.2)]), line("b", &[(0.0, 4.4)])], &[]);
        let bottom = TOP + HEIGHT;
        let at = |part: f64| format!("{:.1}", bottom - HEIGHT * part / 1.1);
        assert_eq!(paths(&text, "line accent"), [format!("M72.0 {}L632.0 {}", at(0.25), at(0.5))]);
        assert_eq!(paths(&text, "line"), [format!("M72.0 {}", at(1.0))]);
    }

    #[test]
    fn lines_that_are_far_apart_are_drawn_by_their_logarithm() {
        let scale = Scale::of_values([0.3, 40.0].into_iter());
        assert!(scale.is_logarithmic);
        let ticks: Vec<String> = scale.ticks().into_iter().map(number).collect();
        assert_eq!(ticks, ["0.20", "0.50", "1", "2", "5", "10", "20", "50"]);
        assert!((scale.part(0.2)).abs() < 1e-9 && (scale.part(50.0) - 1.0).abs() < 1e-9);
        assert!(!scale.has(0.0) && !scale.has(f64::NAN));
    }

    #[test]
    fn labels_are_never_in_each_others_way() {
        let same = [(0.0, 1.0), (1.0, 1.0)];
        let all: Vec<Line> = (0..5).map(|_| line("l", &same)).collect();
        let ends = apart(all.iter().map(|line| (300.0, line)).collect(), 310.0);
        assert!(ends.windows(2).all(|pair| pair[0].0 - pair[1].0 >= LABEL_STEP));
    }

    #[test]
    fn nothing_to_draw_is_an_empty_card() {
        assert!(roxmltree::Document::parse(&lines("t", "s", "s", "ms", &[], &[])).is_ok());
        assert!(roxmltree::Document::parse(&lines("t", "s", "", "", &[line("a", &[])], &[])).is_ok());
        let nan = lines("t", "s", "", "", &[line("a", &[(0.0, f64::NAN)])], &[]);
        assert!(paths(&nan, "line").is_empty());
    }
}

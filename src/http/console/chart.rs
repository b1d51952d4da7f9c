//! Charts, drawn on the server as SVG of rectangles and lines: no script, no style, no text inside but title and
//! description. What a chart shows is also on the page as a table.

use crate::http::console::format::grouped;

/// Size of a chart's plane, in the units of its `viewBox`; the sheet stretches it.
const WIDTH: u64 = 720;
const HEIGHT: u64 = 80;

/// A chart over equal steps, from left to right.
pub(in crate::http::console) struct Chart {
    /// Its id on the page.
    pub(in crate::http::console) id: &'static str,
    /// What it shows, in one sentence.
    pub(in crate::http::console) title: String,
    /// What can be seen in it.
    pub(in crate::http::console) description: String,
    /// The value at its upper edge.
    pub(in crate::http::console) top: String,
    /// What is drawn.
    pub(in crate::http::console) shapes: Vec<Shape>,
    /// What the lower edge says, from left to right.
    pub(in crate::http::console) marks: Vec<Mark>,
    /// What the colours mean.
    pub(in crate::http::console) keys: Vec<(&'static str, String)>,
}

/// A text below a chart.
pub(in crate::http::console) enum Mark {
    /// An RFC 3339 time.
    Time(String),
    /// Any other text.
    Text(String),
}

/// A shape in the colour of a tone; an empty one is neutral.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http::console) enum Shape {
    /// A rectangle.
    Column { tone: &'static str, x: u64, y: u64, width: u64, height: u64 },
    /// A line through points, as SVG writes them.
    Line { tone: &'static str, points: String },
}

/// Draws a column for each step, its parts on top of each other from the lower edge. A part that is not zero can be seen.
pub(in crate::http::console) fn columns(steps: &[Vec<(&'static str, u64)>], max: u64) -> Vec<Shape> {
    let step = WIDTH / count(steps.len());
    let gap = step / 6;
    let mut shapes = Vec::new();
    for (index, parts) in (0..).zip(steps) {
        let (mut sum, mut y) = (0, HEIGHT);
        for &(tone, value) in parts.iter().filter(|(_, value)| *value > 0) {
            sum += value;
            let top = height_of(sum, max).min(y.saturating_sub(1));
            shapes.push(Shape::Column { tone, x: index * step + gap, y: top, width: step - 2 * gap, height: y - top });
            y = top;
        }
    }
    shapes
}

/// Draws a line through the values of consecutive steps; a step without a value interrupts it. A value without neighbours
/// is a small rectangle, since a line through one point cannot be seen.
pub(in crate::http::console) fn lines(values: &[Option<u64>], max: u64, tone: &'static str) -> Vec<Shape> {
    let step = WIDTH / count(values.len());
    let points: Vec<Option<(u64, u64)>> = (0..)
        .zip(values)
        .map(|(index, value)| value.map(|value| (index * step + step / 2, height_of(value, max))))
        .collect();
    let runs = points.split(Option::is_none).filter(|run| !run.is_empty());
    runs.map(|run| match run {
        [Some((x, y))] => {
            let (x, y) = (x.saturating_sub(2), y.saturating_sub(1).min(HEIGHT - 2));
            Shape::Column { tone, x, y, width: 4, height: 2 }
        }
        run => {
            let points: Vec<String> = run.iter().flatten().map(|(x, y)| format!("{x},{y}")).collect();
            Shape::Line { tone, points: points.join(" ") }
        }
    })
    .collect()
}

/// Returns the value of a chart's upper edge: the next of 1, 2, 5, 10, 20, …
pub(in crate::http::console) fn ceiling(value: u64) -> u64 {
    let mut ceiling: u64 = 1;
    for factor in [2, 5, 10].into_iter().cycle() {
        if ceiling >= value {
            break;
        }
        let power = 10_u64.saturating_pow(ceiling.ilog10());
        ceiling = power.saturating_mul(factor);
    }
    ceiling
}

/// Returns the `y` of a value.
fn height_of(value: u64, max: u64) -> u64 {
    HEIGHT - (value.min(max).saturating_mul(HEIGHT) / max.max(1)).min(HEIGHT)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(WIDTH).clamp(1, WIDTH)
}

/// The rows of an operation by outcome, as one bar; the script of the page moves its parts.
pub(in crate::http::console) struct Ratio {
    /// What it shows.
    pub(in crate::http::console) label: String,
    /// The parts, from left to right.
    pub(in crate::http::console) parts: Vec<RatioPart>,
}

/// A part of a bar, in percent of it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http::console) struct RatioPart {
    /// The field of the operation's progress.
    pub(in crate::http::console) name: &'static str,
    /// Its colour.
    pub(in crate::http::console) tone: &'static str,
    /// Where it begins.
    pub(in crate::http::console) x: String,
    /// How long it is.
    pub(in crate::http::console) width: String,
}

impl Ratio {
    /// Creates the bar of these counts: field, tone, number.
    pub(in crate::http::console) fn of(
        label: String,
        counts: &[(&'static str, &'static str, u64)],
        total: u64,
    ) -> Self {
        let mut sum = 0;
        let parts = counts.iter().map(|&(name, tone, number)| {
            let x = hundredths(sum, total);
            sum += number;
            let width = hundredths(sum, total).saturating_sub(x);
            RatioPart { name, tone, x: percent(x), width: percent(width) }
        });
        Self { label, parts: parts.collect() }
    }
}

/// Returns the share in hundredths of a percent.
fn hundredths(number: u64, total: u64) -> u64 {
    let share = u128::from(number) * 10_000 / u128::from(total.max(1));
    u64::try_from(share).unwrap_or(10_000).min(10_000)
}

fn percent(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Names a number of things: "1 call", "1,200 calls".
pub(in crate::http::console) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(&number.to_string()), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn column(tone: &'static str, x: u64, y: u64, width: u64, height: u64) -> Shape {
        Shape::Column { tone, x, y, width, height }
    }

    #[test]
    fn the_parts_of_a_column_are_on_top_of_each_other_and_end_at_their_sum() {
        let mut steps = vec![Vec::new(); 60];
        steps[1] = vec![("good", 15), ("bad", 5)];
        steps[2] = vec![("good", 0), ("bad", 20)];
        assert_eq!(
            columns(&steps, 20),
            [column("good", 14, 20, 8, 60), column("bad", 14, 0, 8, 20), column("bad", 26, 0, 8, 80)]
        );
    }

    #[test]
    fn one_failure_among_thousands_of_calls_can_be_seen() {
        let steps = [vec![("good", 50_000), ("bad", 1)]];
        let shapes = columns(&steps, 100_000);
        assert_eq!(shapes, [column("good", 120, 40, 480, 40), column("bad", 120, 39, 480, 1)]);
        assert_eq!(columns(&[vec![("bad", 1)]], 100_000), [column("bad", 120, 79, 480, 1)]);
    }

    #[test]
    fn a_line_ends_where_there_is_no_value() {
        let mut values = vec![None; 60];
        (values[0], values[1], values[3]) = (Some(100), Some(50), Some(0));
        let line = Shape::Line { tone: "busy", points: "6,0 18,40".to_owned() };
        assert_eq!(lines(&values, 100, "busy"), [line, column("busy", 40, 78, 4, 2)]);
        assert_eq!(lines(&[None; 60], 100, "busy"), []);
    }

    #[rstest]
    #[case(0, 1)]
    #[case(1, 1)]
    #[case(2, 2)]
    #[case(3, 5)]
    #[case(6, 10)]
    #[case(11, 20)]
    #[case(21, 50)]
    #[case(480, 500)]
    #[case(501, 1000)]
    #[case(u64::MAX, u64::MAX)]
    fn the_upper_edge_is_a_round_number(#[case] value: u64, #[case] edge: u64) {
        assert_eq!(ceiling(value), edge);
    }

    #[test]
    fn the_parts_of_a_bar_meet_and_fill_it() {
        let counts = [("applied", "good", 1), ("notApplied", "bad", 1), ("unknown", "warn", 1)];
        let bar = Ratio::of(String::new(), &counts, 3);
        let parts: Vec<(&str, &str)> = bar.parts.iter().map(|part| (part.x.as_str(), part.width.as_str())).collect();
        assert_eq!(parts, [("0.00", "33.33"), ("33.33", "33.33"), ("66.66", "33.34")]);
        let nothing = Ratio::of(String::new(), &[("applied", "good", 0)], 0);
        assert_eq!((nothing.parts[0].x.as_str(), nothing.parts[0].width.as_str()), ("0.00", "0.00"));
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "call", "calls"), "1 call");
        assert_eq!(counted(1200, "call", "calls"), "1,200 calls");
    }
}

//! The demo's output: one line per step above a progress bar, the table, the summary and commands to try.
//!
//! On a terminal everything fits its width; elsewhere nothing is shortened or wrapped, so that programs can parse it.

use std::net::SocketAddr;
use std::time::Duration;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, LineStyle, Table, TableStyle};
use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::demo::expectations::Expectations;
use crate::commands::demo::people::Vendor;
use crate::commands::output::OutputFormat;
use crate::commands::{Failure, Process, say};
use crate::secret::Secret;

/// Shown by a build without optimisation, since the README's first command makes one.
const DEVELOPMENT_BUILD: &str = "This is a development build, quick to compile. A release writes over ten times as fast: \
                                 cargo run --release -- demo";
/// Minimum width of a link in characters; a narrower one is unreadable.
const MIN_LINK_WIDTH: usize = 11;

pub(super) struct Screen {
    bar: ProgressBar,
    output: OutputFormat,
    colored: bool,
    width: Option<usize>,
}

/// A row of the table.
pub(super) struct Row {
    pub(super) person: &'static str,
    pub(super) vendor: &'static str,
    pub(super) candidate: Option<String>,
    pub(super) state: String,
    pub(super) outcome: String,
    pub(super) assignment: Option<String>,
    pub(super) score: Option<String>,
    pub(super) passed: Option<bool>,
    /// Whether the LMS has got the result, with a valid signature.
    pub(super) verified: Option<bool>,
    pub(super) link: Option<String>,
    pub(super) as_expected: bool,
}

/// What the closing section shows.
pub(super) struct Closing<'a> {
    pub(super) gateway: SocketAddr,
    pub(super) simulators: [(&'static str, SocketAddr); 3],
    pub(super) lms: SocketAddr,
    pub(super) key: &'a Secret,
    /// Whether gateway and simulators keep running.
    pub(super) stays: bool,
}

/// How much of an identifier the table shows.
#[derive(Clone, Copy)]
enum Ids {
    Whole,
    /// Prefix and the last eight digits; the first digits are a timestamp and nearly the same for all.
    Tail,
    /// The last eight digits.
    Digits,
}

impl Screen {
    pub(super) fn new(steps: usize, output: OutputFormat, process: &Process) -> Self {
        // The bar writes to stderr and hides itself unless that is a terminal.
        let bar = ProgressBar::new(u64::try_from(steps).unwrap_or_default());
        let style = ProgressStyle::with_template("  {bar:40.green/black.bright} {pos}/{len} {wide_msg:.dim}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸━"));
        let table = Table::new();
        let width = table.width().filter(|_| table.is_tty()).map(usize::from);
        Self { bar, output, colored: table.should_style() && process.variable("NO_COLOR").is_none(), width }
    }

    /// Prints lines above the bar, unless the output is a document.
    pub(super) fn say(&self, text: &str) -> Result<(), Failure> {
        self.bar.suspend(|| self.output.say(text))
    }

    /// Shows the current step beside the bar.
    pub(super) fn doing(&self, vendor: &str, what: &str) {
        self.bar.set_message(format!("{vendor}: {what}"));
    }

    /// Moves the bar to this position.
    pub(super) fn advance(&self, position: usize) {
        self.bar.set_position(u64::try_from(position).unwrap_or_default());
    }

    /// Prints the line of a finished step.
    pub(super) fn step(&self, as_expected: bool, vendor: &str, what: &str, result: &str) -> Result<(), Failure> {
        let mark = if as_expected { self.painted("✓", "32") } else { self.painted("✗", "31") };
        self.say(&format!("  {mark} {vendor:<11}  {what:<34}  {result}"))
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    pub(super) fn table(&self, rows: &[Row]) -> Result<(), Failure> {
        // Trims the padding at the ends of lines.
        say(format_args!("\n{}", table(rows, self.width, self.colored).trim_fmt()))
    }

    /// Prints how many outcomes were as expected, and which were not.
    pub(super) fn summary(&self, ledger: &Expectations, taken: Duration) -> Result<(), Failure> {
        say("")?;
        for difference in &ledger.differences {
            say(format_args!("  {} {difference}", self.painted("✗", "31")))?;
        }
        if ledger.checked < ledger.planned {
            let missing = ledger.planned - ledger.checked;
            say(format_args!("  {} {missing} expected outcomes were never checked", self.painted("✗", "31")))?;
        }
        let line = format!("{} of {} outcomes as expected", ledger.met, ledger.planned);
        let line = self.painted(&line, if ledger.is_clean() { "1;32" } else { "1;31" });
        say(format_args!("{line}, in {:.1} seconds", taken.as_secs_f64()))?;
        if cfg!(debug_assertions) { say(DEVELOPMENT_BUILD) } else { Ok(()) }
    }

    /// Prints the title line.
    pub(super) fn opening(&self, gateway: SocketAddr) -> Result<(), Failure> {
        let title = self.painted("examgate demo", "1");
        self.say(&format!("{title}: 24 people, three simulated vendors and an LMS, http://{gateway}\n"))
    }

    /// Prints the addresses and commands to try.
    pub(super) fn closing(&self, closing: &Closing<'_>) -> Result<(), Failure> {
        let Closing { gateway, simulators, lms, key, stays } = closing;
        let api = format!("http://{gateway}");
        let key = key.expose();
        let heading = |text: &str| format!("\n{}", self.painted(text, "1"));
        say(heading("Addresses"))?;
        say(format_args!("  Console       {api}/console/ (in a browser; sign in with the key below)"))?;
        say(format_args!("  API           {api}"))?;
        say(format_args!("  API key       {key}"))?;
        say(format_args!("  Reference     {api}/docs"))?;
        say(format_args!("  OpenAPI       {api}/openapi.json"))?;
        for (vendor, address) in simulators {
            say(format_args!("  {vendor:<12}  http://{address}/_effects (what happened), /_faults"))?;
        }
        say(format_args!("  {:<12}  http://{lms}/_ledger (what it received by webhook), /_faults", "LMS"))?;
        say(heading("Try it"))?;
        for (purpose, command) in commands(&api, key) {
            say(format_args!("  {}\n  {command}", self.painted(&format!("# {purpose}"), "2")))?;
        }
        let end =
            if *stays { "Serving until Ctrl-C." } else { "Stopped (--exit). Without it, everything keeps running." };
        say(format_args!("\n{end}"))
    }

    fn painted(&self, text: &str, code: &str) -> String {
        if self.colored { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Returns requests to try: the purpose and a shell command of each. Each works on its own and repeatedly.
fn commands(api: &str, key: &str) -> [(&'static str, String); 4] {
    let auth = format!("-H 'Authorization: Bearer {key}'");
    let post = format!("{auth} -H 'Content-Type: application/json'");
    // Written out, so that the fields keep a natural order.
    let person = format!(
        r#"{{"connection":"{}","externalId":"emp-1009","name":{{"givenName":"Ines","familyName":"Costa"}},"email":"ines.costa@example.com"}}"#,
        Vendor::StartExam.connection(),
    );
    let order = r#"{"candidate":{"externalId":"emp-1001"},"assessment":"safety-at-work"}"#;
    [
        ("Register a person", format!("curl {api}/candidates {post} -d '{person}'")),
        ("Assign a test", format!("curl {api}/assignments {post} -d '{order}'")),
        ("List assignments", format!("curl '{api}/assignments?assessment=rust-101&limit=3' {auth}")),
        ("List results", format!("curl '{api}/results?assessment=rust-101&limit=3' {auth}")),
    ]
}

/// A header line and no grid: 24 rows are easier to read, and easier to cut by a program.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));
const TITLES: [&str; 8] = ["person", "vendor", "candidate", "outcome", "assignment", "score", "LMS", "launch link"];
/// The column of the link, the last one.
const LINK: usize = TITLES.len() - 1;

fn table(rows: &[Row], width: Option<usize>, colored: bool) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    if !colored {
        table.force_no_tty();
    }
    let (ids, link_width) = fitting(rows, width);
    table.set_header(TITLES.map(|title| {
        let cell = Cell::new(title);
        if colored { cell.add_attribute(Attribute::Bold) } else { cell }
    }));
    for row in rows {
        let mut cells = cells(row, ids).map(Cell::new);
        let link = shortened(row.link.as_deref().unwrap_or("–"), link_width);
        cells[LINK] = Cell::new(link);
        if colored {
            let [_, _, _, outcome, _, score, verified, _] = &mut cells;
            let color = |good: bool| if good { Color::Green } else { Color::Red };
            *outcome = Cell::new(&row.outcome).fg(color(row.as_expected));
            if let (Some(points), Some(passed)) = (&row.score, row.passed) {
                *score = Cell::new(points).fg(color(passed));
            }
            if let Some(is_verified) = row.verified {
                *verified = Cell::new(mark(row.verified)).fg(color(is_verified));
            }
        }
        table.add_row(cells);
    }
    if let Some(column) = table.column_mut(LINK) {
        column.set_padding((1, 0));
    }
    table
}

/// Chooses the form of identifiers and the width of links that fit this terminal width.
fn fitting(rows: &[Row], width: Option<usize>) -> (Ids, usize) {
    let Some(width) = width else { return (Ids::Whole, usize::MAX) };
    let longest = rows.iter().filter_map(|row| row.link.as_deref()).map(|link| link.chars().count()).max();
    let longest = longest.unwrap_or_default().max(MIN_LINK_WIDTH);
    // Shorten identifiers first to keep the link whole: only a whole link can be clicked.
    let left = |ids| width.saturating_sub(width_before_link(rows, ids));
    [Ids::Whole, Ids::Tail]
        .into_iter()
        .find(|ids| left(*ids) >= longest)
        .or_else(|| (left(Ids::Tail) >= 30).then_some(Ids::Tail))
        .map_or_else(|| (Ids::Digits, left(Ids::Digits).max(MIN_LINK_WIDTH)), |ids| (ids, left(ids)))
}

fn width_before_link(rows: &[Row], ids: Ids) -> usize {
    let columns = (0..LINK).map(|column| {
        let widths = rows.iter().map(|row| cells(row, ids)[column].chars().count());
        // One space on either side.
        widths.chain([TITLES[column].len()]).max().unwrap_or_default() + 2
    });
    columns.sum::<usize>() + 1
}

fn cells(row: &Row, ids: Ids) -> [String; 8] {
    let id = |id: &Option<String>| id.as_deref().map_or_else(|| "–".to_owned(), |id| identifier(id, ids));
    [
        row.person.to_owned(),
        row.vendor.to_owned(),
        id(&row.candidate),
        row.outcome.clone(),
        id(&row.assignment),
        row.score.clone().unwrap_or_else(|| "–".to_owned()),
        mark(row.verified).to_owned(),
        String::new(),
    ]
}

/// Returns the mark of a delivery: verified, missing, or none to be made.
const fn mark(verified: Option<bool>) -> &'static str {
    match verified {
        Some(true) => "✓",
        Some(false) => "✗",
        None => "–",
    }
}

fn identifier(id: &str, ids: Ids) -> String {
    let tail: String = id.chars().skip(id.chars().count().saturating_sub(8)).collect();
    match ids {
        Ids::Whole => id.to_owned(),
        Ids::Tail => format!("{}_…{tail}", id.split('_').next().unwrap_or_default()),
        Ids::Digits => format!("…{tail}"),
    }
}

/// Shortens text to at most this many characters, dropping a link's scheme first, then the middle.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let text = text.strip_prefix("https://").unwrap_or(text);
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(1);
    // The end distinguishes links; the beginning only names the vendor.
    let end = (kept / 2).max(kept.min(8));
    let head: String = text.chars().take(kept - end).collect();
    let tail: String = text.chars().skip(count - end).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            person: "Lakshmi",
            vendor: "ExamTesting",
            candidate: Some("cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f".to_owned()),
            state: "registered".to_owned(),
            outcome: "applied".to_owned(),
            assignment: Some("asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f".to_owned()),
            score: Some("88/100".to_owned()),
            passed: Some(true),
            verified: Some(true),
            link: Some("https://go.startexam.com/mycenter#participant/5b1f0a52-6d5e-4f0c-9a57-1f2d3c4b5a69".to_owned()),
            as_expected: true,
        }
    }

    #[test]
    fn without_a_terminal_every_row_is_one_unshortened_line() {
        let text = table(&[row()], None, false).to_string();
        let line = text.lines().find(|line| line.contains("Lakshmi")).unwrap();
        for part in [row().candidate, row().assignment, row().link].into_iter().flatten() {
            assert!(line.contains(&part), "{line}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains('…'), "{text}");
    }

    #[test]
    fn the_table_fits_the_terminal() {
        for width in [80, 100, 120, 140, 200, 250] {
            let text = table(&[row()], Some(width), false).to_string();
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
            assert!(text.contains("5a69"), "the end of the link distinguishes it: {text}");
        }
    }

    #[test]
    fn a_wider_terminal_shows_more() {
        assert!(table(&[row()], Some(250), false).to_string().contains("cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f"));
        assert!(
            table(&[row()], Some(160), false)
                .to_string()
                .contains("https://go.startexam.com/mycenter#participant/5b1f0a52")
        );
        assert!(table(&[row()], Some(100), false).to_string().contains("…3c4d5e6f"));
    }

    #[test]
    fn only_long_texts_are_shortened() {
        assert_eq!(shortened("https://a.example/b", 19), "https://a.example/b");
        assert_eq!(shortened("https://a.example/b", 11), "a.example/b");
        assert_eq!(shortened("https://abcdefghij.example/1234567890", 11), "ab…34567890");
        assert_eq!(shortened("–", 0), "…");
    }
}

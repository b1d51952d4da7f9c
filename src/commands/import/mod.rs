//! `import`: sends a spreadsheet to a running gateway and writes the result of each row to a sheet beside it.
//!
//! It is an ordinary client of the public API and decides nothing about a row. The gateway does the work, so this
//! process may end at any moment: the `Idempotency-Key` derived from the content leads the next run to the same
//! operation. It logs nothing and never prints a cell of the spreadsheet.

use std::cell::{Cell, OnceCell};
use std::io::{self, Write as _};
use std::pin::pin;
use std::time::Duration;

use self::client::Client;
pub(super) use self::options::Options;
use self::options::{Job, OutputFormat};
pub(super) use self::usage::print_usage_error;
use super::signals::StopListener;
use super::{Failure, Process, runtime, say};
use crate::commands::import::api_types::Operation;
use crate::commands::import::progress::{Screen, rows, write_line};
use crate::commands::import::report::{Report, Subject};
use crate::commands::import::result::{Finish, ResultSheet};

mod api_types;
pub(super) mod client;
mod command_line;
mod content;
mod dry_run;
mod layout_list;
mod options;
mod preflight;
pub(super) mod progress;
mod read_options;
mod report;
mod result;
mod table;
mod temporary;
mod usage;

/// Initial pause between two polls of the operation.
const MIN_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// How far an import has come.
#[derive(Default)]
struct Stage {
    /// Whether the table may have reached the gateway.
    is_sending: Cell<bool>,
    /// The operation, as soon as the gateway has named it.
    operation: OnceCell<String>,
}

impl Stage {
    fn operation(&self) -> Option<&str> {
        self.operation.get().map(String::as_str)
    }
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    if options.read.lists_layouts() {
        return layout_list::list_layouts();
    }
    if options.read.is_dry_run() {
        return options.preview(process).or_else(|failure| match failure {
            Failure::Usage(_) => fail(options, None, failure),
            // The preview's own document has the rows that would be refused.
            failure => Err(failure),
        });
    }
    let job = match Job::of(options, process) {
        Ok(job) => job,
        Err(failure) => return fail(options, None, failure),
    };
    runtime()?.block_on(async {
        let mut stop = pin!(StopListener::listen()?.asked());
        let screen = Screen::new(job.table.rows(), job.quiet, process);
        let stage = Stage::default();
        let done = tokio::select! {
            biased;
            _ = &mut stop => Err(stopped(&stage)),
            done = import(&job, &screen, &stage, process) => done,
        };
        screen.clear();
        match done {
            Ok((report, finish)) => conclude(&job, &stage, &report, &finish, process),
            Err(failure) => fail(options, stage.operation(), with_resume_hint(failure, stage.operation(), process)),
        }
    })
}

/// Submits the table, polls the operation and downloads the results.
async fn import(job: &Job, screen: &Screen, stage: &Stage, process: &Process) -> Result<(Report, Finish), Failure> {
    show_start(job, screen);
    let client = Client::new(&job.gateway, "import", process.now, screen)?;
    preflight::check_rights(&client, job, screen).await?;
    stage.is_sending.set(true);
    let submitted = client.submit(job).await?;
    let is_replay = submitted.is_replay;
    let id = stage.operation.get_or_init(|| submitted.id);
    let earlier = if is_replay { client.operation(id).await?.finished_at } else { None };
    match earlier {
        Some(time) => screen.warn(&format!(
            "this table was imported before, as {id}, finished {time}: the same content is sent only once, so nothing is sent \
             now, and the result is that of then"
        )),
        None => screen.note(&format!("submitted as {id}")),
    }
    let mut operation = poll(&client, id, screen).await?;
    if job.retry && operation.progress.applied < operation.progress.total {
        screen.note("retrying rows that were not applied");
        client.retry(id).await?;
        operation = poll(&client, id, screen).await?;
    }
    download_results(&client, id, operation.progress.total, job, process).await
}

/// Says what is about to be sent, and what the user may not expect about it.
fn show_start(job: &Job, screen: &Screen) {
    let Job { table, connection, gateway, .. } = job;
    screen.note(&format!("{}: {} to {connection} at {}", table.name(), rows(table.rows()), gateway.address));
    for note in table.notes() {
        screen.note(note);
    }
    if table.is_result() && !job.only_failed {
        screen.note(
            "this is the result of an import: all its rows are sent again (applied ones are reused); --only-failed sends \
             the others only",
        );
    }
    for secret in ["password", "photo"].into_iter().filter(|column| table.has_column(column)) {
        screen.note(&format!("the column {secret} is sent, but not repeated in the result"));
    }
    if gateway.is_readable_by_others() {
        screen.warn(
            "warning: this address is plain http: others on the network can read the key and the people in the file",
        );
    }
}

/// Polls the operation until it finishes.
async fn poll(client: &Client<'_>, id: &str, screen: &Screen) -> Result<Operation, Failure> {
    let mut pause = MIN_BACKOFF;
    loop {
        let operation = client.operation(id).await?;
        screen.advance(&operation);
        if operation.is_terminal() {
            return Ok(operation);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(MAX_BACKOFF);
    }
}

/// Downloads the result of every row into the sheet. Fails if one is missing: an incomplete result would replace a
/// complete one, and a result beside another person's row would be worse than none.
async fn download_results(
    client: &Client<'_>,
    id: &str,
    total: usize,
    job: &Job,
    process: &Process,
) -> Result<(Report, Finish), Failure> {
    let Job { result, kind, table, .. } = job;
    let fault = |error: io::Error| Failure::other(&result_name(job), error);
    let no_result = |what: String| Failure::Other(format!("{what}; no result was written"));
    if total != table.rows() {
        return Err(no_result(format!("the gateway counts {} in {}, not {}", rows(total), table.name(), table.rows())));
    }
    let mut sheet = ResultSheet::create(result, *kind, table.columns(), &process.environment).map_err(fault)?;
    let unreadable = |error: io::Error| Failure::other(table.name(), error);
    let mut originals = table.original_rows();
    let (mut report, mut cursor) = (Report::new(job.output == OutputFormat::Json), None);
    loop {
        let page = client.items(id, cursor.as_deref()).await?;
        // Treat an empty page as the last one, even with a cursor: a faulty gateway must not cause an endless loop.
        let ended = page.items.is_empty();
        for item in page.items {
            if item.index != report.counts.total {
                return Err(no_result("the gateway returned the rows out of order or with gaps".to_owned()));
            }
            let Some(original) = originals.next() else { break };
            let original = original.map_err(unreadable)?;
            report.add(original.line, &item);
            sheet.add(original.line, &original.cells, &item).map_err(fault)?;
        }
        cursor = page.next_cursor.filter(|_| !ended);
        if cursor.is_none() {
            break;
        }
    }
    match report.counts.total {
        received if received == total => Ok((report, sheet.finish().map_err(fault)?)),
        received => Err(no_result(format!("the gateway returned {received} of {}", rows(total)))),
    }
}

/// Adds to the failure how to resume the import.
fn with_resume_hint(failure: Failure, operation: Option<&str>, process: &Process) -> Failure {
    match (failure, operation) {
        (Failure::Other(what), Some(id)) => Failure::Other(format!(
            "{what}\nthe gateway has the import as {id}; run the same command again to resume watching it:\n  {}",
            command_line::repeat(&process.arguments, None)
        )),
        (failure, _) => failure,
    }
}

fn stopped(stage: &Stage) -> Failure {
    match (stage.operation(), stage.is_sending.get()) {
        (Some(_), _) => Failure::Other("stopped watching; the import continues on the gateway".to_owned()),
        (None, true) => {
            Failure::Other("stopped before the gateway responded; running the same command again is safe".to_owned())
        }
        (None, false) => Failure::Usage(vec!["stopped before anything was sent".to_owned()]),
    }
}

/// Prints the summary, and the result if it goes to standard output. Fails unless every row is applied.
fn conclude(job: &Job, stage: &Stage, report: &Report, finish: &Finish, process: &Process) -> Result<(), Failure> {
    let kept = finish.kept.as_ref().map(|kept| kept.display().to_string());
    let result = job.result.path().map(|path| path.display().to_string());
    let subject = Subject {
        file: job.table.name(),
        connection: &job.connection,
        kind: job.kind,
        operation: stage.operation().unwrap_or_default(),
        result: result.as_deref(),
        kept: kept.as_deref(),
        retry_command: &command_line::repeat(&process.arguments, Some("--retry")),
    };
    match (&finish.content, job.output) {
        (Some(content), _) => {
            let written = io::stdout().lock().write_all(content);
            written.map_err(Failure::stdout)?;
            write_line(report.text(&subject).trim_end());
        }
        (None, OutputFormat::Text) => say(report.text(&subject).trim_end())?,
        (None, OutputFormat::Json) => say(format_args!("{:#}", report.json(&subject)))?,
    }
    if report.is_success() {
        return Ok(());
    }
    Err(Failure::Other(format!("{} of {} applied", report.counts.applied, rows(report.counts.total))))
}

/// Fails, after printing the JSON document of an import that ended without results; for people, the failure's own text is
/// enough.
fn fail(options: &Options, operation: Option<&str>, failure: Failure) -> Result<(), Failure> {
    let error = match &failure {
        Failure::Usage(faults) => faults.join("\n"),
        Failure::Other(fault) => fault.clone(),
        Failure::BrokenPipe => return Err(failure),
    };
    if options.output == OutputFormat::Json {
        let (read, connection) = (&options.read, options.connection.as_deref());
        let document = usage::error_document(Some(&read.name()), operation, connection, Some(read.kind()), &error);
        say(format_args!("{document:#}"))?;
    }
    Err(failure)
}

fn result_name(job: &Job) -> String {
    job.result.path().map_or_else(|| "standard output".to_owned(), |path| path.display().to_string())
}

//! `import`: a spreadsheet to a running gateway, and what became of each row back into a file beside it.
//!
//! A client of the public API and nothing more: it knows of the gateway what any client knows, and decides nothing about a
//! row. The work is the gateway's, so that this process may end at any moment; the key made of the file's content leads the
//! next one to the same operation. Nothing is logged, and nothing the file holds is ever shown.

use std::cell::OnceCell;
use std::io;
use std::pin::pin;
use std::time::Duration;

use self::client::Client;
use self::options::Job;
pub(super) use self::options::Options;
use super::signals::StopListener;
use super::{Failure, Process, runtime, say};
use crate::commands::import::api_types::{Operation, Progress};
use crate::commands::import::progress::{Screen, rows};
use crate::commands::import::result_file::{ResultFile, WrittenRow};

mod api_types;
mod client;
mod input_file;
mod options;
mod progress;
mod result_file;

/// Between two looks at the operation.
const MIN_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(3);

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    let job = Job::of(options, process)?;
    runtime()?.block_on(async {
        let mut stop = pin!(StopListener::listen()?.asked());
        let screen = Screen::new(job.sheet.rows, process);
        let operation = OnceCell::new();
        let done = tokio::select! {
            biased;
            _ = &mut stop => Err(stopped(operation.get())),
            done = import(&job, &screen, &operation, process) => done,
        };
        screen.clear();
        let operation = operation.get().map(String::as_str);
        let written = done.map_err(|failure| with_resume_hint(failure, operation))?;
        print_summary(&job, operation.unwrap_or_default(), &written)
    })
}

/// The whole way. The operation's id is put down as soon as it is known.
async fn import(job: &Job, screen: &Screen, id: &OnceCell<String>, process: &Process) -> Result<WrittenRow, Failure> {
    let Job { sheet, connection, address, .. } = job;
    screen.note(&format!("{}: {} to {connection} at {address}", sheet.path.display(), rows(sheet.rows)));
    if address.scheme() == "http" && !client::is_loopback(address) {
        screen.note("warning: this address is plain http: the key and the people in the file can be read on the way");
    }
    let client = Client::new(job, process.now, screen)?;
    let submitted = client.submit(job).await?;
    let id = id.get_or_init(|| submitted);
    screen.note(&format!("the gateway has it as {id}"));
    let mut operation = poll(&client, id, screen).await?;
    if job.retry && operation.progress.applied < operation.progress.total {
        screen.note("trying the rows again that are not applied");
        client.retry(id).await?;
        operation = poll(&client, id, screen).await?;
    }
    download_results(&client, id, operation.progress.total, job, process).await
}

/// Looks at the operation until it is over.
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

/// Reads every result into the file. An answer with gaps is none: it would take the place of a whole one.
async fn download_results(
    client: &Client<'_>,
    id: &str,
    total: usize,
    job: &Job,
    process: &Process,
) -> Result<WrittenRow, Failure> {
    let fault = |error: io::Error| Failure::other(&job.output.display().to_string(), error);
    let Job { output, kind, sheet, .. } = job;
    let mut file = ResultFile::create(output, *kind, sheet.marked, &process.environment).map_err(fault)?;
    let mut cursor = None;
    loop {
        let page = client.items(id, cursor.as_deref()).await?;
        // A page without a row is the last one whatever it says; otherwise a mistaken gateway would be asked for ever.
        let ended = page.items.is_empty();
        for item in page.items {
            file.add(item).map_err(fault)?;
        }
        cursor = page.next_cursor.filter(|_| !ended);
        if cursor.is_none() {
            break;
        }
    }
    match file.counts().total {
        told if told == total => file.finish().map_err(fault),
        told => Err(Failure::Other(format!("the gateway answered {told} of {}; no result is written", rows(total)))),
    }
}

/// The failure, and where the import is all the same.
fn with_resume_hint(failure: Failure, operation: Option<&str>) -> Failure {
    match (failure, operation) {
        (Failure::Other(what), Some(id)) => Failure::Other(format!(
            "{what}\nthe gateway has the import as {id}; run the same command again to pick it up"
        )),
        (failure, _) => failure,
    }
}

fn stopped(operation: Option<&String>) -> Failure {
    Failure::Other(match operation {
        Some(_) => "stopped looking on; the work goes on at the gateway".to_owned(),
        None => "stopped before the gateway answered; running the same command again is safe".to_owned(),
    })
}

/// The summary; a failure unless every row is applied.
fn print_summary(job: &Job, operation: &str, written: &WrittenRow) -> Result<(), Failure> {
    let WrittenRow { counts, kept } = written;
    let Progress { total, applied, not_applied, unknown, skipped, pending: _ } = *counts;
    say(format_args!("{}: {}, {operation}", job.sheet.path.display(), rows(total)))?;
    for (name, count) in
        [("applied", applied), ("not applied", not_applied), ("unknown", unknown), ("skipped", skipped)]
    {
        say(format_args!("  {name:<12}{count:>7}"))?;
    }
    say(format_args!("result: {}", job.output.display()))?;
    if let Some(kept) = kept {
        say(format_args!("former result, with initial passwords that are not in the new one: {}", kept.display()))?;
    }
    if applied == total {
        return Ok(());
    }
    if unknown > 0 {
        say("The gateway goes on finding out about unknown rows; the same command later tells what it found.")?;
    }
    if not_applied + skipped > 0 {
        say(
            "Correct the rows that failed and import the file again, or have them tried again as they are with --retry.",
        )?;
    }
    Err(Failure::Other(format!("{applied} of {} applied", rows(total))))
}

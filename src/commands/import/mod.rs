//! `import`: sends a spreadsheet to a running gateway and writes the result of each row to a file beside it.
//!
//! It is an ordinary client of the public API and decides nothing about a row. The gateway does the work, so this
//! process may end at any moment: the `Idempotency-Key` derived from the file's content leads the next run to the same
//! operation. It logs nothing and never prints the file's content.

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
mod content;
mod convert;
mod dry_run;
mod guard;
mod kind;
mod layout;
mod mapping;
mod notes;
mod options;
mod progress;
mod read_options;
mod result_file;
mod source;
mod table;
mod temporary;
mod times;

/// Initial pause between two polls of the operation.
const MIN_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(3);

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    if options.read.lists_layouts() {
        return layout::list();
    }
    if options.read.is_dry_run() {
        return dry_run::run(&options.table_request(), options.connection.as_deref(), process);
    }
    let job = Job::of(options, process)?;
    runtime()?.block_on(async {
        let mut stop = pin!(StopListener::listen()?.asked());
        let screen = Screen::new(job.table.rows(), process);
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

/// Submits the file, polls the operation and downloads the results. Sets `id` as soon as the gateway has named it.
async fn import(job: &Job, screen: &Screen, id: &OnceCell<String>, process: &Process) -> Result<WrittenRow, Failure> {
    let Job { table, connection, address, .. } = job;
    for note in table.notes() {
        screen.note(&format!("{}: {note}", table.name()));
    }
    screen.note(&format!("{}: {} to {connection} at {address}", table.name(), rows(table.rows())));
    if address.scheme() == "http" && !client::is_loopback(address) {
        screen.note(
            "warning: this address is plain http: others on the network can read the key and the people in the file",
        );
    }
    let client = Client::new(job, process.now, screen)?;
    let submitted = client.submit(job).await?;
    let id = id.get_or_init(|| submitted);
    screen.note(&format!("submitted as {id}"));
    let mut operation = poll(&client, id, screen).await?;
    if job.retry && operation.progress.applied < operation.progress.total {
        screen.note("retrying rows that were not applied");
        client.retry(id).await?;
        operation = poll(&client, id, screen).await?;
    }
    download_results(&client, id, operation.progress.total, job, process).await
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

/// Downloads every result into the file. Fails if rows are missing: an incomplete result would replace a complete one.
async fn download_results(
    client: &Client<'_>,
    id: &str,
    total: usize,
    job: &Job,
    process: &Process,
) -> Result<WrittenRow, Failure> {
    let fault = |error: io::Error| Failure::other(&job.output.display().to_string(), error);
    let Job { output, kind, table, .. } = job;
    let mut file = ResultFile::create(output, *kind, table.is_marked(), &process.environment).map_err(fault)?;
    let mut cursor = None;
    loop {
        let page = client.items(id, cursor.as_deref()).await?;
        // Treat an empty page as the last one, even with a cursor: a faulty gateway must not cause an endless loop.
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
        told => Err(Failure::Other(format!("the gateway returned {told} of {}; no result was written", rows(total)))),
    }
}

/// Adds to the failure how to resume the import.
fn with_resume_hint(failure: Failure, operation: Option<&str>) -> Failure {
    match (failure, operation) {
        (Failure::Other(what), Some(id)) => Failure::Other(format!(
            "{what}\nthe gateway has the import as {id}; run the same command again to resume watching it"
        )),
        (failure, _) => failure,
    }
}

fn stopped(operation: Option<&String>) -> Failure {
    Failure::Other(match operation {
        Some(_) => "stopped watching; the import continues on the gateway".to_owned(),
        None => "stopped before the gateway responded; running the same command again is safe".to_owned(),
    })
}

/// Prints the summary. Fails unless every row is applied.
fn print_summary(job: &Job, operation: &str, written: &WrittenRow) -> Result<(), Failure> {
    let WrittenRow { counts, kept } = written;
    let Progress { total, applied, not_applied, unknown, skipped, pending: _ } = *counts;
    say(format_args!("{}: {}, {operation}", job.table.name(), rows(total)))?;
    for (name, count) in
        [("applied", applied), ("not applied", not_applied), ("unknown", unknown), ("skipped", skipped)]
    {
        say(format_args!("  {name:<12}{count:>7}"))?;
    }
    say(format_args!("result: {}", job.output.display()))?;
    if let Some(kept) = kept {
        say(format_args!("previous result kept (it holds initial passwords the new one lacks): {}", kept.display()))?;
    }
    if applied == total {
        return Ok(());
    }
    if unknown > 0 {
        say("The gateway keeps reconciling unknown rows; run the same command later to see the outcome.")?;
    }
    if not_applied + skipped > 0 {
        say("Correct the failed rows and import the file again, or retry them unchanged with --retry.")?;
    }
    Err(Failure::Other(format!("{applied} of {} applied", rows(total))))
}

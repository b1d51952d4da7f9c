//! Signals. The first SIGTERM or SIGINT requests a graceful stop, the second ends the process at once. SIGHUP requests
//! a reload of the configuration.

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use super::telemetry::flush_log;

/// How long the process waits for its last log line to be written.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(500);

/// The signal that requested the stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopSignal {
    /// SIGTERM from a service manager; a load balancer may need time to notice.
    Terminate,
    /// SIGINT from a user who waits at a terminal.
    Interrupt,
}

/// Listener for both stop signals, active from its creation.
pub(super) struct StopListener {
    terminate: Signal,
    interrupt: Signal,
}

impl StopListener {
    /// Registers the handlers; from now on the second signal ends the process with exit code 1. Must be called within a
    /// runtime.
    pub(super) fn listen() -> Result<Self, Failure> {
        exit_at_second_signal()?;
        Self::register()
    }

    fn register() -> Result<Self, Failure> {
        Ok(Self { terminate: caught(SignalKind::terminate())?, interrupt: caught(SignalKind::interrupt())? })
    }

    /// Waits for the first stop signal and returns it.
    pub(super) async fn asked(mut self) -> StopSignal {
        self.next().await
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }
}

/// Starts the thread that ends the process at the second signal. It has a runtime of its own: while the log's reader
/// takes nothing, all threads of the other may wait for it.
fn exit_at_second_signal() -> Result<(), Failure> {
    let (ready, started) = channel();
    let listen = move || match wait_for_second_signal(&ready) {
        Ok(()) => exit_at_once(),
        Err(failure) => drop(ready.send(Err(failure))),
    };
    let spawned = thread::Builder::new().name("signals".to_owned()).spawn(listen);
    spawned.map_err(|error| no_handlers(&error))?;
    started.recv().unwrap_or_else(|error| Err(no_handlers(&error)))
}

fn wait_for_second_signal(ready: &Sender<Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| no_handlers(&error))?.block_on(async {
        let mut signals = StopListener::register()?;
        drop(ready.send(Ok(())));
        signals.next().await;
        signals.next().await;
        Ok(())
    })
}

fn exit_at_once() {
    let (written, wait) = channel();
    let log = move || {
        tracing::warn!("second signal: exiting at once");
        flush_log();
        let (Ok(()) | Err(_)) = written.send(());
    };
    // In another thread: the log's reader may take nothing.
    drop(thread::Builder::new().spawn(log));
    let (Ok(()) | Err(_)) = wait.recv_timeout(LAST_LINE_TIMEOUT);
    std::process::exit(1);
}

/// Listener for SIGHUP, active from its creation; before that, SIGHUP ends the process, as is its default. A signal
/// that arrives between two calls of `next` is remembered, several as one.
pub(super) struct ReloadListener(Signal);

impl ReloadListener {
    /// Registers the handler. Must be called within a runtime.
    pub(super) fn listen() -> Result<Self, Failure> {
        caught(SignalKind::hangup()).map(Self)
    }

    pub(super) async fn next(&mut self) {
        self.0.recv().await;
    }
}

fn caught(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| no_handlers(&error))
}

fn no_handlers(error: &dyn std::error::Error) -> Failure {
    Failure::other("cannot install signal handlers", error)
}

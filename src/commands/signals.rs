//! Signals. The first SIGTERM or SIGINT requests a graceful stop, the second ends the process at once. SIGHUP requests
//! a reload of the configuration.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use super::telemetry::flush_log;

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
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self { terminate: caught(SignalKind::terminate())?, interrupt: caught(SignalKind::interrupt())? })
    }

    /// Waits for the first stop signal and returns it; the next one ends the process with exit code 1.
    pub(super) async fn asked(mut self) -> StopSignal {
        let asked = self.next().await;
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("second signal: exiting at once");
            flush_log();
            std::process::exit(1);
        });
        asked
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }
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
    signal(kind).map_err(|error| Failure::other("cannot install signal handlers", error))
}

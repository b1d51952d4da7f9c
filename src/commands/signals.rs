//! SIGTERM and SIGINT: the first asks to stop, the second ends the process at once. SIGHUP: the configuration is to be read
//! again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// Who wants the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopSignal {
    /// A service manager (SIGTERM), perhaps with a load balancer that has to notice first.
    Terminate,
    /// A person at a terminal (SIGINT), who waits.
    Interrupt,
}

/// Both signals, caught from the moment this exists.
pub(super) struct StopListener {
    terminate: Signal,
    interrupt: Signal,
}

impl StopListener {
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self { terminate: caught(SignalKind::terminate())?, interrupt: caught(SignalKind::interrupt())? })
    }

    /// Waits until a stop is asked for, and by whom; the next signal ends the process with exit code 1.
    pub(super) async fn asked(mut self) -> StopSignal {
        let asked = self.next().await;
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("second signal: ending at once");
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

/// SIGHUP, caught from the moment this exists; until then, and by default, it ends a process. One that came unheard is
/// remembered, several as one.
pub(super) struct ReloadListener(Signal);

impl ReloadListener {
    /// Needs a runtime around it.
    pub(super) fn listen() -> Result<Self, Failure> {
        caught(SignalKind::hangup()).map(Self)
    }

    pub(super) async fn next(&mut self) {
        self.0.recv().await;
    }
}

fn caught(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::other("signals cannot be caught", error))
}

//! SIGTERM and SIGINT: the first asks to stop, the second ends the process at once. SIGHUP: the configuration is to be read
//! again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// Who wants the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A service manager (SIGTERM), perhaps with a load balancer that has to notice first.
    ByManager,
    /// A person at a terminal (SIGINT), who waits.
    ByPerson,
}

/// Both signals, caught from the moment this exists.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self { terminate: caught(SignalKind::terminate())?, interrupt: caught(SignalKind::interrupt())? })
    }

    /// Waits until a stop is asked for, and by whom; the next signal ends the process with exit code 1.
    pub(super) async fn asked(mut self) -> Asked {
        let asked = self.next().await;
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("second signal: ending at once");
            std::process::exit(1);
        });
        asked
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::ByManager,
            _ = self.interrupt.recv() => Asked::ByPerson,
        }
    }
}

/// SIGHUP, caught from the moment this exists; until then, and by default, it ends a process. One that came unheard is
/// remembered, several as one.
pub(super) struct Hangup(Signal);

impl Hangup {
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

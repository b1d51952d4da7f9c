//! The way of log lines to stderr while a gateway serves: a line after a quiet millisecond is written at once, those
//! that follow are gathered and written together by a thread.
//!
//! Memory is bounded: a line that finds the buffer full waits for the reader of stderr, as it would without a buffer.
//! To drop it instead would lose the record of a request just when something is wrong. Nothing is lost but by the end of
//! the process: [`flush`] before each of them that the process can see coming.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::commands::Failure;

/// How long lines are gathered.
const GATHER_TIME: Duration = Duration::from_millis(1);
/// Bytes that are written without waiting for more.
const MAX_BATCH: usize = 64 * 1024;
/// Maximum bytes that wait to be written; as many again may be on their way.
const MAX_PENDING: usize = 512 * 1024;
/// Bytes that a pipe takes as a whole (`pipe(7)`, `PIPE_BUF`). A write is at most that many, in whole lines, so that the
/// lines of processes that share a pipe do not mix.
const PIPE_BUF: usize = 4096;

/// The buffer of this process, if it has one.
static IN_USE: OnceLock<Arc<LogBuffer>> = OnceLock::new();

/// A buffer of log lines.
pub(super) struct LogBuffer {
    state: Mutex<State>,
    /// Wakes the thread.
    arrived: Condvar,
    /// Wakes lines that wait for room.
    taken: Condvar,
    output: Mutex<Output>,
}

struct State {
    pending: Vec<u8>,
    /// Whether the thread waits for a line, however long.
    idle: bool,
    /// Number of lines that wait for room.
    waiting: usize,
    /// When lines were last taken for writing.
    taken_at: Instant,
    /// Whether each line is written at once.
    ended: bool,
}

struct Output {
    to: Box<dyn Write + Send>,
    /// The lines being written.
    batch: Vec<u8>,
}

impl LogBuffer {
    /// Starts the process's buffer in front of stderr.
    pub(super) fn start() -> Result<Arc<Self>, Failure> {
        let buffer = Arc::new(Self::new(Box::new(io::stderr())));
        let of_thread = Arc::clone(&buffer);
        let run = move || while of_thread.write_next() {};
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(run)
            .map_err(|error| Failure::other("logging cannot start", error))?;
        // A process has one log; a second buffer would not be flushed by those who do not hold it.
        drop(IN_USE.set(Arc::clone(&buffer)));
        Ok(buffer)
    }

    fn new(to: Box<dyn Write + Send>) -> Self {
        let pending = Vec::new();
        let state = State { pending, idle: false, waiting: 0, taken_at: Instant::now(), ended: false };
        let output = Mutex::new(Output { to, batch: Vec::new() });
        Self { state: Mutex::new(state), arrived: Condvar::new(), taken: Condvar::new(), output }
    }

    /// Writes a line, or adds it to those that are to be written.
    fn add(&self, line: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        while !state.ended && !state.pending.is_empty() && state.pending.len() + line.len() > MAX_PENDING {
            state.waiting += 1;
            state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        if state.ended {
            drop(state);
            return write_lines(&mut *self.output().to, line);
        }
        let is_quiet = state.pending.is_empty() && state.taken_at.elapsed() >= GATHER_TIME;
        if is_quiet && let Ok(mut output) = self.output.try_lock() {
            state.taken_at = Instant::now();
            drop(state);
            return write_lines(&mut *output.to, line);
        }
        let before = state.pending.len();
        state.pending.extend_from_slice(line);
        let is_batch = before < MAX_BATCH && state.pending.len() >= MAX_BATCH;
        if state.idle || is_batch {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits for lines, gathers more and writes them; returns whether there may be others.
    fn write_next(&self) -> bool {
        let mut state = self.state();
        loop {
            if state.ended {
                return false;
            }
            let rest = GATHER_TIME.saturating_sub(state.taken_at.elapsed());
            if !rest.is_zero() && state.pending.len() < MAX_BATCH {
                // Also without lines: those of a busy process then need not wake this thread.
                (state, _) = self.arrived.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner);
            } else if state.pending.is_empty() {
                state.idle = true;
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle = false;
            } else {
                break;
            }
        }
        drop(state);
        // A log that cannot be written has nowhere to say so, and the process outlives its reader.
        drop(self.flush());
        true
    }

    /// Writes all lines added before. Waits for the reader of the output.
    pub(super) fn flush(&self) -> io::Result<()> {
        // First the output, then the lines, so that no other line overtakes them.
        let mut output = self.output();
        let Output { to, batch } = &mut *output;
        {
            let mut state = self.state();
            std::mem::swap(batch, &mut state.pending);
            state.taken_at = Instant::now();
            if state.waiting > 0 {
                self.taken.notify_all();
            }
        }
        let written = write_lines(&mut **to, batch);
        batch.clear();
        batch.shrink_to(MAX_BATCH);
        written
    }

    /// Writes all lines, and from now on each as it comes.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.arrived.notify_one();
        self.taken.notify_all();
        drop(self.flush());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &LogBuffer {
    /// Takes one event's whole text: the formatter writes each with one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        LogBuffer::flush(self)
    }
}

/// Writes the process's gathered lines before it ends; does nothing without a buffer.
pub(in crate::commands) fn flush() {
    if let Some(buffer) = IN_USE.get() {
        drop(buffer.flush());
    }
}

/// Writes lines, as many with each call as a pipe takes as a whole.
fn write_lines(to: &mut dyn Write, mut lines: &[u8]) -> io::Result<()> {
    while !lines.is_empty() {
        let (mut part, rest) = lines.split_at(whole_lines(lines));
        lines = rest;
        while !part.is_empty() {
            match to.write(part) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => part = &part[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process that shares the pipe has made it non-blocking, and it is full.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(GATHER_TIME),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Returns the length of the whole lines that one write takes; a longer line goes alone.
fn whole_lines(lines: &[u8]) -> usize {
    let Some(head) = lines.get(..PIPE_BUF) else { return lines.len() };
    let end = head.iter().rposition(|byte| *byte == b'\n');
    end.or_else(|| lines.iter().position(|byte| *byte == b'\n')).map_or(lines.len(), |at| at + 1)
}

#[cfg(test)]
mod tests;

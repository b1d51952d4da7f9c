use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::*;

/// An output that reports each write and waits for the test before it ends the first.
struct Gated {
    written: Sender<Vec<u8>>,
    gate: Option<Receiver<()>>,
}

impl Write for Gated {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.written.send(lines.to_vec()).unwrap();
        if let Some(gate) = self.gate.take() {
            gate.recv().unwrap();
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An output that fails in this way, each time but the last.
struct Failing(Sender<Vec<u8>>, Vec<ErrorKind>);

impl Write for Failing {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if let Some(kind) = self.1.pop() {
            return Err(kind.into());
        }
        self.0.send(lines[..1].to_vec()).unwrap();
        Ok(1)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn buffer(gated: bool) -> (Arc<LogBuffer>, Receiver<Vec<u8>>, Sender<()>) {
    let (written, seen) = channel();
    let (open, gate) = channel();
    let buffer = LogBuffer::new(Box::new(Gated { written, gate: gated.then_some(gate) }));
    buffer.state().taken_at -= GATHER_TIME;
    (Arc::new(buffer), seen, open)
}

/// Runs the thread that writes, until the buffer ends.
fn run(buffer: &Arc<LogBuffer>) -> thread::JoinHandle<()> {
    let buffer = Arc::clone(buffer);
    thread::spawn(move || while buffer.write_next() {})
}

fn add(buffer: &Arc<LogBuffer>, lines: Vec<String>) -> thread::JoinHandle<()> {
    let buffer = Arc::clone(buffer);
    thread::spawn(move || lines.iter().for_each(|line| buffer.add(line.as_bytes()).unwrap()))
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number} {}\n", "x".repeat(300))).collect()
}

#[test]
fn a_line_after_a_quiet_time_is_written_at_once() {
    let (buffer, seen, _) = buffer(false);
    buffer.add(b"one\n").unwrap();
    assert_eq!(seen.try_recv().unwrap(), b"one\n");
}

#[test]
fn lines_are_gathered_written_in_order_and_in_few_whole_parts() {
    let (buffer, seen, open) = buffer(true);
    let first = add(&buffer, numbered(0..1));
    let mut written = seen.recv().unwrap();
    // The first is being written, so the others wait for it.
    add(&buffer, numbered(1..1000)).join().unwrap();
    let writer = run(&buffer);
    open.send(()).unwrap();
    first.join().unwrap();
    buffer.end();
    writer.join().unwrap();
    let parts: Vec<Vec<u8>> = seen.try_iter().collect();
    assert!(parts.iter().all(|part| part.len() <= PIPE_BUF && part.ends_with(b"\n")));
    assert!(parts.len() < 1000 / 10, "{} writes", parts.len());
    written.extend(parts.concat());
    assert_eq!(String::from_utf8(written).unwrap(), numbered(0..1000).concat());
}

#[test]
fn the_thread_writes_gathered_lines_unasked() {
    let (buffer, seen, _) = buffer(false);
    let writer = run(&buffer);
    add(&buffer, numbered(0..50)).join().unwrap();
    let mut written = Vec::new();
    while written.len() < numbered(0..50).concat().len() {
        written.extend(seen.recv_timeout(Duration::from_mins(1)).unwrap());
    }
    assert_eq!(String::from_utf8(written).unwrap(), numbered(0..50).concat());
    buffer.end();
    writer.join().unwrap();
}

#[test]
fn a_reader_that_stands_still_makes_lines_wait_without_filling_the_memory() {
    let (buffer, seen, open) = buffer(true);
    let first = add(&buffer, numbered(0..1));
    let mut written = seen.recv().unwrap();
    let many = 4 * MAX_PENDING / 300;
    let others = add(&buffer, numbered(1..many));
    while buffer.state().waiting == 0 {
        thread::yield_now();
    }
    assert!(buffer.state().pending.len() <= MAX_PENDING && !others.is_finished());
    let writer = run(&buffer);
    open.send(()).unwrap();
    first.join().unwrap();
    others.join().unwrap();
    buffer.end();
    writer.join().unwrap();
    written.extend(seen.try_iter().flatten());
    assert!(String::from_utf8(written).unwrap() == numbered(0..many).concat());
    assert!(buffer.output().batch.capacity() <= MAX_BATCH);
}

#[test]
fn a_line_longer_than_the_buffer_is_written() {
    let (buffer, seen, _) = buffer(false);
    buffer.add(b"one\n").unwrap();
    let long = "x".repeat(MAX_PENDING * 2) + "\n";
    buffer.add(long.as_bytes()).unwrap();
    buffer.flush().unwrap();
    assert_eq!(seen.try_iter().flatten().count(), 4 + long.len());
}

#[test]
fn after_the_end_each_line_is_written_at_once() {
    let (buffer, seen, _) = buffer(false);
    buffer.add(b"one\n").unwrap();
    buffer.add(b"two\n").unwrap();
    buffer.end();
    buffer.add(b"three\n").unwrap();
    buffer.add(b"four\n").unwrap();
    assert_eq!(seen.try_iter().flatten().collect::<Vec<u8>>(), b"one\ntwo\nthree\nfour\n");
    assert!(!buffer.write_next());
}

#[test]
fn a_full_non_blocking_pipe_delays_a_line_and_a_broken_one_loses_it() {
    let (written, seen) = channel();
    let kinds = vec![ErrorKind::BrokenPipe, ErrorKind::Interrupted, ErrorKind::WouldBlock];
    let mut output = Failing(written, kinds);
    assert_eq!(write_lines(&mut output, b"lost\n").unwrap_err().kind(), ErrorKind::BrokenPipe);
    write_lines(&mut output, b"two\n").unwrap();
    assert_eq!(seen.try_iter().flatten().collect::<Vec<u8>>(), b"two\n");
}

#[test]
fn a_write_is_whole_lines_and_a_long_line_goes_alone() {
    let long = "x".repeat(PIPE_BUF);
    for (lines, length) in [
        ("one\ntwo\n".to_owned(), 8),
        (format!("one\n{long}\n"), 4),
        (format!("{long}\ntwo\n"), PIPE_BUF + 1),
        (long.clone(), PIPE_BUF),
    ] {
        assert_eq!(whole_lines(lines.as_bytes()), length);
    }
}

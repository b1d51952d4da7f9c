//! A link between a gateway and its PostgreSQL server that a test can cut or delay, or cut at the commit of a chosen
//! transaction.
//!
//! It parses as much of the protocol as it needs to see a transaction's statements and its COMMIT
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>). It does not support TLS.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::gateway::TIMEOUT;

/// Requests for encryption, which precede the start-up message.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

/// The state of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Everything passes.
    Up,
    /// Every connection is closed, new ones immediately.
    Down,
    /// Connections stay open, and nothing passes.
    Silent,
}

/// The moment at which the link is cut, for all connections, when a chosen transaction commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The server has committed; its reply is lost.
    ReplyLost,
    /// The server has committed and the gateway knows it; nothing passes any more.
    ReplyDelivered,
}

struct CommitCut {
    moment: Moment,
    chosen: Box<dyn Fn(&str) -> bool + Send>,
}

struct Control {
    state: watch::Sender<State>,
    delay: watch::Sender<Duration>,
    cut_count: watch::Sender<usize>,
    commit_cut: Mutex<Option<CommitCut>>,
}

/// A relay to a server. It ends with the test's runtime.
pub struct Relay {
    url: String,
    control: Arc<Control>,
}

impl Relay {
    /// Starts a relay to the server at this address.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (user, rest) = url.split_once('@').expect("an address with a user");
        let (server, database) = rest.split_once('/').expect("an address with a database");
        let url = format!("{user}@{}/{database}", listener.local_addr().expect("an address"));
        let control = Arc::new(Control {
            state: watch::Sender::new(State::Up),
            delay: watch::Sender::new(Duration::ZERO),
            cut_count: watch::Sender::new(0),
            commit_cut: Mutex::new(None),
        });
        let (server, shared) = (server.to_owned(), Arc::clone(&control));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, control) = (server.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(server).await {
                        // A message is passed on at once: with a delay, every query would take a delayed acknowledgement.
                        for stream in [&client, &server] {
                            stream.set_nodelay(true).ok();
                        }
                        // However it ends, both sides see a closed connection.
                        Link::new(client, server, control).run().await.ok();
                    }
                });
            }
        });
        Self { url, control }
    }

    /// Returns the address to use instead of the server's.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Closes every connection, and new ones, until the link is restored.
    pub fn cut(&self) {
        self.control.state.send_replace(State::Down);
    }

    /// Keeps every connection open and lets nothing pass until the link is restored.
    pub fn silence(&self) {
        self.control.state.send_replace(State::Silent);
    }

    /// Lets everything pass again.
    pub fn restore(&self) {
        self.control.state.send_replace(State::Up);
    }

    /// Delays every message of a gateway.
    pub fn delay(&self, delay: Duration) {
        self.control.delay.send_replace(delay);
    }

    /// Cuts the link, until it is restored, at the next commit of a transaction whose statements (their texts,
    /// concatenated) are chosen.
    pub fn cut_at_commit(&self, moment: Moment, chosen: impl Fn(&str) -> bool + Send + 'static) {
        let commit_cut = CommitCut { moment, chosen: Box::new(chosen) };
        *self.control.commit_cut.lock().expect("no test panicked here") = Some(commit_cut);
    }

    /// Returns at how many chosen commits the link was cut so far.
    pub fn cuts(&self) -> usize {
        *self.control.cut_count.borrow()
    }

    /// Waits until the link was cut at this many chosen commits.
    pub async fn wait_for_cuts(&self, times: usize) {
        assert!(self.is_cut_within(times, TIMEOUT).await, "no such transaction is committed");
    }

    /// Returns whether the link was cut at this many chosen commits within this time; if not, the cut is cancelled.
    pub async fn is_cut_within(&self, times: usize, patience: Duration) -> bool {
        let mut cut_count = self.control.cut_count.subscribe();
        let waiting = cut_count.wait_for(|seen| *seen >= times);
        if tokio::time::timeout(patience, waiting).await.is_ok() {
            return true;
        }
        self.control.commit_cut.lock().expect("no test panicked here").take();
        self.cuts() >= times
    }
}

/// One connection.
struct Link {
    client: TcpStream,
    server: TcpStream,
    control: Arc<Control>,
    state: watch::Receiver<State>,
    /// Whether the start-up message has passed; messages before it have no type.
    started: bool,
    /// Prepared statements by name.
    statements: HashMap<Bytes, String>,
    /// The statements of the current transaction.
    transaction: String,
}

impl Link {
    fn new(client: TcpStream, server: TcpStream, control: Arc<Control>) -> Self {
        let state = control.state.subscribe();
        let (statements, transaction) = Default::default();
        Self { client, server, control, state, started: false, statements, transaction }
    }

    async fn run(mut self) -> std::io::Result<()> {
        let (mut requests, mut replies) = (BytesMut::new(), BytesMut::new());
        loop {
            let state = *self.state.borrow_and_update();
            match state {
                State::Down => return Ok(()),
                State::Silent => {
                    self.state.changed().await.ok();
                    continue;
                }
                State::Up => {}
            }
            tokio::select! {
                biased;
                _ = self.state.changed() => {}
                read = self.server.read_buf(&mut replies) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.client.write_all_buf(&mut replies).await?;
                }
                read = self.client.read_buf(&mut requests) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    let delay = *self.control.delay.borrow();
                    if !delay.is_zero() {
                        tokio::time::sleep(delay).await;
                    }
                    while let Some(message) = self.next_message(&mut requests) {
                        let cut = self.observe(&message);
                        self.server.write_all(&message).await?;
                        if let Some(moment) = cut {
                            return self.cut(moment).await;
                        }
                    }
                }
            }
        }
    }

    /// Lets the server commit, and closes all connections.
    async fn cut(mut self, moment: Moment) -> std::io::Result<()> {
        let mut reply = BytesMut::new();
        // "Ready for query", outside a transaction.
        while !reply.ends_with(b"Z\0\0\0\x05I") {
            if self.server.read_buf(&mut reply).await? == 0 {
                break;
            }
        }
        self.control.state.send_replace(State::Down);
        if moment == Moment::ReplyDelivered {
            self.client.write_all(&reply).await?;
        }
        self.control.cut_count.send_modify(|times| *times += 1);
        Ok(())
    }

    /// Returns the next complete message.
    fn next_message(&mut self, bytes: &mut BytesMut) -> Option<Bytes> {
        let head = usize::from(self.started);
        let length = bytes.get(head..head + 4)?;
        let length = head + usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        if bytes.len() < length {
            return None;
        }
        let message = bytes.split_to(length).freeze();
        if !self.started {
            let code = message.get(4..8).map(|mut code| code.get_u32());
            self.started = !code.is_some_and(|code| ENCRYPTION.contains(&code));
        }
        Some(message)
    }

    /// Tracks a transaction's statements; returns the moment to cut at if this is a chosen COMMIT.
    fn observe(&mut self, message: &Bytes) -> Option<Moment> {
        let body = message.slice(5.min(message.len())..);
        let mut texts = body.split(|byte| *byte == 0).map(|text| body.slice_ref(text));
        match message.first()? {
            b'P' => {
                let (name, statement) = (texts.next()?, texts.next()?);
                self.statements.insert(name, String::from_utf8_lossy(&statement).into_owned());
            }
            b'B' => {
                let (_portal, name) = (texts.next()?, texts.next()?);
                self.transaction += self.statements.get(&name)?;
                self.transaction.push('\n');
            }
            b'Q' => match &*texts.next()? {
                statement if statement.starts_with(b"BEGIN") => self.transaction.clear(),
                b"COMMIT" => {
                    let mut commit_cut = self.control.commit_cut.lock().expect("no test panicked here");
                    let chosen = commit_cut.take_if(|commit_cut| (commit_cut.chosen)(&self.transaction))?;
                    return Some(chosen.moment);
                }
                statement => self.transaction.push_str(&String::from_utf8_lossy(statement)),
            },
            _ => {}
        }
        None
    }
}

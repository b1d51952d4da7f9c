//! The real program, started from a configuration file on free ports, and a client for its API.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use examgate::sandbox::{Sandbox, Settings};
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::connections::client;

/// Long enough for the slowest machine; only a hang takes longer.
pub const TIMEOUT: Duration = Duration::from_mins(5);

/// Returns the API key of a test client.
pub fn key(client: &str) -> String {
    format!("egk_test-key-of-{client}")
}

/// A running gateway. Killed when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    pub folder: TempDir,
    /// What the process logged before it was ready.
    startup_log: String,
    /// Everything the process has logged since.
    lines: mpsc::UnboundedReceiver<String>,
    process: Child,
}

/// A response of the API.
#[derive(Debug)]
pub struct ApiResponse {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl ApiResponse {
    /// Returns a header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the field at this JSON pointer as text, or "".
    pub fn text(&self, pointer: &str) -> &str {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or("")
    }

    /// Returns status, problem code and outcome, for short comparisons.
    pub fn problem(&self) -> (u16, &str, &str) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        (self.status, self.text("/code"), self.text("/outcome"))
    }
}

/// A request to be sent; finish with [`Request::send`].
pub struct Request(reqwest::RequestBuilder);

impl Request {
    pub fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    pub fn body(self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.header("content-type", content_type).body(body))
    }

    /// Waits this long instead of the default.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    pub async fn send(self) -> ApiResponse {
        self.try_send().await.expect("the gateway responds")
    }

    /// Sends the request; `None` if the gateway went away before the response was complete.
    pub async fn try_send(self) -> Option<ApiResponse> {
        let response = self.0.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Some(ApiResponse { status, headers, body })
    }
}

impl Gateway {
    /// Starts the program with these connections (and other sections of the configuration) for one client, `lms`, with
    /// all scopes.
    pub async fn start(connections: &str) -> Self {
        Self::start_with(connections, &client("lms", "", "[\"*\"]")).await
    }

    /// Starts the program with these connections and clients.
    pub async fn start_with(connections: &str, clients: &str) -> Self {
        Self::start_with_env(connections, clients, &[]).await
    }

    /// Starts the program with these connections, clients and environment variables.
    pub async fn start_with_env(connections: &str, clients: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store =
            format!("url = \"sqlite:{0}/store.db\"\nencryption_key = \"file:{0}/store.key\"", folder.path().display());
        configure(&folder, &store, connections, clients);
        Self::spawn(folder, environment).await
    }

    /// Starts a replica on this PostgreSQL database; all replicas of the tests have the same key.
    pub async fn replica(url: &str, connections: &str) -> Self {
        Self::replica_with_env(url, connections, &[]).await
    }

    /// Starts a replica with these environment variables.
    pub async fn replica_with_env(url: &str, connections: &str, environment: &[(&str, &str)]) -> Self {
        Self::replica_with(url, connections, &client("lms", "", "[\"*\"]"), environment).await
    }

    /// Starts a replica with these environment variables and clients, which may be of several tenants.
    pub async fn replica_with(url: &str, connections: &str, clients: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = data_encoding::BASE64.encode(&[7; 32]);
        let store = format!("url = \"{url}\"\nencryption_key = \"plain:{key}\"");
        configure(&folder, &store, connections, clients);
        Self::spawn(folder, environment).await
    }

    /// Starts the program in a folder that already has a configuration (and perhaps a store).
    pub async fn start_in(folder: TempDir) -> Self {
        Self::spawn(folder, &[]).await
    }

    /// Starts the program in such a folder with these environment variables.
    pub async fn start_in_with_env(folder: TempDir, environment: &[(&str, &str)]) -> Self {
        Self::spawn(folder, environment).await
    }

    /// Starts the program in a folder; no file it writes may grow beyond this many KiB.
    pub async fn start_with_file_limit(folder: TempDir, kib: u64) -> Self {
        let mut shell = Command::new("bash");
        // The signal is ignored, so that a write fails as on a full disk instead of killing the process.
        let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_examgate")]);
        Self::run(shell, folder, &[]).await
    }

    /// Returns the process's memory in KiB (`VmRSS` now, `VmHWM` the peak).
    pub fn memory_kib(&self, what: &str) -> u64 {
        let id = self.process.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a proc file");
        let line = status.lines().find(|line| line.starts_with(what)).expect("a line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    async fn spawn(folder: TempDir, environment: &[(&str, &str)]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_examgate")), folder, environment).await
    }

    async fn run(mut program: Command, folder: TempDir, environment: &[(&str, &str)]) -> Self {
        let mut process = program
            .args(["serve", "--config"])
            .arg(folder.path().join("examgate.toml"))
            .env("RUST_LOG", "debug")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let (sender, mut lines) = mpsc::unbounded_channel();
        let stdout = process.stdout.take().expect("a pipe");
        let stderr = process.stderr.take().expect("a pipe");
        forward(stdout, sender.clone());
        forward(stderr, sender);
        let mut startup_log = String::new();
        let address = loop {
            let line = tokio::time::timeout(TIMEOUT, lines.recv()).await;
            let Ok(Some(line)) = line else { panic!("the program did not say where it listens:\n{startup_log}") };
            if let Some((_, url)) = line.split_once("examgate listening on ") {
                let (_, address) = url.split_once("://").expect("an address with its scheme");
                break address.trim().parse().expect("an address");
            }
            let _ = writeln!(startup_log, "{line}");
        };
        Self { address, folder, startup_log, lines, process }
    }

    /// Returns how many files the process has open, sockets included.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("a proc file").count()
    }

    /// Sends the process a signal, by name.
    pub async fn signal(&self, name: &str) {
        let id = self.process.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await.expect("kill runs");
        assert!(sent.success());
    }

    /// Waits until the process has exited; returns its exit code.
    pub async fn wait_for_exit(&mut self) -> Option<i32> {
        let ended = tokio::time::timeout(TIMEOUT, self.process.wait()).await;
        ended.expect("the process ends").expect("its status").code()
    }

    /// Kills the process as a power cut would; returns its folder.
    pub async fn kill(mut self) -> TempDir {
        self.process.kill().await.expect("the process can be killed");
        self.folder
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.process.id().expect("a running process")
    }

    /// Asks the process to stop, as a service manager would.
    pub async fn terminate(&self) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.expect("kill runs").success());
    }

    /// Returns whether the process has exited.
    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("it can be waited for").is_some()
    }

    /// Waits until the process exits by itself with this code; returns its folder and the rest of its log.
    pub async fn ended_with(mut self, code: i32) -> (TempDir, String) {
        assert_eq!(self.wait_for_exit().await, Some(code), "{}", self.take_log());
        let mut log = String::new();
        // Its last lines may still be on their way after it has exited.
        while let Some(line) = self.lines.recv().await {
            let _ = writeln!(log, "{line}");
        }
        (self.folder, log)
    }

    /// Waits until the process has exited successfully; returns its folder.
    pub async fn folder_after_exit(mut self) -> TempDir {
        let ended = tokio::time::timeout(TIMEOUT, self.process.wait()).await;
        assert!(ended.expect("it ends").expect("it can be waited for").success());
        self.folder
    }

    /// Stops the process gracefully; returns its folder and everything it logged since the log was last taken.
    pub async fn finish(mut self) -> (TempDir, String) {
        self.terminate().await;
        assert_eq!(self.wait_for_exit().await, Some(0), "it stops gracefully");
        let mut text = self.startup_log;
        while let Some(line) = self.lines.recv().await {
            let _ = writeln!(text, "{line}");
        }
        (self.folder, text)
    }

    /// Returns the address of the admin listener, if configured.
    pub async fn admin_address(&mut self) -> SocketAddr {
        self.logged_address("admin listener ready").await
    }

    /// Returns the address of the receivers' own listener, if configured.
    pub async fn receiver_address(&mut self) -> SocketAddr {
        self.logged_address("receiver listener ready").await
    }

    /// Returns the address of the console's own listener, if configured.
    pub async fn console_address(&mut self) -> SocketAddr {
        self.logged_address("console listener ready").await
    }

    /// Returns the address in the log line with this message.
    async fn logged_address(&mut self, message: &str) -> SocketAddr {
        let startup_log = self.startup_log.lines().find(|line| line.contains(message)).map(str::to_owned);
        let line = match startup_log {
            Some(line) => line,
            None => self.wait_for_log(message).await,
        };
        let line: Value = line.lines().last().and_then(|line| serde_json::from_str(line).ok()).expect("a line of JSON");
        line["address"].as_str().and_then(|address| address.parse().ok()).expect("an address")
    }

    /// Waits for a log line with this text; returns everything logged since the log was last taken, up to that line.
    pub async fn wait_for_log(&mut self, text: &str) -> String {
        if self.startup_log.contains(text) {
            return self.startup_log.clone();
        }
        let mut log = String::new();
        loop {
            let line = tokio::time::timeout(TIMEOUT, self.lines.recv()).await;
            let Ok(Some(line)) = line else { panic!("the program never wrote {text:?}:\n{log}") };
            let _ = writeln!(log, "{line}");
            if line.contains(text) {
                return log;
            }
        }
    }

    /// Returns everything the process has logged since the log was last taken.
    pub fn take_log(&mut self) -> String {
        let mut log = String::new();
        while let Ok(line) = self.lines.try_recv() {
            let _ = writeln!(log, "{line}");
        }
        log
    }

    /// Builds a request with the key of the client `lms`.
    pub fn request(&self, method: Method, path: &str) -> Request {
        self.request_as(&key("lms"), method, path)
    }

    /// Builds a request with this key.
    pub fn request_as(&self, key: &str, method: Method, path: &str) -> Request {
        let request = http().request(method, format!("http://{}{path}", self.address));
        Request(request.bearer_auth(key))
    }

    /// Builds a request without credentials.
    pub fn anonymous(&self, method: Method, path: &str) -> Request {
        Request(http().request(method, format!("http://{}{path}", self.address)))
    }

    /// Posts. A bulk is waited for as long as possible: a slow machine may take longer than the default.
    pub async fn post(&self, path: &str, body: &Value) -> ApiResponse {
        let request = self.request(Method::POST, path).json(body);
        let request = if path.contains("/bulk") { request.header("Prefer", "wait=60") } else { request };
        request.send().await
    }

    /// Posts under this idempotency key.
    pub async fn post_with_key(&self, path: &str, key: &str, body: &Value) -> ApiResponse {
        self.request(Method::POST, path).header("Idempotency-Key", key).json(body).send().await
    }

    pub async fn get(&self, path: &str) -> ApiResponse {
        self.request(Method::GET, path).send().await
    }

    pub async fn delete(&self, path: &str) -> ApiResponse {
        self.request(Method::DELETE, path).send().await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> ApiResponse {
        self.request(Method::PATCH, path).json(body).send().await
    }
}

fn configure(folder: &TempDir, store: &str, connections: &str, clients: &str) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\nshutdown_delay = \"0s\"\n[store]\n{store}\n{clients}\n{connections}\n"
    );
    std::fs::write(folder.path().join("examgate.toml"), text).expect("the configuration can be written");
}

/// Starts a sandbox on free ports.
pub async fn sandbox() -> Sandbox {
    let settings = Settings { host: [127, 0, 0, 1].into(), port_base: 0, now: std::time::SystemTime::now };
    Sandbox::start(settings).await.expect("the sandbox starts")
}

/// Sets the faults of one sandbox port.
pub async fn set_faults(port: SocketAddr, faults: Value) {
    let response =
        http().post(format!("http://{port}/_faults")).json(&faults).send().await.expect("the sandbox responds");
    assert!(response.status().is_success(), "{}", response.text().await.unwrap_or_default());
}

/// Returns what happened at one sandbox port: its effects, calls and state.
pub async fn read_effects(port: SocketAddr) -> Value {
    let response = http().get(format!("http://{port}/_effects")).send().await.expect("the sandbox responds");
    response.json().await.expect("JSON")
}

/// Returns a client that follows no redirects and reuses no connections. There is one per thread, that is, per test:
/// building it costs more than most requests, and many at the same time would keep the gateway waiting for their
/// headers.
pub fn http() -> reqwest::Client {
    thread_local! {
        static CLIENT: reqwest::Client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(TIMEOUT)
            .build()
            .expect("a client");
    }
    CLIENT.with(Clone::clone)
}

fn forward(from: impl tokio::io::AsyncRead + Unpin + Send + 'static, to: mpsc::UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if to.send(line).is_err() {
                return;
            }
        }
    });
}

//! The real program, started from a configuration file on free ports, and a client for its API.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use examgate::sandbox::{Sandbox, Settings, accounts};
use reqwest::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Long enough for the slowest machine; only a hang comes this far.
pub const TIMEOUT: Duration = Duration::from_mins(1);

/// The API key of a client of the tests.
pub fn key(client: &str) -> String {
    format!("egk_test-key-of-{client}")
}

/// A running gateway. Killed when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    pub folder: TempDir,
    /// What the process wrote before it was ready.
    startup_log: String,
    /// Everything the process wrote since.
    lines: mpsc::UnboundedReceiver<String>,
    process: Child,
}

/// An answer of the API.
#[derive(Debug)]
pub struct ApiResponse {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl ApiResponse {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The member at this JSON pointer as text, or "".
    pub fn text(&self, pointer: &str) -> &str {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or("")
    }

    /// Status and problem code, for short comparisons.
    pub fn problem(&self) -> (u16, &str, &str) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        (self.status, self.text("/code"), self.text("/outcome"))
    }
}

/// One request to be sent; finish with [`Request::send`].
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

    /// Waits for so long instead of the usual time.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    pub async fn send(self) -> ApiResponse {
        self.try_send().await.expect("the gateway answers")
    }

    /// The answer; `None` where the gateway went away before it was whole.
    pub async fn try_send(self) -> Option<ApiResponse> {
        let response = self.0.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Some(ApiResponse { status, headers, body })
    }
}

impl Gateway {
    /// Starts the program with these connections (and whatever else the text configures) for one client, `lms`, that may
    /// do everything.
    pub async fn start(connections: &str) -> Self {
        Self::start_with(connections, &client("lms", "", "[\"*\"]")).await
    }

    /// Starts the program with these connections and clients.
    pub async fn start_with(connections: &str, clients: &str) -> Self {
        Self::start_with_env(connections, clients, &[]).await
    }

    /// Starts the program with these connections and clients, and these environment variables on top.
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

    /// As [`replica`](Self::replica), with these environment variables on top.
    pub async fn replica_with_env(url: &str, connections: &str, environment: &[(&str, &str)]) -> Self {
        Self::replica_with(url, connections, &client("lms", "", "[\"*\"]"), environment).await
    }

    /// As [`replica_under`](Self::replica_under), for these clients, which may be of several tenants.
    pub async fn replica_with(url: &str, connections: &str, clients: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = data_encoding::BASE64.encode(&[7; 32]);
        let store = format!("url = \"{url}\"\nencryption_key = \"plain:{key}\"");
        configure(&folder, &store, connections, clients);
        Self::spawn(folder, environment).await
    }

    /// Starts the program in a folder that has a configuration (and perhaps a store) already.
    pub async fn start_in(folder: TempDir) -> Self {
        Self::spawn(folder, &[]).await
    }

    /// As [`start_in`](Self::start_in), with these environment variables on top.
    pub async fn start_in_with_env(folder: TempDir, environment: &[(&str, &str)]) -> Self {
        Self::spawn(folder, environment).await
    }

    /// Starts the program in a folder; no file it writes may grow beyond so many KiB.
    pub async fn start_with_file_limit(folder: TempDir, kib: u64) -> Self {
        let mut shell = Command::new("bash");
        // The signal is ignored, so that a write fails as on a full disk instead of ending the process.
        let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_examgate")]);
        Self::run(shell, folder, &[]).await
    }

    /// What the kernel says of the process's memory (`VmRSS` now, `VmHWM` at most so far), in KiB.
    pub fn memory_kib(&self, what: &str) -> u64 {
        let id = self.process.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the kernel tells");
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
        Self { address, folder, startup_log: startup_log, lines, process }
    }

    /// How many files the process has open, sockets included.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("the kernel tells").count()
    }

    /// Sends the process a signal, by its name.
    pub async fn signal(&self, name: &str) {
        let id = self.process.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await.expect("kill runs");
        assert!(sent.success());
    }

    /// Waits until the process has ended by itself; its exit code.
    pub async fn wait_for_exit(&mut self) -> Option<i32> {
        let ended = tokio::time::timeout(TIMEOUT, self.process.wait()).await;
        ended.expect("the process ends").expect("its status").code()
    }

    /// Ends the process as a power cut would, and gives back its folder.
    pub async fn kill(mut self) -> TempDir {
        self.process.kill().await.expect("the process can be killed");
        self.folder
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.id().expect("a running process")
    }

    /// Asks the process to end, as a service manager would.
    pub async fn terminate(&self) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.expect("kill runs").success());
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("it can be waited for").is_some()
    }

    /// Gives back the folder of a process that has ended by itself with this exit code.
    pub async fn folder_after_exit_with(mut self, code: i32) -> TempDir {
        assert_eq!(self.wait_for_exit().await, Some(code));
        self.folder
    }

    /// Waits until the process has ended by itself, and gives back its folder.
    pub async fn folder_after_exit(mut self) -> TempDir {
        let ended = tokio::time::timeout(TIMEOUT, self.process.wait()).await;
        assert!(ended.expect("it ends").expect("it can be waited for").success());
        self.folder
    }

    /// Asks the process to end and waits until it has; gives back its folder and everything it wrote since it was last
    /// asked.
    pub async fn finish(mut self) -> (TempDir, String) {
        self.terminate().await;
        assert_eq!(self.wait_for_exit().await, Some(0), "it ends in order");
        let mut text = self.startup_log;
        while let Some(line) = self.lines.recv().await {
            let _ = writeln!(text, "{line}");
        }
        (self.folder, text)
    }

    /// Where operators reach it, if that is configured.
    pub async fn admin_address(&mut self) -> SocketAddr {
        let ready = "admin listener ready";
        let startup_log = self.startup_log.lines().find(|line| line.contains(ready)).map(str::to_owned);
        let line = match startup_log {
            Some(line) => line,
            None => self.wait_for_log(ready).await,
        };
        let line: Value = line.lines().last().and_then(|line| serde_json::from_str(line).ok()).expect("a line of JSON");
        line["address"].as_str().and_then(|address| address.parse().ok()).expect("an address")
    }

    /// Waits until the process writes a line with these words; everything it wrote since it was last asked, up to that line.
    pub async fn wait_for_log(&mut self, text: &str) -> String {
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

    /// Everything the process has written up to now.
    pub fn take_log(&mut self) -> String {
        let mut log = String::new();
        while let Ok(line) = self.lines.try_recv() {
            let _ = writeln!(log, "{line}");
        }
        log
    }

    /// A request with the key of the client `lms`.
    pub fn request(&self, method: Method, path: &str) -> Request {
        self.request_as(&key("lms"), method, path)
    }

    /// A request with this key.
    pub fn request_as(&self, key: &str, method: Method, path: &str) -> Request {
        let request = http().request(method, format!("http://{}{path}", self.address));
        Request(request.bearer_auth(key))
    }

    /// A request without credentials.
    pub fn anonymous(&self, method: Method, path: &str) -> Request {
        Request(http().request(method, format!("http://{}{path}", self.address)))
    }

    pub async fn post(&self, path: &str, body: &Value) -> ApiResponse {
        self.request(Method::POST, path).json(body).send().await
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

/// The configuration of one client with all scopes; `tenant` may be empty.
pub fn client(name: &str, tenant: &str, connections: &str) -> String {
    let scopes: Vec<String> =
        examgate::domain::scope::Scope::ALL.iter().map(|scope| format!("\"{}\"", scope.as_str())).collect();
    client_with(name, tenant, connections, &format!("[{}]", scopes.join(", ")))
}

/// The configuration of one client with these scopes.
pub fn client_with(name: &str, tenant: &str, connections: &str, scopes: &str) -> String {
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(key(name).as_bytes()));
    format!(
        "[auth.clients.{name}]\ntenant = \"{tenant}\"\nkey_sha256 = [\"{hash}\"]\nscopes = {scopes}\nconnections = \
         {connections}\nrate_limit = {{ requests_per_second = 100000, burst = 100000 }}\n"
    )
}

/// A sandbox on free ports.
pub async fn sandbox() -> Sandbox {
    let settings = Settings { host: [127, 0, 0, 1].into(), port_base: 0, now: std::time::SystemTime::now };
    Sandbox::start(settings).await.expect("the sandbox starts")
}

/// One connection to each vendor of a sandbox, fast and without grace, and a small catalogue. `more` is added to every
/// connection.
pub fn sandbox_connections(sandbox: &Sandbox, more: &str) -> String {
    let (start, think, exam) = (sandbox.startexam(), sandbox.thinkexam(), sandbox.examtesting());
    startexam(&format!("http://{start}"), more)
        + &thinkexam(&format!("http://{think}"), more)
        + &examtesting(&format!("http://{exam}"), more)
}

/// What every connection of the tests has: no pacing, no grace.
const FAST: &str =
    "requests_per_second = 0\nsettle_grace = \"0s\"\nretry = { attempts = 2, base = \"1ms\", max = \"2ms\" }";

/// The StartExam connection of the sandbox's account at this address.
pub fn startexam(address: &str, more: &str) -> String {
    format!(
        "[connections.startexam-main]\nvendor = \"startexam\"\nbase_url = \"{address}\"\naccount_id = {}\nsecret = \
         \"plain:{}\"\ncenter = \"{}\"\nprofile_id = \"{}\"\n{FAST}\n{more}\n",
        accounts::startexam::ACCOUNT_ID,
        accounts::startexam::SECRET,
        accounts::startexam::CENTER,
        accounts::startexam::PROFILE_ID,
    )
}

/// The ThinkExam connection of the sandbox's account at this address, its signatures from the address's own service.
pub fn thinkexam(address: &str, more: &str) -> String {
    format!(
        "[connections.thinkexam-main]\nvendor = \"thinkexam\"\nbase_url = \"{address}\"\n{FAST}\n{more}\n\
         [connections.thinkexam-main.signature]\nmode = \"remote\"\napi_key = \"plain:{}\"\nsecret = \"plain:{}\"\n\
         url = \"{address}/sim/signature\"\n",
        accounts::thinkexam::API_KEY,
        accounts::thinkexam::SECRET,
    )
}

/// The ExamTesting connection of the sandbox's institution at this address.
pub fn examtesting(address: &str, more: &str) -> String {
    format!(
        "[connections.examtesting-main]\nvendor = \"examtesting\"\nbase_url = \"{address}\"\ninstitution_id = \"{}\"\n\
         api_key = \"plain:{}\"\napi_pass = \"plain:{}\"\ndefault_group = \"{}\"\n{FAST}\n{more}\n",
        accounts::examtesting::INSTITUTION_ID,
        accounts::examtesting::API_KEY,
        accounts::examtesting::API_PASS,
        accounts::examtesting::GROUPS[0],
    )
}

/// Sets the faults of one sandbox port.
pub async fn set_faults(port: SocketAddr, faults: Value) {
    let response =
        http().post(format!("http://{port}/_faults")).json(&faults).send().await.expect("the sandbox answers");
    assert!(response.status().is_success(), "{}", response.text().await.unwrap_or_default());
}

/// What happened at one sandbox port: its effects, calls and state.
pub async fn read_effects(port: SocketAddr) -> Value {
    let response = http().get(format!("http://{port}/_effects")).send().await.expect("the sandbox answers");
    response.json().await.expect("JSON")
}

/// A client that follows no redirect and keeps no connection. One a thread, which is one a test: building it costs more
/// than most requests, so that many at once would keep the gateway waiting for their headers.
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

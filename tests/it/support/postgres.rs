//! A real PostgreSQL for tests: the one `EXAMGATE_TEST_POSTGRES` names, or one that is started for this process and
//! ends with it (`scripts/with-postgres` does both). The store's unit tests use this file, too.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// A PostgreSQL server, private or shared.
pub struct Server {
    url: String,
    owned: Option<OwnedServer>,
}

/// A private server. It ends when this is dropped or when the process is gone: it runs as long as its standard input is
/// open.
struct OwnedServer {
    pg_ctl: String,
    process: Child,
    input: Option<ChildStdin>,
}

impl Server {
    /// Returns the server all tests share, each with its own schema. No test may stop it.
    #[expect(clippy::disallowed_methods, reason = "the environment of the tests, which have no `main` to hand it over")]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("EXAMGATE_TEST_POSTGRES") {
            Ok(url) => Self { url, owned: None },
            Err(_) => Self::start(),
        })
    }

    /// Starts a private server.
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/with-postgres");
        let script_text = "echo \"$EXAMGATE_TEST_POSTGRES\"; echo \"$EXAMGATE_TEST_PG_CTL\"; exec cat >/dev/null";
        let mut process = Command::new(script)
            .args(["sh", "-c", script_text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/with-postgres runs");
        let input = process.stdin.take();
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let mut line = || lines.next().expect("the server has started").expect("a line");
        Self { url: line(), owned: Some(OwnedServer { pg_ctl: line(), process, input }) }
    }

    /// Crashes the server and restarts it at the same address.
    pub fn crash_and_restart(&self) {
        let owned = self.owned.as_ref().expect("a server of its own");
        let done = Command::new("sh").args(["-c", &format!("{} -m immediate restart", owned.pg_ctl)]).status();
        assert!(done.expect("pg_ctl runs").success());
    }

    /// Creates an empty schema; returns its address.
    pub async fn schema(&self) -> String {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("randomness");
        let name = format!("s{:016x}", u64::from_be_bytes(bytes));
        let mut connection = PgConnection::connect(&self.url).await.expect("the server responds");
        let make = AssertSqlSafe(format!("CREATE SCHEMA {name}"));
        sqlx::raw_sql(make).execute(&mut connection).await.expect("a schema can be created");
        format!("{}?options=-csearch_path%3D{name}", self.url)
    }
}

impl Drop for OwnedServer {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.process.wait());
    }
}

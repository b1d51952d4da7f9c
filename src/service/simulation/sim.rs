//! The simulated machine: a clock and randomness controlled by the case, a process that can be killed between any two
//! steps, and the disk it leaves behind.
//!
//! A process is a single-threaded runtime with a paused clock, so that the same case always runs the same way, however
//! fast the machine is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;
use tokio::time::Instant;
use url::Url;

use crate::domain::error::ConnectionRef;
use crate::domain::results::{FeedPlan, ReportChannel};
use crate::domain::system::{Clock, SecureRandom, System};
use crate::domain::units::ConfigDuration;
use crate::secret::{ConfigFingerprint, Redactor};
use crate::service::simulation::store::{Idle, Proxy, StoreMeter};
use crate::service::simulation::vendor::Fake;
use crate::service::simulation::vendor_oracle::{Profile, Script, VendorOracle};
use crate::service::{Catalogue, ConnectionSetup, Gateway, Retention};
use crate::store::{Keyring, SqliteStore, Store};
use crate::transport::{Client, ConnectionSettings};
use crate::vendors::VendorConnection;

/// The only connection of every case.
pub(super) const CONNECTION: &str = "exam";
/// How long a vendor may still act on an attempt that timed out.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// Upper limit for every request to the gateway, by the paused clock.
const TIMEOUT: Duration = Duration::from_mins(30);

/// The point at which a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CrashPoint {
    /// Before a change reaches the store.
    BeforeCommit,
    /// After a change is in the store, before the process learns of it.
    AfterCommit,
    /// Before a request reaches the vendor.
    BeforeCall,
    /// While the vendor has the request.
    DuringCall,
}

/// The simulated clock. True time is the paused clock of the process; the wall clock that the process reads may differ.
pub(super) struct Time {
    passed: AtomicI64,
    offset: AtomicI64,
    began: Mutex<Option<(Instant, i64)>>,
}

impl Time {
    /// Returns the microseconds since the start of the case.
    pub(super) fn passed(&self) -> i64 {
        let began = *self.began.lock().unwrap();
        if let Some((at, before)) = began
            && Handle::try_current().is_ok()
        {
            let since = i64::try_from(at.elapsed().as_micros()).unwrap();
            self.passed.store(before + since, Ordering::Relaxed);
        }
        self.passed.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        let before = self.passed.load(Ordering::Relaxed);
        *self.began.lock().unwrap() = Some((Instant::now(), before));
    }

    fn end(&self, downtime: Duration) {
        self.passed();
        *self.began.lock().unwrap() = None;
        self.passed.fetch_add(i64::try_from(downtime.as_micros()).unwrap(), Ordering::Relaxed);
    }

    /// Steps the wall clock that the process reads; true time is unaffected.
    pub(super) fn step(&self, seconds: i64) {
        self.offset.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        let start = 1_790_000_000_000_000;
        Timestamp::from_microsecond(start + self.passed() + self.offset.load(Ordering::Relaxed)).unwrap()
    }
}

/// Deterministic randomness (splitmix64).
pub(super) struct SeededRandom(AtomicU64);

impl SeededRandom {
    pub(super) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(super) fn throw(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl SecureRandom for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.throw().to_be_bytes()[..part.len()]);
        }
    }
}

/// How a change fails.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Failure {
    /// The store rejects it and does nothing.
    #[default]
    Refused,
    /// The store's response is lost.
    InDoubt { done: bool },
    /// The store's response is lost, and it rejects what follows.
    InDoubtThenRefused { done: bool },
}

/// A failure schedule: `pass` calls succeed, then `fail` calls fail.
#[derive(Default)]
struct Countdown {
    pass: u32,
    fail: u32,
}

impl Countdown {
    /// Returns whether this call fails.
    fn fails(&mut self) -> bool {
        if self.fail == 0 {
            return false;
        }
        if self.pass > 0 {
            self.pass -= 1;
            return false;
        }
        self.fail -= 1;
        true
    }
}

/// The planned failures of one process and its store.
#[derive(Default)]
pub(super) struct FailurePlan {
    dead: AtomicBool,
    died: Notify,
    doom: Mutex<Option<(CrashPoint, u32)>>,
    changes: Mutex<Countdown>,
    failure: Mutex<Failure>,
    reads: Mutex<Countdown>,
    calm: AtomicBool,
    pub(super) meter: StoreMeter,
}

impl FailurePlan {
    /// Continues, or dies here; a dead process blocks for ever.
    pub(super) async fn pass(&self, place: CrashPoint) {
        if !self.dead.load(Ordering::SeqCst) {
            let mut doom = self.doom.lock().unwrap();
            match &mut *doom {
                Some((at, 0)) if *at == place => self.dead.store(true, Ordering::SeqCst),
                Some((at, left)) if *at == place => *left -= 1,
                _ => {}
            }
        }
        if self.dead.load(Ordering::SeqCst) {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// Blocks for ever if the process is dead.
    pub(super) async fn alive(&self) {
        if self.dead.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// Schedules the process's death at a point, after it has passed the point that many times.
    pub(super) fn schedule_crash(&self, doom: Option<(CrashPoint, u32)>) {
        *self.doom.lock().unwrap() = doom;
    }

    /// Schedules `fail` failing changes after `pass` successful ones.
    pub(super) fn fail_changes(&self, pass: u32, fail: u32, failure: Failure) {
        *self.changes.lock().unwrap() = Countdown { pass, fail };
        *self.failure.lock().unwrap() = failure;
    }

    /// Schedules `fail` failing reads after `pass` successful ones.
    pub(super) fn fail_reads(&self, pass: u32, fail: u32) {
        *self.reads.lock().unwrap() = Countdown { pass, fail };
    }

    /// Stops all delays and failures.
    pub(super) fn calm_down(&self) {
        self.schedule_crash(None);
        self.fail_changes(0, 0, Failure::Refused);
        self.fail_reads(0, 0);
        self.calm.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Returns how this change fails, if it does.
    pub(super) fn failure(&self) -> Option<Failure> {
        if !self.changes.lock().unwrap().fails() {
            return None;
        }
        let mut failure = self.failure.lock().unwrap();
        let now = *failure;
        if matches!(now, Failure::InDoubtThenRefused { .. }) {
            *failure = Failure::Refused;
        }
        Some(now)
    }

    /// Returns whether this read fails.
    pub(super) fn read_fails(&self) -> bool {
        self.reads.lock().unwrap().fails()
    }
}

/// A running gateway process.
pub(super) struct Process {
    pub(super) gateway: Gateway,
    pub(super) store: Arc<dyn Store>,
    pub(super) fate: Arc<FailurePlan>,
    runtime: Runtime,
}

/// The complete state of one case.
pub(super) struct Sim {
    pub(super) time: Arc<Time>,
    pub(super) exam: Arc<Mutex<VendorOracle>>,
    pub(super) process: Option<Process>,
    /// Scheduled deaths of the following processes.
    pub(super) dooms: Vec<(CrashPoint, u32)>,
    /// How many reads and how many changes of the store fail while the next process starts.
    pub(super) fail_at_start: [u32; 2],
    environment: System,
    settings: ConnectionSettings,
    /// How the vendor's sessions are read, if they are.
    feed: Option<ReportChannel>,
    scheduler: Arc<SeededRandom>,
    ring: Keyring,
    disk: TempDir,
    lives: u32,
}

impl Sim {
    pub(super) fn new(profile: Profile, seed: u64, scripts: Vec<Script>) -> Self {
        let settings = ConnectionSettings { settle_grace: ConfigDuration(GRACE), ..ConnectionSettings::default() };
        Self::with_settings(profile, seed, scripts, settings)
    }

    /// Creates a world whose vendor has a feed of sessions.
    pub(super) fn with_feed(profile: Profile, seed: u64, scripts: Vec<Script>, feed: FeedPlan) -> Self {
        let settings = ConnectionSettings { settle_grace: ConfigDuration(GRACE), ..ConnectionSettings::default() };
        Self::start(profile, seed, scripts, settings, Some(ReportChannel::Feed(feed)))
    }

    pub(super) fn with_settings(
        profile: Profile,
        seed: u64,
        scripts: Vec<Script>,
        settings: ConnectionSettings,
    ) -> Self {
        Self::start(profile, seed, scripts, settings, None)
    }

    fn start(
        profile: Profile,
        seed: u64,
        scripts: Vec<Script>,
        settings: ConnectionSettings,
        feed: Option<ReportChannel>,
    ) -> Self {
        let time = Arc::new(Time { passed: AtomicI64::new(0), offset: AtomicI64::new(0), began: Mutex::new(None) });
        let environment = System { clock: Arc::<Time>::clone(&time), entropy: Arc::new(SeededRandom::new(seed)) };
        let Blank { ring, file } = blank();
        let disk = tempfile::tempdir().unwrap();
        let mut world = Self {
            time,
            exam: Arc::new(Mutex::new(VendorOracle::new(profile, scripts))),
            process: None,
            dooms: Vec::new(),
            fail_at_start: [0; 2],
            environment,
            settings,
            feed,
            scheduler: Arc::new(SeededRandom::new(!seed)),
            ring: ring.clone(),
            disk,
            lives: 0,
        };
        std::fs::write(world.database(), file).unwrap();
        world.live();
        world
    }

    /// Runs work in the process; `None` if it died. A dead process is replaced by another.
    pub(super) fn run<T>(&mut self, work: impl AsyncFnOnce(Gateway) -> T) -> Option<T> {
        let process = self.process.as_ref().unwrap();
        let (gateway, fate) = (process.gateway.clone(), Arc::clone(&process.fate));
        let done = process.runtime.block_on(async {
            tokio::select! {
                biased;
                () = fate.died.notified() => None,
                done = tokio::time::timeout(TIMEOUT, work(gateway)) => Some(done.expect("a response within the time limit")),
            }
        });
        {
            // The vendor progresses whether or not there are calls.
            let _context = process.runtime.enter();
            self.exam.lock().unwrap().pass(self.time.passed());
        }
        if done.is_none() {
            self.kill(Duration::ZERO);
        }
        done
    }

    /// Reads the store directly, without deaths or failures.
    pub(super) fn look<T>(&self, work: impl AsyncFnOnce(Arc<dyn Store>) -> T) -> T {
        let process = self.process.as_ref().unwrap();
        process.runtime.block_on(work(Arc::clone(&process.store)))
    }

    /// Kills the process as SIGKILL does: the files stay as they are at this moment, and another process serves from
    /// them.
    pub(super) fn kill(&mut self, downtime: Duration) {
        let Process { gateway, store, fate, runtime } = self.process.take().unwrap();
        fate.dead.store(true, Ordering::SeqCst);
        self.exam.lock().unwrap().hung_up();
        let left = self.database();
        self.lives += 1;
        for suffix in ["", "-wal"] {
            let (from, to) = (beside(&left, suffix), beside(&self.database(), suffix));
            if from.exists() {
                std::fs::copy(from, to).unwrap();
            }
        }
        {
            let _context = runtime.enter();
            self.time.end(downtime);
        }
        drop(gateway);
        drop(runtime);
        drop(store);
        for suffix in ["", "-wal", "-shm", ".lock"] {
            drop(std::fs::remove_file(beside(&left, suffix)));
        }
        self.live();
    }

    fn live(&mut self) {
        let fate = Arc::new(FailurePlan::default());
        fate.schedule_crash(self.dooms.pop());
        let [reads, changes] = std::mem::take(&mut self.fail_at_start);
        fate.fail_reads(0, reads);
        fate.fail_changes(0, changes, Failure::Refused);
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        {
            let _context = runtime.enter();
            self.time.begin();
        }
        let store = SqliteStore::open_to_serve(&self.database(), self.ring.clone(), self.environment.clone()).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let proxy: Arc<dyn Store> = Arc::new(Proxy {
            inner: Arc::clone(&store),
            fate: Arc::clone(&fate),
            scheduler: Arc::clone(&self.scheduler),
            idle: Idle::default(),
        });
        let vendor = Fake {
            exam: Arc::clone(&self.exam),
            fate: Arc::clone(&fate),
            time: Arc::clone(&self.time),
            feed: self.feed.clone(),
        };
        let settings = self.settings.clone();
        let connected = VendorConnection { vendor: Arc::new(vendor), client: unused_client(), account: String::new() };
        let setup = ConnectionSetup {
            connected,
            settings,
            fingerprint: ConfigFingerprint::default(),
            only_tenant: None,
            tenants: BTreeSet::new(),
        };
        let connections = BTreeMap::from([(CONNECTION.to_owned(), setup)]);
        let day = Duration::from_hours(24);
        let (kept, environment) = (
            Retention {
                operations: 30 * day,
                keys: day,
                reports: 90 * day,
                parked_reports: 90 * day,
                events: 30 * day,
            },
            self.environment.clone(),
        );
        let (doomed, serves) = (Arc::clone(&fate), proxy);
        let gateway = runtime.block_on(async move {
            tokio::select! {
                biased;
                () = doomed.died.notified() => None,
                gateway = Gateway::start(serves, connections, Catalogue::default(), environment, kept) => Some(gateway.unwrap()),
            }
        });
        let Some(gateway) = gateway else {
            // It died during start; the file is as it left it.
            {
                let _context = runtime.enter();
                self.time.end(Duration::ZERO);
            }
            drop(runtime);
            drop(store);
            return self.live();
        };
        self.process = Some(Process { gateway, store, fate, runtime });
    }

    fn database(&self) -> PathBuf {
        self.disk.path().join(format!("life-{}.db", self.lives))
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Drop the runtime before the store: its tasks hold the store and must still find it when they end.
        if let Some(Process { gateway, store, fate, runtime }) = self.process.take() {
            fate.dead.store(true, Ordering::SeqCst);
            drop((gateway, runtime, store));
        }
    }
}

fn beside(database: &std::path::Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// An empty database, created once: creating its tables takes longer than most cases.
struct Blank {
    ring: Keyring,
    file: Vec<u8>,
}

fn blank() -> &'static Blank {
    static BLANK: OnceLock<Blank> = OnceLock::new();
    BLANK.get_or_init(|| {
        let environment = crate::store::conformance::environment();
        let ring = Keyring::new(&Keyring::generate(&environment), &[]).unwrap();
        let disk = tempfile::tempdir().unwrap();
        let path = disk.path().join("blank.db");
        drop(SqliteStore::open(&path, ring.clone(), environment).unwrap());
        Blank { ring, file: std::fs::read(path).unwrap() }
    })
}

/// Returns a client that nothing uses; created once, since creating it reads the machine's certificates.
fn unused_client() -> Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let make = || {
        let name = ConnectionRef { connection: CONNECTION.to_owned(), vendor: "fake".to_owned() };
        let address = Url::parse("http://127.0.0.1:9").unwrap();
        let environment = crate::store::conformance::environment();
        Client::new(name, &address, &ConnectionSettings::default(), Redactor::new([]), environment).unwrap()
    };
    CLIENT.get_or_init(make).clone()
}

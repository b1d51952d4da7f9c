//! Tests of the rules of results, over a store in memory and a vendor with scripted responses. Each rule has its name in
//! the names of its tests.

mod erasing;
mod events;
mod evidence;
mod feed;
mod matching;
mod receiving;
mod requests;
mod rereading;
mod stub;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use url::Url;

use crate::domain::assignment::{Assignment, CandidateKey, IfAssignmentExists, NewAssignment, Notify, Proctoring};
use crate::domain::candidate::{IfCandidateExists, NewCandidate, Person};
use crate::domain::error::{ConnectionRef, Error};
use crate::domain::exchange::Exchange;
use crate::domain::ids::CandidateId;
use crate::domain::intent::WriteOrigin;
use crate::domain::outcome::WarningCode;
use crate::domain::results::{ExamResult, FetchRule, Report, ReportState};
use crate::domain::scope::ScopeSet;
use crate::domain::units::ConfigDuration;
use crate::domain::vendor::Priority;
use crate::secret::{ConfigFingerprint, Redactor};
use crate::service::connections::Connection;
use crate::service::results::feed_reader::FeedRead;
use crate::service::test_reports::Said;
use crate::service::{
    Catalogue, CatalogueEntry, ConnectionAccess, ConnectionSetup, Gateway, ReportQuery, RequestContext, ResultQuery,
    ResultView, Retention,
};
use crate::store::{Keyring, Page, SqliteStore, Store};
use crate::transport::{Client, ConnectionSettings};
use crate::vendors::VendorConnection;

use self::stub::{PATIENCE, Stub, at};

const CONNECTION: &str = "exam";
/// The tenant that owns what fits no candidate.
const OWNER: &str = "lms";
const TEST: &str = "test-1";

struct World {
    gateway: Gateway,
    stub: Arc<Stub>,
    store: Arc<dyn Store>,
}

fn caller(tenant: &str) -> RequestContext {
    RequestContext {
        tenant: tenant.to_owned(),
        client: tenant.to_owned(),
        scopes: ScopeSet::all(),
        connections: ConnectionAccess::All,
        default_connection: None,
        exchange: Exchange::example(),
        priority: Priority::Interactive,
        key: None,
        origin: WriteOrigin::default(),
        resumed: None,
        audit_entry: None,
    }
}

fn page() -> Page {
    Page { limit: 100, after: None }
}

fn client() -> Client {
    let name = ConnectionRef { connection: CONNECTION.to_owned(), vendor: "stub".to_owned() };
    let environment = crate::store::conformance::environment();
    let address = Url::parse("http://127.0.0.1:9").unwrap();
    Client::new(name, &address, &ConnectionSettings::default(), Redactor::new([]), environment).unwrap()
}

fn new_store() -> Arc<dyn Store> {
    let environment = crate::store::conformance::environment();
    let ring = Keyring::new(&Keyring::generate(&environment), &[]).unwrap();
    Arc::new(SqliteStore::in_memory(ring, environment).unwrap())
}

/// Starts a gateway. Its background does not read reports, since the vendor shows them only afterwards.
async fn start(store: &Arc<dyn Store>, stub: &Arc<Stub>) -> Gateway {
    stub.shows_reports.store(false, Ordering::SeqCst);
    let vendor: Arc<Stub> = Arc::clone(stub);
    let connected = VendorConnection { vendor, client: client(), account: String::new() };
    let settings =
        ConnectionSettings { settle_grace: ConfigDuration(Duration::from_hours(1)), ..ConnectionSettings::default() };
    let (fingerprint, only_tenant) = (ConfigFingerprint::default(), Some(OWNER.to_owned()));
    let tenants = BTreeSet::from([OWNER.to_owned()]);
    let setup = ConnectionSetup { connected, settings, fingerprint, only_tenant, tenants };
    let entry = CatalogueEntry {
        id: "rust".to_owned(),
        name: "Rust".to_owned(),
        connection: CONNECTION.to_owned(),
        reference: TEST.to_owned(),
        scoring: crate::domain::results::ScoringRules::default(),
    };
    // Another account, which knows another test by the same id.
    let other = CatalogueEntry { id: "other".to_owned(), connection: "other".to_owned(), ..entry.clone() };
    let assessments = [entry, other].map(|entry| (entry.id.clone(), entry)).into();
    let catalogue = Catalogue { assessments, programs: BTreeMap::new() };
    let day = Duration::from_hours(24);
    let kept = Retention { operations: day, keys: day, reports: day, parked_reports: day, events: day };
    let environment = crate::store::conformance::environment();
    let connections = BTreeMap::from([(CONNECTION.to_owned(), setup)]);
    let gateway = Gateway::start(Arc::clone(store), connections, catalogue, environment, kept).await.unwrap();
    stub.shows_reports.store(true, Ordering::SeqCst);
    gateway
}

impl World {
    async fn new(stub: Arc<Stub>) -> Self {
        let store = new_store();
        let gateway = start(&store, &stub).await;
        Self { gateway, stub, store }
    }

    async fn with_feed() -> Self {
        Self::new(Stub::with_feed(FetchRule::Never)).await
    }

    async fn with_receiver() -> Self {
        Self::new(Stub::with_receiver()).await
    }

    /// Replaces the gateway by another one over the same store, as after a kill.
    async fn restart(&mut self) {
        self.gateway = start(&self.store, &self.stub).await;
    }

    fn connection(&self) -> Arc<Connection> {
        self.gateway.connection_of(CONNECTION).unwrap()
    }

    async fn register(&self, tenant: &str, external_id: &str, email: &str) -> CandidateId {
        let person = Person {
            external_id: Some(external_id.into()),
            email: Some(email.into()),
            name: crate::domain::candidate::Name { given_name: Some("A".into()), ..Default::default() },
            ..Person::default()
        };
        let new = NewCandidate { person, password: None, if_exists: IfCandidateExists::Reuse };
        let handle = self.gateway.create_candidate(&caller(tenant), Some(CONNECTION), new, false).unwrap();
        handle.result(PATIENCE).await.unwrap().written.value().candidate.id.clone()
    }

    /// Books the candidate, with the window if one is given in seconds of the vendor's clock.
    async fn book(
        &self,
        tenant: &str,
        candidate: &CandidateId,
        window: Option<(i64, i64)>,
    ) -> Result<Assignment, Error> {
        self.book_test(tenant, candidate, TEST, window).await
    }

    async fn book_test(
        &self,
        tenant: &str,
        candidate: &CandidateId,
        test: &str,
        window: Option<(i64, i64)>,
    ) -> Result<Assignment, Error> {
        let order = NewAssignment {
            candidate: CandidateKey::Id(candidate.clone()),
            assessment: test.to_owned(),
            valid_from: window.map(|(from, _)| at(from)),
            valid_until: None,
            center: None,
            notify: Notify::None,
            passwordless: false,
            proctoring: Proctoring::default(),
            if_exists: IfAssignmentExists::CreateNew,
            reference: Some("order-1".to_owned()),
        };
        let handle = self.gateway.create_assignment(&caller(tenant), Some(CONNECTION), order, false).await?;
        let mut booked = handle.result(PATIENCE).await?.written.value().clone();
        if let Some((_, until)) = window {
            // By the gateway's clock the window would be in the past.
            booked.order.valid_until = Some(at(until));
            self.store.commit(vec![crate::store::Mutation::Assignment(booked.clone())]).await.unwrap();
        }
        Ok(booked)
    }

    /// Returns the tenant's only assignment.
    async fn only_assignment(&self, tenant: &str) -> Assignment {
        let query = crate::service::AssignmentQuery { limit: 10, ..Default::default() };
        let (mut all, _) = self.gateway.assignments(&caller(tenant), query).await.unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// Reads the feed, and fetches the reports that this makes necessary; returns whether it was read.
    async fn read_feed(&self) -> Result<bool, Error> {
        let read = self.gateway.read_feed(&self.connection(), &self.stub.plan(), None, false).await?;
        self.gateway.fetch_due_reports(&self.connection()).await?;
        Ok(read == FeedRead::Read)
    }

    async fn post(&self, assessment: Option<&str>, said: &Said) {
        let receiver = self.gateway.find_receiver(CONNECTION, stub::TOKEN).unwrap_or_else(|_| panic!("a receiver"));
        let key = |name: &str| (name == "key").then(|| stub::KEY.to_owned());
        self.gateway.receive_webhook(receiver, assessment, key, said.body()).await.unwrap();
    }

    /// Reads what has come, and looks at what is due.
    async fn read_received(&self) {
        self.gateway.read_inbox(&self.connection()).await.unwrap();
        self.look().await;
    }

    async fn look(&self) {
        self.gateway.look_at_due_reports(&self.connection()).await.unwrap();
    }

    async fn receive(&self, assessment: Option<&str>, said: &Said) {
        self.post(assessment, said).await;
        self.read_received().await;
    }

    async fn views(&self, tenant: &str) -> Vec<ResultView> {
        let mut part = self.gateway.results(&caller(tenant), &ResultQuery::default(), &page()).await.unwrap();
        part.items.reverse();
        part.items
    }

    /// Returns the tenant's results, the oldest first.
    async fn results(&self, tenant: &str) -> Vec<ExamResult> {
        self.views(tenant).await.into_iter().map(|view| view.result).collect()
    }

    async fn only_result(&self, tenant: &str) -> ExamResult {
        let mut results = self.results(tenant).await;
        assert_eq!(results.len(), 1, "{results:#?}");
        results.remove(0)
    }

    /// Returns the owner's reports, the oldest first.
    async fn reports(&self, tenant: &str) -> Vec<Report> {
        let mut part = self.gateway.reports(&caller(tenant), &ReportQuery::default(), &page()).await.unwrap();
        part.items.reverse();
        part.items
    }

    async fn only_report(&self, tenant: &str) -> Report {
        let mut reports = self.reports(tenant).await;
        assert_eq!(reports.len(), 1, "{reports:#?}");
        reports.remove(0)
    }
}

/// Returns what is said of a started session of this registration.
fn started(participant: &str, second: i64) -> Said {
    Said {
        participant: Some(participant.to_owned()),
        test: Some(TEST.to_owned()),
        started: Some(at(second)),
        ..Said::default()
    }
}

/// Returns what is said of the same session once it is finished.
fn finished(participant: &str, second: i64, given: f64) -> Said {
    Said { finished: true, given: Some(given), maximum: Some(10.0), ..started(participant, second) }
}

/// Returns a webhook about a finished test, without the test.
fn webhook(email: &str, given: f64) -> Said {
    Said { email: Some(email.to_owned()), finished: true, given: Some(given), maximum: Some(10.0), ..Said::default() }
}

fn given(result: &ExamResult) -> Option<f64> {
    result.state.score.map(|score| score.given.get())
}

fn codes(result: &ExamResult) -> Vec<WarningCode> {
    result.state.warnings.iter().map(|warning| warning.code).collect()
}

fn states(reports: &[Report]) -> Vec<ReportState> {
    reports.iter().map(|report| report.state).collect()
}

//! Replicas that are restarted in turn under load: no request fails, and nothing is lost or done twice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::connections::startexam;
use crate::support::gateway::{ApiResponse, Gateway, TIMEOUT, http, key, sandbox, set_faults};
use crate::support::postgres::Server;
use crate::support::watch::{bodies, changes, wait_until};

const ROUNDS: usize = 2;
const ROWS: usize = 3_000;
const CALLERS: usize = 6;
/// The usual shutdown delay: a caller on a busy machine may take its time between choosing a replica and sending to it.
const DELAY: Duration = Duration::from_secs(3);

/// The replicas, which of them are ready, when they were last asked, and which is next.
struct Replicas {
    all: Mutex<Vec<SocketAddr>>,
    ready: Mutex<Vec<SocketAddr>>,
    asked: Mutex<Instant>,
    next: AtomicUsize,
}

impl Replicas {
    /// Polls `/readyz` of each, as a load balancer does.
    async fn watch(self: Arc<Self>) {
        loop {
            let (all, asked) = (self.all.lock().unwrap().clone(), Instant::now());
            let mut ready = Vec::new();
            for address in all {
                let readiness = http().get(format!("http://{address}/readyz")).send().await;
                if readiness.is_ok_and(|response| response.status() == 200) {
                    ready.push(address);
                }
            }
            *self.ready.lock().unwrap() = ready;
            *self.asked.lock().unwrap() = asked;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns a replica that is ready.
    async fn any_ready(&self) -> SocketAddr {
        let began = Instant::now();
        loop {
            let chosen = {
                let ready = self.ready.lock().unwrap();
                let at = self.next.fetch_add(1, Ordering::Relaxed);
                (!ready.is_empty()).then(|| ready[at % ready.len()])
            };
            if let Some(address) = chosen {
                return address;
            }
            assert!(began.elapsed() < TIMEOUT, "no replica is ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Starts a connection balancer: each connection goes to a replica that is ready. It knows nothing of requests and
/// retries none; only a connection that could not be opened is tried elsewhere.
async fn start_balancer(replicas: Arc<Replicas>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut caller, _)) = listener.accept().await {
            let replicas = Arc::clone(&replicas);
            open.spawn(async move {
                let mut replica = loop {
                    if let Ok(stream) = TcpStream::connect(replicas.any_ready().await).await {
                        break stream;
                    }
                };
                // However it ends, its caller sees it.
                drop(copy_bidirectional(&mut caller, &mut replica).await);
            });
        }
    });
    address
}

/// How a caller finds a replica.
#[derive(Clone)]
enum Route {
    /// Through the balancer.
    Balanced(SocketAddr),
    /// Directly, with persistent connections to each.
    Direct(Arc<Replicas>),
}

/// Registers, books and reads until stopped; every response has to be a success. Returns how many people it registered.
async fn run_caller(name: usize, route: Route, stop: Arc<AtomicBool>) -> usize {
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().expect("a client");
    let ask = async |method: Method, path: &str, body: Option<Value>| {
        let (address, response) = loop {
            let (address, asked) = match &route {
                Route::Balanced(address) => (*address, None),
                Route::Direct(replicas) => {
                    let asked = *replicas.asked.lock().unwrap();
                    (replicas.any_ready().await, Some(asked))
                }
            };
            let request = client.request(method.clone(), format!("http://{address}{path}")).bearer_auth(key("lms"));
            let request = if let Some(body) = &body { request.json(body) } else { request };
            match request.send().await {
                Ok(response) => break (address, response),
                // Nothing was sent: the machine is so slow that the replica has gone since it was asked.
                Err(error) if error.is_connect() && asked.is_some_and(|asked| asked.elapsed() >= DELAY) => {}
                Err(error) => panic!("{method} {path} at {address} failed: {error:?}"),
            }
        };
        let status = response.status();
        let text = response.text().await.unwrap_or_else(|error| panic!("{method} {path}: broke off: {error:?}"));
        assert!(status.is_success(), "{method} {path} at {address}: {status} {text}");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let mut registered = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = format!("c{name}-{registered}");
        let person = json!({ "externalId": id, "name": { "givenName": "Ada" } });
        let candidate = ask(Method::POST, "/candidates", Some(person)).await;
        let order = json!({ "candidate": { "externalId": id }, "assessment": accounts::startexam::TESTS[0].0 });
        let booked = ask(Method::POST, "/assignments", Some(order)).await;
        for (path, record) in [("/candidates", &candidate), ("/assignments", &booked)] {
            ask(Method::GET, &format!("{path}/{}", record["id"].as_str().expect("an id")), None).await;
        }
        registered += 1;
    }
    registered
}

async fn start_replica(url: &str, connections: &str) -> Gateway {
    let delay = format!("{}s", DELAY.as_secs());
    Gateway::replica_with_env(url, connections, &[("EXAMGATE__SERVER__SHUTDOWN_DELAY", &delay)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_drops_no_request_and_loses_no_row() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let url = Server::shared().schema().await;
    // Both kinds of calls share a connection's permits; the vendor is slow, so that some are always in flight.
    let connections = startexam(&format!("http://{port}"), "batch_size = 5\nmax_in_flight = 8");
    set_faults(port, json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 100 }] })).await;
    let mut gateways = [start_replica(&url, &connections).await, start_replica(&url, &connections).await];
    let replicas = Arc::new(Replicas {
        all: Mutex::new(gateways.iter().map(|gateway| gateway.address).collect()),
        ready: Mutex::default(),
        asked: Mutex::new(Instant::now()),
        next: AtomicUsize::new(0),
    });
    let watching = tokio::spawn(Arc::clone(&replicas).watch());
    let balanced = start_balancer(Arc::clone(&replicas)).await;

    let rows: Vec<Value> = (0..ROWS)
        .map(|number| json!({ "externalId": format!("row-{number}"), "name": { "givenName": "Grace" } }))
        .collect();
    let bulk = gateways[0].request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = bulk.json(&json!({ "connection": "startexam-main", "items": rows })).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let operation = format!("/operations/{}", accepted.text("/id"));

    let stop = Arc::new(AtomicBool::new(false));
    let mut calling = JoinSet::new();
    for name in 0..CALLERS {
        let route = if name % 2 == 0 { Route::Balanced(balanced) } else { Route::Direct(Arc::clone(&replicas)) };
        calling.spawn(run_caller(name, route, Arc::clone(&stop)));
    }
    let applied = |state: &ApiResponse| state.body["progress"]["applied"].as_u64().unwrap_or(0);
    let before = applied(&gateways[0].get(&operation).await);
    let mut progress = Vec::new();
    for round in 0..ROUNDS * gateways.len() {
        let at = round % gateways.len();
        let began = Instant::now();
        gateways[at].terminate().await;
        assert_eq!(gateways[at].wait_for_exit().await, Some(0), "{}", gateways[at].take_log());
        let ended = began.elapsed();
        gateways[at] = start_replica(&url, &connections).await;
        *replicas.all.lock().unwrap() = gateways.iter().map(|gateway| gateway.address).collect();
        // The restart continues only when the new replica serves.
        let began = Instant::now();
        while replicas.ready.lock().unwrap().len() < gateways.len() {
            assert!(began.elapsed() < TIMEOUT, "the new replica is never ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let state = gateways[at].get(&operation).await;
        progress.push((ended, applied(&state)));
    }
    // The callers stop so that the remaining rows can finish.
    stop.store(true, Ordering::Relaxed);
    let registered: usize = calling.join_all().await.into_iter().sum();
    let ended = wait_until(&gateways[0], &operation, |response| response.text("/state") == "completed").await;
    watching.abort();
    println!("{registered} people registered and booked meanwhile; ends and rows applied by then: {progress:?}");
    assert_eq!(ended.body["progress"]["applied"], ROWS, "{ended:?}");
    assert!(before < ROWS as u64 && registered > CALLERS, "there was load: {before}, {registered}");

    let created = changes(port, "employees", "created").await;
    assert_eq!(created.len(), ROWS + registered);
    let mut sent: HashMap<String, usize> = HashMap::new();
    for call in bodies(port, "employees").await {
        for employee in call["employees"].as_array().expect("employees") {
            *sent.entry(employee["id"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
    }
    assert_eq!(sent.len(), ROWS + registered);
    let twice: Vec<_> = sent.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "sent more than once: {twice:?}");
    assert_eq!(bodies(port, "employees_participants").await.len(), registered, "each booking once");
}

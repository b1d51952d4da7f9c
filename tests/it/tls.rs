//! TLS on both sides: callers over HTTPS, with certificates that change at run time; vendors whose certificate a
//! private authority has signed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use examgate::http::{ListenerOptions, Tls};
use reqwest::Version;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ProtocolVersion, SupportedProtocolVersion};

use crate::http::{api_parts, serve_with};
use crate::support::connections::{client, startexam};
use crate::support::gateway::{Gateway, TIMEOUT, http, key, sandbox};
use crate::support::people::person;
use crate::support::tls::{Authority, SignedCertificate, start_tls_proxy};

const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Returns the TLS configuration for this folder.
fn tls(folder: &Path) -> String {
    format!("[server.tls]\ncertificate = \"file:{0}/tls.crt\"\nkey = \"file:{0}/tls.key\"\n", folder.display())
}

fn configure(folder: &Path, more: &str) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nshutdown_delay = \"0s\"\n[store]\n\
         url = \"sqlite:{0}/store.db\"\nencryption_key = \"file:{0}/store.key\"\n{1}\n{more}\n",
        folder.display(),
        client("lms", "", "[\"*\"]")
    );
    std::fs::write(folder.join("examgate.toml"), text).expect("the configuration can be written");
}

/// Starts a gateway with this certificate.
async fn start(certificate: &SignedCertificate, connections: &str) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    certificate.write(folder.path());
    configure(folder.path(), &(tls(folder.path()) + connections));
    Gateway::start_in(folder).await
}

fn url(gateway: &Gateway, path: &str) -> String {
    format!("https://{}{path}", gateway.address)
}

/// Opens a TLS connection.
async fn dial(
    address: SocketAddr,
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let name = "localhost".try_into().expect("a name");
    authority.connector(versions).connect(name, stream).await.expect("TLS")
}

/// Returns whether new connections are shown this certificate.
async fn is_presented(gateway: &Gateway, authority: &Authority, certificate: &SignedCertificate) -> bool {
    let stream = dial(gateway.address, authority, &[&TLS13]).await;
    stream.get_ref().1.peer_certificates().expect("a certificate") == [certificate.der()]
}

/// Reads until the gateway closes; a reset is as good.
async fn read_until_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut response = Vec::new();
    let ended = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut response)).await;
    assert!(ended.is_ok(), "the gateway never closed: {}", String::from_utf8_lossy(&response));
    response
}

/// Waits for this line of the metrics page.
async fn wait_for_metric(operators: SocketAddr, wanted: &str) {
    let began = Instant::now();
    loop {
        let page = http().get(format!("http://{operators}/metrics")).send().await.expect("the operators are served");
        let page = page.text().await.expect("a page");
        if page.lines().any(|line| line == wanted) {
            return;
        }
        assert!(began.elapsed() < TIMEOUT, "{wanted} never came:\n{page}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn callers_are_served_over_tls_with_http_2_and_with_http_1() {
    let (sandbox, authority) = (sandbox().await, Authority::new());
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "");
    let gateway = start(&authority.sign(), &connections).await;
    let newer = authority.client().build().expect("a client");
    let older = authority.client().http1_only().build().expect("a client");
    for (client, version, id) in [(newer, Version::HTTP_2, "a"), (older, Version::HTTP_11, "b")] {
        let request = client.post(url(&gateway, "/candidates")).bearer_auth(key("lms")).json(&person(id));
        let response = request.send().await.expect("a response");
        assert_eq!((response.status().as_u16(), response.version()), (201, version), "{version:?}");
        let location = response.headers()["location"].to_str().expect("text").to_owned();
        let read = client.get(url(&gateway, &location)).bearer_auth(key("lms")).send().await.expect("a response");
        let candidate: Value = read.json().await.expect("a candidate");
        assert_eq!((&candidate["externalId"], &candidate["outcome"]), (&json!(id), &json!("applied")), "{version:?}");
    }
}

#[tokio::test]
async fn tls_1_2_and_later_are_accepted_and_earlier_versions_rejected() {
    let authority = Authority::new();
    let gateway = start(&authority.sign(), "").await;
    for (offered, negotiated) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let mut stream = dial(gateway.address, &authority, &[offered]).await;
        assert_eq!(stream.get_ref().1.protocol_version(), Some(negotiated), "{offered:?}");
        stream.write_all(LIVEZ).await.expect("the request goes out");
        assert!(read_until_closed(&mut stream).await.starts_with(b"HTTP/1.1 200"), "{offered:?}");
    }
    for minor in [0, 1, 2, 3] {
        let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
        stream.write_all(&greeting(minor)).await.expect("the greeting goes out");
        let mut response = [0; 7];
        stream.read_exact(&mut response).await.expect("a response");
        if minor == 3 {
            assert_eq!(response[0], 22, "only the version was wrong: {response:?}");
        } else {
            // A fatal alert, `protocol_version` (RFC 8446, 6).
            assert_eq!((response[0], &response[5..]), (21, &[2, 70][..]), "3.{minor}: {response:?}");
        }
    }
}

/// Returns the `ClientHello` of a client that speaks nothing later than 3.`minor`, where 3.3 is TLS 1.2 (RFC 5246,
/// 7.4.1.2): version, random, no session, old and then-current suites, no compression; groups, signatures and points.
fn greeting(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.extend([0, 0, 6, 0xc0, 0x2b, 0xc0, 0x13, 0, 0x2f, 1, 0]);
    hello.extend([0, 22, 0, 10, 0, 4, 0, 2, 0, 0x17, 0, 13, 0, 4, 0, 2, 4, 3, 0, 11, 0, 2, 1, 0]);
    let length = u8::try_from(hello.len()).expect("short");
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length], &hello[..]].concat()
}

#[tokio::test]
async fn plain_http_on_the_tls_port_gets_no_api_response() {
    let authority = Authority::new();
    let mut gateway = start(&authority.sign(), "").await;
    let operators = gateway.admin_address().await;
    let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
    stream.write_all(LIVEZ).await.expect("the request goes out");
    let response = read_until_closed(&mut stream).await;
    assert!(!String::from_utf8_lossy(&response).contains("HTTP"), "{response:?}");
    wait_for_metric(operators, "examgate_tls_handshakes_failed_total 1").await;
    // The admin listener is plain HTTP anyway.
    let livez = http().get(format!("http://{operators}/livez")).send().await.expect("a response");
    assert_eq!(livez.status(), 200);
}

#[tokio::test]
async fn a_caller_that_does_not_finish_the_handshake_is_dropped() {
    let authority = Authority::new();
    let mut gateway = start(&authority.sign(), "").await;
    let operators = gateway.admin_address().await;
    let silent = async {
        let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
        assert!(read_until_closed(&mut stream).await.is_empty());
    };
    let dripping = async {
        let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
        // The beginning of a `ClientHello` of four kilobytes.
        stream.write_all(&[22, 3, 1, 16, 0, 1, 0, 15, 252]).await.expect("it goes out");
        let began = Instant::now();
        while stream.write_all(&[3]).await.is_ok() {
            assert!(began.elapsed() < TIMEOUT, "the gateway never closed a slow connection");
            let mut response = [0; 64];
            let read = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut response)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                break;
            }
        }
    };
    let agreed = async {
        let mut stream = dial(gateway.address, &authority, &[&TLS13]).await;
        read_until_closed(&mut stream).await;
    };
    tokio::join!(silent, dripping, agreed);
    wait_for_metric(operators, "examgate_tls_handshakes_failed_total 2").await;
    wait_for_metric(operators, "examgate_http_connections 0").await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_dropped_over_tls_too() {
    let authority = Authority::new();
    let mut gateway = start(&authority.sign(), "").await;
    let operators = gateway.admin_address().await;
    let mut stream = dial(gateway.address, &authority, &[&TLS13]).await;
    // Responses of many megabytes: more than the buffers in between can hold.
    let requests = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    stream.write_all(&requests).await.expect("the requests go out");
    wait_for_metric(operators, "examgate_http_connections 1").await;
    wait_for_metric(operators, "examgate_http_connections 0").await;
    drop(stream);
}

#[tokio::test]
async fn over_tls_a_connection_over_the_limit_is_closed_silently() {
    let (authority, keep_alive) = (Authority::new(), Duration::from_mins(10));
    let tls = Some(Tls::new(authority.sign().server()));
    let router = examgate::http::router(&api_parts().await);
    let server = serve_with(router, ListenerOptions { connections: 1, keep_alive, busy: None, tls }).await;
    let mut first = dial(server.address, &authority, &[&TLS13]).await;
    // Its request has begun: it is not evicted.
    first.write_all(b"GET /livez HTTP/1.1\r\n").await.expect("it goes out");
    first.flush().await.expect("it goes out");
    let mut second = TcpStream::connect(server.address).await.expect("a connection");
    assert!(read_until_closed(&mut second).await.is_empty());
    first.write_all(b"Host: a\r\nConnection: close\r\n\r\n").await.expect("it goes out");
    assert!(read_until_closed(&mut first).await.starts_with(b"HTTP/1.1 200"));
}

/// Registers one person after the other, on new connections or on a persistent one, until stopped; returns the
/// statuses, 0 for no response.
async fn run_caller(client: reqwest::Client, url: String, name: &'static str, stop: Arc<AtomicBool>) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let body = person(&format!("{name}-{}", statuses.len()));
        let response = client.post(&url).bearer_auth(key("lms")).json(&body).send().await;
        statuses.push(response.map_or(0, |response| response.status().as_u16()));
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_changes_five_times_without_losing_a_request() {
    let (sandbox, authority) = (sandbox().await, Authority::new());
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "");
    let mut gateway = start(&authority.sign(), &connections).await;
    let stop = Arc::new(AtomicBool::new(false));
    let keeping = authority.client().build().expect("a client");
    let anew = authority.client().pool_max_idle_per_host(0).http1_only().build().expect("a client");
    let callers = [(keeping, "keeping"), (anew, "anew")]
        .map(|(client, name)| tokio::spawn(run_caller(client, url(&gateway, "/candidates"), name, Arc::clone(&stop))));
    for _ in 0..5 {
        let next = authority.sign();
        assert!(!is_presented(&gateway, &authority, &next).await);
        next.write(gateway.folder.path());
        gateway.signal("HUP").await;
        let line = gateway.wait_for_log("configuration reloaded").await;
        assert!(line.lines().last().expect("a line").contains("\"certificate\":\"changed\""), "{line}");
        assert!(is_presented(&gateway, &authority, &next).await);
    }
    gateway.signal("HUP").await;
    let line = gateway.wait_for_log("configuration reloaded").await;
    assert!(!line.lines().last().expect("a line").contains("certificate"), "nothing is another one: {line}");
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        let statuses = caller.await.expect("no caller panicked");
        assert!(!statuses.is_empty() && statuses.iter().all(|status| *status == 201), "{statuses:?}");
    }
}

#[tokio::test]
async fn a_bad_certificate_is_rejected_and_the_previous_one_stays_in_use() {
    let authority = Authority::new();
    let before = authority.sign();
    let mut gateway = start(&before, "").await;
    let folder = gateway.folder.path().to_owned();
    let (one, other) = (authority.sign(), authority.sign());
    SignedCertificate { certificate: one.certificate, key: other.key.clone() }.write(&folder);
    gateway.signal("HUP").await;
    let lines = gateway.wait_for_log("configuration reload rejected").await;
    assert!(lines.contains("server.tls.key: does not belong to the certificate"), "{lines}");
    assert!(is_presented(&gateway, &authority, &before).await);
    other.write(&folder);
    gateway.signal("HUP").await;
    gateway.wait_for_log("configuration reloaded").await;
    assert!(is_presented(&gateway, &authority, &other).await);
    // Whether TLS is used at all was decided at startup.
    configure(&folder, "");
    gateway.signal("HUP").await;
    let lines = gateway.wait_for_log("configuration reloaded").await;
    let restart = lines.lines().find(|line| line.contains("takes a restart")).expect("a line that says so");
    assert!(restart.contains("\"server.tls\""), "{restart}");
    assert!(is_presented(&gateway, &authority, &other).await);
}

#[tokio::test]
async fn a_vendor_with_a_private_authority_is_reached_once_it_is_trusted() {
    let (sandbox, authority) = (sandbox().await, Authority::new());
    let front = start_tls_proxy(sandbox.startexam(), &authority.sign()).await;
    let connection = |more: &str| startexam(&format!("https://localhost:{}", front.port()), more);
    let mut gateway = Gateway::start(&connection("")).await;
    let refused = gateway.post("/candidates", &person("a")).await;
    assert_eq!(refused.problem(), (503, "vendor_unreachable", "not_applied"));
    let folder = gateway.folder.path().to_owned();
    std::fs::write(folder.join("ca.pem"), &authority.pem).expect("the file can be written");
    configure(&folder, &connection(&format!("ca = \"file:{}/ca.pem\"", folder.display())));
    gateway.signal("HUP").await;
    gateway.wait_for_log("configuration reloaded").await;
    let registered = gateway.post("/candidates", &person("a")).await;
    assert_eq!((registered.status, registered.text("/outcome")), (201, "applied"), "{registered:?}");
    // Another authority behind the same reference makes another connection.
    std::fs::write(folder.join("ca.pem"), Authority::new().pem).expect("the file can be written");
    gateway.signal("HUP").await;
    gateway.wait_for_log("configuration reloaded").await;
    let refused = gateway.post("/candidates", &person("b")).await;
    assert_eq!(refused.problem(), (503, "vendor_unreachable", "not_applied"));
}

#[tokio::test]
async fn certificate_errors_name_the_configuration_key_and_show_no_contents() {
    let authority = Authority::new();
    let (one, other) = (authority.sign(), authority.sign());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    one.write(path);
    let hidden: String = other.key.lines().nth(1).expect("a key").chars().take(20).collect();
    for (name, text) in [
        ("other.key", other.key.as_str()),
        ("empty.pem", ""),
        ("none.pem", "nothing of the kind"),
        ("broken.pem", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
        ("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        std::fs::write(path.join(name), text).expect("the file can be written");
    }
    let connection = |ca: &str| startexam("https://vendor.invalid", &format!("ca = \"{ca}\""));
    let server = |certificate: &str, key: &str| {
        let entry =
            |key: &str, name: &str| if name.is_empty() { String::new() } else { format!("{key} = \"{name}\"\n") };
        format!("[server.tls]\n{}{}", entry("certificate", certificate), entry("key", key))
    };
    let (certificate, key) = ("file:tls.crt", "file:tls.key");
    for (text, error) in [
        (server(certificate, ""), "server.tls.key: is missing: a certificate needs its private key"),
        (server("", key), "server.tls.certificate: is missing: the key needs its certificate"),
        (server("file:gone.pem", key), "server.tls.certificate: file gone.pem cannot be read: there is no such file"),
        (server("tls.crt", key), "server.tls.certificate: expected a secret reference"),
        (server("file:empty.pem", key), "server.tls.certificate: file empty.pem is empty"),
        (server("file:none.pem", key), "server.tls.certificate: contains no certificate"),
        (server("file:broken.pem", key), "server.tls.certificate: contains a PEM block that cannot be read"),
        (server("file:nonsense.pem", key), "server.tls.certificate: contains a certificate that cannot be read"),
        (server("file:other.key", key), "server.tls.certificate: contains no certificate"),
        (server(certificate, "file:tls.crt"), "server.tls.key: contains no private key"),
        (server(certificate, "file:other.key"), "server.tls.key: does not belong to the certificate"),
        (server(certificate, key) + "minimum = \"1.3\"\n", "server.tls.minimum: unknown key"),
        (
            connection("file:gone.pem"),
            "connections.startexam-main.ca: file gone.pem cannot be read: there is no such file",
        ),
        (connection("file:none.pem"), "connections.startexam-main.ca: holds no certificate"),
        (connection("file:nonsense.pem"), "connections.startexam-main.ca: holds a certificate that cannot be a root"),
    ] {
        configure(path, &text);
        let mut check = Command::new(env!("CARGO_BIN_EXE_examgate"));
        check.args(["check", "--config", "examgate.toml"]).current_dir(path).stdin(Stdio::null());
        let output = check.output().await.expect("the program runs");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{text}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{text}: {stderr}");
        assert!(stderr.contains(error), "{text}: {stderr}");
        assert!(!stderr.contains(&hidden), "{stderr}");
    }
}

//! The judge of addresses and the client together: what is refused is never connected to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{
    DeliveryClient, DeliveryClientSettings, DeliveryError, DeliveryResponse, HostPattern, HostResolver, Network,
    TargetPolicy, TargetRefusal,
};
use crate::domain::webhook::WebhookSource;
use crate::domain::webhook::secret::SigningKey;
use crate::domain::webhook::signature::{SignatureHeaders, sign};
use crate::transport::RootCertificates;

const TIMEOUT: Duration = Duration::from_mins(1);

/// A server on loopback that counts its connections, keeps what it reads, and responds with fixed bytes.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn start(response: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (response, connections) = (response.into(), Arc::new(AtomicUsize::new(0)));
        let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let (response, sender) = (response.clone(), sender.clone());
                tokio::spawn(async move {
                    let mut buffer = vec![0; 65_536];
                    while let Ok(read) = stream.read(&mut buffer).await
                        && read > 0
                    {
                        sender.send(String::from_utf8_lossy(&buffer[..read]).into_owned()).ok();
                        if response.is_empty() {
                            std::future::pending::<()>().await;
                        }
                        stream.write_all(&response).await.ok();
                    }
                });
            }
        });
        Self { address, connections, requests }
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/hook", self.address.port())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A resolver that answers with the next of these lists each time, and the last one from then on.
struct Script {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Script {
    fn of(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self { answers: answers.iter().map(parse).collect(), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl HostResolver for Script {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.get(asked).or(self.answers.last());
        answer.cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn policy(private: &[&str]) -> TargetPolicy {
    TargetPolicy {
        allow_hosts: ["*.example.com", "example.com"].map(|text| HostPattern::parse(text).unwrap()).to_vec(),
        allow_private: private.iter().map(|text| Network::parse(text).unwrap()).collect(),
        allow_http: true,
    }
}

fn client_of(policy: TargetPolicy, resolver: Arc<dyn HostResolver>, timeout: Duration) -> DeliveryClient {
    let settings = DeliveryClientSettings { policy, timeout, authorities: RootCertificates::default() };
    DeliveryClient::with_resolver(settings, resolver).unwrap()
}

fn signed(body: &[u8]) -> SignatureHeaders {
    let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    sign(&[key], "evt_1", Timestamp::UNIX_EPOCH, body)
}

async fn send(client: &DeliveryClient, url: &str) -> Result<DeliveryResponse, DeliveryError> {
    client.send(WebhookSource::Configuration, url, &signed(b"{}"), Bytes::from_static(b"{}")).await
}

const LOOPBACK: &[&str] = &["127.0.0.0/8"];
const OK: &[u8] = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn a_signed_body_is_posted_to_the_judged_address_under_the_name() {
    let mut server = Server::start(OK).await;
    let client = client_of(policy(LOOPBACK), Script::of(&[&["127.0.0.1"]]), TIMEOUT);
    let answer = send(&client, &server.url("hooks.example.com")).await.unwrap();
    assert_eq!(answer, DeliveryResponse { status: 204, retry_after: None });
    let request = server.requests.recv().await.unwrap().to_lowercase();
    for part in [
        "post /hook http/1.1\r\n",
        &format!("host: hooks.example.com:{}\r\n", server.address.port()),
        "content-type: application/json\r\n",
        "webhook-id: evt_1\r\n",
        "webhook-timestamp: 0\r\n",
        "webhook-signature: v1,",
    ] {
        assert!(request.contains(part), "{part:?} in {request}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_allowed_gets_only_what_the_operator_has_configured() {
    let server = Server::start(OK).await;
    let policy = TargetPolicy { allow_hosts: Vec::new(), ..policy(LOOPBACK) };
    let client = client_of(policy, Script::of(&[&["127.0.0.1"]]), TIMEOUT);
    let url = server.url("hooks.example.com");
    let send = async |source| client.send(source, &url, &signed(b"{}"), Bytes::from_static(b"{}")).await;
    assert_eq!(send(WebhookSource::Api).await, Err(DeliveryError::Refused(TargetRefusal::Host)));
    assert_eq!(server.connections(), 0);
    assert_eq!(send(WebhookSource::Configuration).await.map(|response| response.status), Ok(204));
}

/// Hosts that lead to this machine or to what only it can reach, in every spelling, with what they resolve to.
const HOSTILE_HOSTS: &[(&str, &[&str])] = &[
    ("127.0.0.1", &[]),
    ("127.1", &[]),
    ("127.0.1", &[]),
    ("2130706433", &[]),
    ("0x7f000001", &[]),
    ("0x7f.0.0.1", &[]),
    ("0177.0.0.1", &[]),
    ("017700000001", &[]),
    ("127.0.0.1.", &[]),
    ("0", &[]),
    ("0.0.0.0", &[]),
    ("00.0x0.0.0", &[]),
    ("[::]", &[]),
    ("[::1]", &[]),
    ("[0:0:0:0:0:0:0:1]", &[]),
    ("[::ffff:127.0.0.1]", &[]),
    ("[::ffff:7f00:1]", &[]),
    ("[::127.0.0.1]", &[]),
    ("[::ffff:0:127.0.0.1]", &[]),
    ("[64:ff9b::127.0.0.1]", &[]),
    ("[64:ff9b::7f00:1]", &[]),
    ("[64:ff9b:1::127.0.0.1]", &[]),
    ("[2002:7f00:1::]", &[]),
    ("[2001:0:5ef5:79fd:0:0:80ff:fffe]", &[]),
    ("[fe80::5efe:127.0.0.1]", &[]),
    ("169.254.169.254", &[]),
    ("0xa9fea9fe", &[]),
    ("2852039166", &[]),
    ("0251.0376.0251.0376", &[]),
    ("169.254.43518", &[]),
    ("[::ffff:169.254.169.254]", &[]),
    ("[64:ff9b::a9fe:a9fe]", &[]),
    ("[fd00:ec2::254]", &[]),
    ("[fd00:ec2::23]", &[]),
    ("[fd00:42::42]", &[]),
    ("[fd20:ce::254]", &[]),
    ("100.100.100.200", &[]),
    ("192.0.0.192", &[]),
    ("168.63.129.16", &[]),
    ("10.0.0.1", &[]),
    ("172.16.0.1", &[]),
    ("192.168.0.1", &[]),
    ("100.64.0.1", &[]),
    ("198.18.0.1", &[]),
    ("192.0.2.1", &[]),
    ("224.0.0.1", &[]),
    ("255.255.255.255", &[]),
    ("240.0.0.1", &[]),
    ("[fe80::1]", &[]),
    ("[fec0::1]", &[]),
    ("[ff02::1]", &[]),
    ("[fc00::1]", &[]),
    ("[fd12::1]", &[]),
    ("[2001:db8::1]", &[]),
    ("\u{ff11}27.0.0.1", &[]),
    ("127\u{3002}0\u{3002}0\u{3002}1", &[]),
    ("localhost", &["127.0.0.1"]),
    ("localhost.", &["::1"]),
    ("loop.example.com", &["127.0.0.1"]),
    ("mapped.example.com", &["::ffff:127.0.0.1"]),
    ("mixed.example.com", &["93.184.216.34", "127.0.0.1"]),
    ("metadata.example.com", &["169.254.169.254"]),
    ("metadata6.example.com", &["fd00:ec2::254"]),
    ("nat64.example.com", &["64:ff9b::10.0.0.1"]),
    ("unspecified.example.com", &["0.0.0.0"]),
    ("nothing.example.com", &[]),
];

#[tokio::test]
async fn no_hostile_host_is_connected_to() {
    assert!(HOSTILE_HOSTS.len() >= 60);
    let server = Server::start(OK).await;
    for (host, addresses) in HOSTILE_HOSTS {
        let client = client_of(policy(&[]), Script::of(&[addresses]), TIMEOUT);
        let refused = send(&client, &server.url(host)).await;
        assert!(
            matches!(refused, Err(DeliveryError::Refused(_) | DeliveryError::Address(_) | DeliveryError::Unresolved)),
            "{host}: {refused:?}"
        );
        if let Ok(url) = url::Url::parse(&server.url(host)) {
            let is_refused =
                client.policy().judge_named(url.as_str()).is_err() || client.check_host(&url).await.is_err();
            assert!(is_refused, "{host}");
        }
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn what_is_never_allowed_is_not_connected_to_though_every_network_is() {
    let server = Server::start(OK).await;
    for host in ["0.0.0.0", "[::]", "[::ffff:0.0.0.0]", "169.254.169.254", "[64:ff9b::a9fe:a9fe]", "[fe80::1]"] {
        let client = client_of(policy(&["0.0.0.0/0", "::/0"]), Script::of(&[]), TIMEOUT);
        let refused = send(&client, &server.url(host)).await;
        assert!(matches!(refused, Err(DeliveryError::Refused(TargetRefusal::Address(_)))), "{host}: {refused:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn an_address_without_an_allowed_url_is_not_connected_to() {
    let server = Server::start(OK).await;
    let (port, strict) = (server.address.port(), TargetPolicy { allow_http: false, ..policy(LOOPBACK) });
    let client = client_of(strict, Script::of(&[&["127.0.0.1"]]), TIMEOUT);
    for (url, refusal) in [
        (format!("http://a.example.com:{port}/"), TargetRefusal::Scheme),
        (format!("ftp://a.example.com:{port}/"), TargetRefusal::Scheme),
        ("file:///etc/passwd".to_owned(), TargetRefusal::Scheme),
        (format!("https://user@a.example.com:{port}/"), TargetRefusal::Credentials),
        (format!("https://:secret@a.example.com:{port}/"), TargetRefusal::Credentials),
        (format!("https://a.example.com:{port}/#fragment"), TargetRefusal::Fragment),
        ("//a.example.com/".to_owned(), TargetRefusal::Form),
        ("https://".to_owned(), TargetRefusal::Form),
        (String::new(), TargetRefusal::Form),
    ] {
        assert_eq!(send(&client, &url).await, Err(DeliveryError::Refused(refusal)), "{url}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_name_that_resolves_to_another_address_later_is_judged_again() {
    // The connection ends after each response, so that each attempt connects anew.
    let server = Server::start(&b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"[..]).await;
    let resolver = Script::of(&[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1", "10.0.0.1"]]);
    let client = client_of(policy(&["127.0.0.1/32"]), resolver.clone(), TIMEOUT);
    assert_eq!(send(&client, &server.url("a.example.com")).await.unwrap().status, 200);
    for _ in 0..2 {
        assert!(matches!(send(&client, &server.url("a.example.com")).await, Err(DeliveryError::Address(_))));
    }
    // What was judged is what is connected to: one resolution per connection.
    assert_eq!((server.connections(), resolver.asked.load(Ordering::SeqCst)), (1, 3));
}

#[tokio::test]
async fn a_redirect_is_a_response_and_not_followed() {
    let target = Server::start(OK).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = target.url("127.0.0.1");
        let server =
            Server::start(format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")).await;
        let client = client_of(policy(LOOPBACK), Script::of(&[&["127.0.0.1"]]), TIMEOUT);
        let answer = send(&client, &server.url("a.example.com")).await.unwrap();
        assert_eq!(Some(answer.status), status.split(' ').next().and_then(|code| code.parse().ok()));
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_connection_is_used_again_unless_its_response_is_too_long() {
    let short = Server::start(&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..]).await;
    let mut long = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_vec();
    long.extend(std::iter::repeat_n(b'x', 20_000));
    let long = Server::start(long).await;
    let client = client_of(policy(LOOPBACK), Script::of(&[&["127.0.0.1"]]), TIMEOUT);
    for _ in 0..3 {
        for server in [&short, &long] {
            assert_eq!(send(&client, &server.url("a.example.com")).await.unwrap().status, 200);
        }
    }
    assert_eq!((short.connections(), long.connections()), (1, 3));
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    let server = Server::start(&b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"[..]).await;
    let client = client_of(policy(LOOPBACK), Script::of(&[&["127.0.0.1"]]), TIMEOUT);
    let answer = send(&client, &server.url("a.example.com")).await.unwrap();
    assert_eq!(answer, DeliveryResponse { status: 429, retry_after: Some("7".to_owned()) });
}

#[tokio::test]
async fn one_deadline_spans_resolution_connection_and_response() {
    struct Silent;
    #[async_trait]
    impl HostResolver for Silent {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            std::future::pending().await
        }
    }
    let limit = Duration::from_millis(50);
    let client = client_of(policy(LOOPBACK), Arc::new(Silent), limit);
    let url = "http://a.example.com/";
    assert_eq!(send(&client, url).await, Err(DeliveryError::TimedOut(limit)));
    let server = Server::start(Vec::new()).await;
    let client = client_of(policy(LOOPBACK), Script::of(&[&["127.0.0.1"]]), limit);
    assert_eq!(send(&client, &server.url("a.example.com")).await, Err(DeliveryError::TimedOut(limit)));
    assert_eq!(DeliveryError::TimedOut(limit).to_string(), "No complete response arrived within 50ms.");
}

#[tokio::test]
async fn a_host_without_a_listener_is_not_connected() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let client = client_of(policy(LOOPBACK), Script::of(&[&["127.0.0.1"]]), TIMEOUT);
    let refused = send(&client, &format!("http://a.example.com:{port}/")).await;
    assert!(matches!(refused, Err(DeliveryError::NotConnected(_))), "{refused:?}");
}

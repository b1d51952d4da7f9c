//! The simulators, called with raw HTTP as any client would.

#![expect(clippy::expect_used, reason = "a helper that cannot continue fails the test that called it")]
#![expect(clippy::disallowed_methods, reason = "the tests are their own main and read the clock for the simulators")]

mod control;
mod examtesting;
mod faults;
mod feed;
mod lms;
mod programs;
mod sessions;
mod sittings;
mod startexam;
mod thinkexam;
mod webhook;
mod webhook_forms;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use data_encoding::BASE64;
use examgate::sandbox::{Sandbox, Settings, accounts};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// The simulators on free ports and a client that follows no redirects and retries nothing.
pub struct Bench {
    pub sandbox: Sandbox,
    pub client: reqwest::Client,
}

/// A response, or that there was none.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatorResponse {
    pub status: Option<u16>,
    pub content_type: String,
    pub location: String,
    pub retry_after: String,
    pub date: String,
    pub body: Option<Vec<u8>>,
}

impl SimulatorResponse {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone().expect("a body")).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text()).expect("JSON")
    }
}

impl Bench {
    pub async fn start() -> Self {
        let settings = Settings { host: IpAddr::V4(Ipv4Addr::LOCALHOST), port_base: 0, now: SystemTime::now };
        let sandbox = Sandbox::start(settings).await.expect("free ports");
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client");
        Bench { sandbox, client }
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> SimulatorResponse {
        let nothing = SimulatorResponse {
            status: None,
            content_type: String::new(),
            location: String::new(),
            retry_after: String::new(),
            date: String::new(),
            body: None,
        };
        let Ok(response) = request.timeout(Duration::from_secs(30)).send().await else {
            return nothing;
        };
        let header = |name: &str| {
            response.headers().get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
        };
        let head = SimulatorResponse {
            status: Some(response.status().as_u16()),
            content_type: header("content-type"),
            location: header("location"),
            retry_after: header("retry-after"),
            date: header("date"),
            body: None,
        };
        SimulatorResponse { body: response.bytes().await.ok().map(|bytes| bytes.to_vec()), ..head }
    }

    /// Sets faults or switches, and fails the test if they are rejected.
    pub async fn configure(&self, address: SocketAddr, order: Value) {
        let response = self.send(self.client.post(format!("http://{address}/_faults")).json(&order)).await;
        assert_eq!(response.status, Some(200), "{}", response.text());
    }

    pub async fn set_switch(&self, address: SocketAddr, name: &str, value: impl Into<Value>) {
        self.configure(address, json!({ "switches": { name: value.into() } })).await;
    }

    pub async fn inject_fault(&self, address: SocketAddr, fault: Value) {
        self.configure(address, json!({ "faults": [fault] })).await;
    }

    /// Posts to a control endpoint.
    pub async fn control(&self, address: SocketAddr, path: &str, order: &Value) -> SimulatorResponse {
        self.send(self.client.post(format!("http://{address}{path}")).json(order)).await
    }

    pub async fn effects(&self, address: SocketAddr, query: &str) -> Value {
        let response = self.send(self.client.get(format!("http://{address}/_effects{query}"))).await;
        assert_eq!(response.status, Some(200));
        response.json()
    }

    /// Returns `change subject` of every effect, in order.
    pub async fn changes(&self, address: SocketAddr) -> Vec<String> {
        let effects = self.effects(address, "?calls=false").await;
        let field = |effect: &Value, name: &str| effect[name].as_str().expect("text").to_owned();
        let effects = effects["effects"].as_array().expect("a list").iter();
        effects.map(|effect| format!("{} {}", field(effect, "change"), field(effect, "subject"))).collect()
    }

    pub fn startexam_request(&self, verb: &str, path: &str, body: &str) -> reqwest::RequestBuilder {
        let date = httpdate::fmt_http_date(SystemTime::now());
        let signature = startexam_signature(&format!("{verb} {path} {date} {}", body.len()));
        let url = format!("http://{}{path}", self.sandbox.startexam());
        self.client
            .request(verb.parse().expect("a verb"), url)
            .header("Date", date)
            .header("Authorization", format!("SharedKey {}:{signature}", accounts::startexam::ACCOUNT_ID))
            .body(body.to_owned())
    }

    pub async fn startexam(&self, path: &str, body: &Value) -> SimulatorResponse {
        self.send(self.startexam_request("POST", path, &body.to_string())).await
    }

    pub async fn thinkexam(&self, operation: &str, body: &Value) -> SimulatorResponse {
        self.send(self.thinkexam_request(operation, body)).await
    }

    pub fn thinkexam_request(&self, operation: &str, body: &Value) -> reqwest::RequestBuilder {
        let url = format!("http://{}/api/v1/{operation}", self.sandbox.thinkexam());
        self.client
            .post(url)
            .header("ak", accounts::thinkexam::API_KEY)
            .header("sgn", accounts::thinkexam::STATIC_SIGNATURE)
            .header("ts", accounts::thinkexam::STATIC_TIMESTAMP)
            .json(body)
    }

    pub fn examtesting_request(&self, action: &str, parameters: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("Institutionid", accounts::examtesting::INSTITUTION_ID)
            .append_pair("Apikey", accounts::examtesting::API_KEY)
            .append_pair("ApiPass", accounts::examtesting::API_PASS)
            .extend_pairs(parameters);
        self.client
            .post(format!("http://{}/ManageCandidate.aspx?action={action}", self.sandbox.examtesting()))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form.finish())
    }

    pub async fn examtesting(&self, action: &str, parameters: &[(&str, &str)]) -> SimulatorResponse {
        self.send(self.examtesting_request(action, parameters)).await
    }
}

pub fn startexam_signature(string: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(accounts::startexam::SECRET.as_bytes()).expect("any key");
    mac.update(string.as_bytes());
    BASE64.encode(&mac.finalize().into_bytes())
}

/// Computes the signature of a webhook as in Standard Webhooks 1.0.
pub fn webhook_signature(secret: &str, id: &str, timestamp: u64, body: &str) -> String {
    let key = BASE64.decode(secret.trim_start_matches("whsec_").as_bytes()).expect("Base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any key");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}

/// Returns the present time in whole seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

pub fn employees(ids: &[&str]) -> Value {
    let rows: Vec<_> = ids
        .iter()
        .map(|id| json!({ "id": id, "status": "active", "data": [{ "name": "First Name", "value": "Jo" }] }))
        .collect();
    json!({ "profileId": accounts::startexam::PROFILE_ID, "employees": rows })
}

pub fn registration(ids: &[&str], keep_existing: bool) -> Value {
    json!({
        "center": accounts::startexam::CENTER,
        "validFrom": "2026-01-01T00:00:00Z",
        "validTill": "2026-12-31T00:00:00Z",
        "proctoring": false,
        "doNotCreateIfExist": keep_existing,
        "tests": [accounts::startexam::TESTS[0].0],
        "employees": ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>(),
    })
}

pub fn student(username: &str) -> Vec<(&str, &str)> {
    vec![("groupName", "Group A"), ("email", "jo@example.com"), ("username", username), ("password", "s3cretWord1")]
}

//! Configuration texts of clients and connections, and gateways started with them.

use examgate::sandbox::{Sandbox, accounts};
use sha2::{Digest, Sha256};

use super::gateway::{Gateway, key, sandbox};

/// Returns the configuration of a client with all scopes; `tenant` may be empty.
pub fn client(name: &str, tenant: &str, connections: &str) -> String {
    let scopes: Vec<String> =
        examgate::domain::scope::Scope::ALL.iter().map(|scope| format!("\"{}\"", scope.as_str())).collect();
    client_with(name, tenant, connections, &format!("[{}]", scopes.join(", ")))
}

/// Returns the configuration of a client with these scopes.
pub fn client_with(name: &str, tenant: &str, connections: &str, scopes: &str) -> String {
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(key(name).as_bytes()));
    format!(
        "[auth.clients.{name}]\ntenant = \"{tenant}\"\nkey_sha256 = [\"{hash}\"]\nscopes = {scopes}\nconnections = \
         {connections}\nrate_limit = {{ requests_per_second = 100000, burst = 100000 }}\n"
    )
}

/// Returns one connection to each vendor of a sandbox, fast and without a grace period. `more` is added to every
/// connection.
pub fn sandbox_connections(sandbox: &Sandbox, more: &str) -> String {
    let (start, think, exam) = (sandbox.startexam(), sandbox.thinkexam(), sandbox.examtesting());
    startexam(&format!("http://{start}"), more)
        + &thinkexam(&format!("http://{think}"), more)
        + &examtesting(&format!("http://{exam}"), more)
}

/// The settings of every test connection: no pacing, no grace period.
const FAST: &str =
    "requests_per_second = 0\nsettle_grace = \"0s\"\nretry = { attempts = 2, base = \"1ms\", max = \"2ms\" }";

/// Returns the StartExam connection of the sandbox's account at this address.
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

/// Returns the ThinkExam connection of the sandbox's account at this address, with signatures from its own service.
pub fn thinkexam(address: &str, more: &str) -> String {
    format!(
        "[connections.thinkexam-main]\nvendor = \"thinkexam\"\nbase_url = \"{address}\"\n{FAST}\n{more}\n\
         [connections.thinkexam-main.signature]\nmode = \"remote\"\napi_key = \"plain:{}\"\nsecret = \"plain:{}\"\n\
         url = \"{address}/sim/signature\"\n",
        accounts::thinkexam::API_KEY,
        accounts::thinkexam::SECRET,
    )
}

/// Returns the ExamTesting connection of the sandbox's institution at this address.
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

/// Starts a sandbox and a gateway whose only connection leads to its StartExam; `more` is added to the connection.
pub async fn start_startexam(more: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&startexam(&format!("http://{}", sandbox.startexam()), more)).await;
    (sandbox, gateway)
}

/// Starts a sandbox and a gateway whose only connection leads to its ThinkExam; `more` is added to the connection.
pub async fn start_thinkexam(more: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&thinkexam(&format!("http://{}", sandbox.thinkexam()), more)).await;
    (sandbox, gateway)
}

/// Starts a sandbox and a gateway whose only connection leads to its ExamTesting; `more` is added to the connection.
pub async fn start_examtesting(more: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&examtesting(&format!("http://{}", sandbox.examtesting()), more)).await;
    (sandbox, gateway)
}

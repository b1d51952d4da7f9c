//! The configuration of a gateway for the sandbox: its accounts, one connection for each simulator, and a catalogue of
//! its tests. Shared by `sandbox`, which shows it, and `demo`, which runs with it.

use std::net::SocketAddr;

use crate::domain::scope::Scope;
use crate::sandbox::accounts;
use crate::secret::Secret;

/// Name of the connection to the StartExam simulator.
pub(super) const STARTEXAM: &str = "startexam-main";
/// Name of the connection to the ThinkExam simulator.
pub(super) const THINKEXAM: &str = "thinkexam-main";
/// Name of the connection to the ExamTesting simulator.
pub(super) const EXAMTESTING: &str = "examtesting-main";

/// The program employees are enrolled in, by its catalogue id.
pub(super) const PROGRAM: &str = "onboarding-2026";

/// The percentage that passes every assessment of the catalogue.
pub(super) const PASS_PERCENT: u32 = 60;

/// The secret part of the address at which webhooks are received. Like the accounts, it protects nothing.
const HOOK_TOKEN: &str = "sandbox-thinkexam-hook-token";

/// Addresses of the simulators.
#[derive(Debug, Clone, Copy)]
pub(super) struct Simulators {
    pub(super) startexam: SocketAddr,
    pub(super) thinkexam: SocketAddr,
    pub(super) examtesting: SocketAddr,
    pub(super) lms: SocketAddr,
}

/// Renders a complete configuration file for a gateway in front of these simulators. It contains the key of its only
/// client: like the sandbox's accounts, the file protects nothing.
pub(super) fn file(simulators: Simulators, key: &Secret, hash: &str) -> String {
    let key = key.expose();
    format!(
        "# A gateway in front of `examgate sandbox`, as `examgate sandbox --print-config` prints it. Every key with its\n\
         # default: examgate config example.\n\
         #\n\
         #   examgate serve --config FILE\n\
         #   curl http://127.0.0.1:8080/connections -H 'Authorization: Bearer {key}'\n\
         #\n\
         # The API key in these lines and the accounts below are for the sandbox only: anyone who reads this file has them.\n\
         \n\
         [server]\n\
         listen = \"127.0.0.1:8080\"\n\
         admin_listen = \"127.0.0.1:9090\"\n\
         \n\
         {}\n\
         [store]\n\
         url = \"sqlite:examgate-sandbox.db\"\n\
         # Created with the database.\n\
         encryption_key = \"file:examgate-sandbox.key\"\n\
         \n\
         {}\n\
         {}",
        client("demo", hash),
        webhooks("demo", simulators),
        connections(simulators),
    )
}

/// Renders a client with every scope at every connection.
pub(super) fn client(name: &str, hash: &str) -> String {
    format!("[auth.clients.{name}]\nkey_sha256 = [\"{hash}\"]\n{}\nconnections = [\"*\"]\n", every_scope())
}

/// Renders the key `scopes` with every scope.
pub(super) fn every_scope() -> String {
    let scopes: Vec<String> = Scope::ALL.iter().map(|scope| format!("    {:?},\n", scope.as_str())).collect();
    format!("scopes = [\n{}]", scopes.concat())
}

/// Renders a webhook of this tenant to the LMS, and what permits deliveries to its machine.
pub(super) fn webhooks(tenant: &str, Simulators { lms, .. }: Simulators) -> String {
    let (address, path, secret) = (lms.ip(), accounts::lms::PATH, accounts::lms::SECRET);
    format!(
        "[delivery]\n\
         allow_hosts = [\"{address}\"]\n\
         allow_private = [\"{address}\"]\n\
         allow_http = true\n\
         [webhooks.lms]\n\
         tenant = \"{tenant}\"\n\
         url = \"http://{lms}{path}\"\n\
         secret = \"plain:{secret}\"\n"
    )
}

/// Renders the connections to the simulators, and the catalogue.
pub(super) fn connections(simulators: Simulators) -> String {
    let Simulators { startexam, thinkexam, examtesting, lms: _ } = simulators;
    format!(
        "{}\n{}\n{}\n{}",
        self::startexam(startexam),
        self::thinkexam(thinkexam),
        self::examtesting(examtesting),
        catalogue()
    )
}

fn startexam(address: SocketAddr) -> String {
    let (beginning, account) = (beginning(STARTEXAM, "startexam", address), startexam_account());
    format!("{beginning}{account}settle_grace = \"1s\"\n[connections.{STARTEXAM}.results]\nmode = \"feed\"\n")
}

// ThinkExam documents no address at which a test starts; operators set theirs, and this one is made up.
fn thinkexam(address: SocketAddr) -> String {
    let (beginning, account) = (beginning(THINKEXAM, "thinkexam", address), thinkexam_account());
    let key = accounts::thinkexam::WEBHOOK_KEY;
    format!(
        "{beginning}\
         link_template = \"https://exams.example.com/start?token={{token}}\"\n\
         [connections.{THINKEXAM}.results]\n\
         mode = \"webhook\"\n\
         keys = [\"plain:{key}\"]\n\
         path_token = \"plain:{HOOK_TOKEN}\"\n\
         [connections.{THINKEXAM}.signature]\n\
         mode = \"remote\"\n\
         {account}\
         url = \"http://{address}/sim/signature\"\n"
    )
}

fn examtesting(address: SocketAddr) -> String {
    let (beginning, account) = (beginning(EXAMTESTING, "examtesting", address), examtesting_account());
    format!("{beginning}{account}")
}

fn beginning(name: &str, vendor: &str, address: SocketAddr) -> String {
    let plain = if address.ip().is_loopback() { "" } else { "allow_http = true\n" };
    format!(
        "[connections.{name}]\nvendor = \"{vendor}\"\nbase_url = \"http://{address}\"\n{plain}requests_per_second = 0\n"
    )
}

/// Every test of the sandbox: its connection, its id at the vendor and its name.
fn tests() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let startexam = accounts::startexam::TESTS.iter().map(|(reference, name)| (STARTEXAM, *reference, *name));
    startexam.chain(accounts::thinkexam::TESTS.iter().map(|(reference, name)| (THINKEXAM, *reference, *name)))
}

/// Returns the id in the catalogue of the test with this name.
fn catalogue_id(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

/// Returns the vendor's own id of the assessment with this id in the catalogue.
pub(super) fn reference_of(id: &str) -> Option<&'static str> {
    tests().find(|(_, _, name)| catalogue_id(name) == id).map(|(_, reference, _)| reference)
}

/// Returns the path of the receiver of webhooks about this assessment of the catalogue.
pub(super) fn receiver_path(assessment: &str) -> String {
    format!("{}/{assessment}", common_receiver_path())
}

/// Returns the path of the receiver of webhooks that do not say which assessment they are about.
pub(super) fn common_receiver_path() -> String {
    format!("/receivers/{THINKEXAM}/{HOOK_TOKEN}")
}

/// Renders the catalogue: every test of the sandbox under a readable id, and its program.
fn catalogue() -> String {
    let assessments = tests().map(|(connection, reference, name)| {
        let id = catalogue_id(name);
        format!(
            "[assessments.{id}]\nname = \"{name}\"\nconnection = \"{connection}\"\nref = \"{reference}\"\n\
             pass_percent = {PASS_PERCENT}.0\n"
        )
    });
    let reference = accounts::startexam::PROGRAM_ID;
    let program = format!(
        "[programs.{PROGRAM}]\nname = \"Onboarding 2026\"\nconnection = \"{STARTEXAM}\"\nref = \"{reference}\"\n"
    );
    assessments.chain([program]).collect()
}

/// The account's settings, as lines of a configuration.
pub(super) fn startexam_account() -> String {
    use accounts::startexam::{ACCOUNT_ID, CENTER, PROFILE_ID, SECRET};
    format!(
        "account_id = {ACCOUNT_ID}\nsecret = \"plain:{SECRET}\"\ncenter = \"{CENTER}\"\nprofile_id = \
         \"{PROFILE_ID}\"\n"
    )
}

/// See [`startexam_account`].
pub(super) fn thinkexam_account() -> String {
    use accounts::thinkexam::{API_KEY, SECRET};
    format!("api_key = \"plain:{API_KEY}\"\nsecret = \"plain:{SECRET}\"\n")
}

/// See [`startexam_account`].
pub(super) fn examtesting_account() -> String {
    use accounts::examtesting::{API_KEY, API_PASS, INSTITUTION_ID};
    format!("institution_id = \"{INSTITUTION_ID}\"\napi_key = \"plain:{API_KEY}\"\napi_pass = \"plain:{API_PASS}\"\n")
}

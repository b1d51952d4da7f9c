//! The demo's parts: the sandbox, a configuration generated in memory with a fresh key, and an in-memory store. It
//! reads no files and leaves none behind.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tokio::net::TcpListener;

use crate::commands::demo::people::Vendor;
use crate::commands::sandbox::{examtesting_account, startexam_account, thinkexam_account};
use crate::commands::{Failure, Process, key};
use crate::config::{self, HostAccess, Sources, Startup};
use crate::domain::scope::Scope;
use crate::sandbox::{Sandbox, Settings, accounts};
use crate::secret::Secret;
use crate::store::Keyring;

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The program employees are enrolled in, by its catalogue id.
pub(super) const PROGRAM: &str = "onboarding-2026";

/// Opens the gateway's listener.
pub(super) async fn listen(port: u16) -> Result<TcpListener, Failure> {
    TcpListener::bind((LOOPBACK, port)).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Failure::Other(format!(
            "port {port} is in use by another program; choose one with --port N, or let --port 0 pick a free one"
        )),
        _ => Failure::other(&format!("cannot listen on port {port}"), error),
    })
}

pub(super) async fn sandbox(process: &Process) -> Result<Sandbox, Failure> {
    let settings = Settings { host: LOOPBACK, port_base: 0, now: process.now };
    Sandbox::start(settings).await.map_err(|error| Failure::other("the simulators cannot start", error))
}

/// Returns the address of this vendor's simulator.
pub(super) fn simulator(sandbox: &Sandbox, vendor: Vendor) -> SocketAddr {
    match vendor {
        Vendor::StartExam => sandbox.startexam(),
        Vendor::ThinkExam => sandbox.thinkexam(),
        Vendor::ExamTesting => sandbox.examtesting(),
    }
}

/// Prepares the gateway's configuration through the same code as a file's.
pub(super) fn prepared(
    listen: SocketAddr,
    sandbox: &Sandbox,
    api_key: &Secret,
    process: &Process,
) -> Result<Startup, Failure> {
    let text = configuration(listen, sandbox, api_key, &Keyring::generate(&process.environment));
    let sources = Sources { file: Some((PathBuf::from("demo.toml"), text)), environment: Vec::new() };
    let machine = HostAccess { secrets: process, files: process, environment: &process.environment };
    Ok(config::prepare(&sources, &machine)?)
}

fn configuration(listen: SocketAddr, sandbox: &Sandbox, api_key: &Secret, sealing: &Secret) -> String {
    let hash = key::hash(api_key);
    let scopes: Vec<String> = Scope::ALL.iter().map(|scope| format!("{:?}", scope.as_str())).collect();
    let (scopes, sealing) = (scopes.join(", "), sealing.expose());
    format!(
        "[server]\n\
         listen = \"{listen}\"\n\
         admin_listen = \"\"\n\
         [auth.clients.demo]\n\
         key_sha256 = [\"{hash}\"]\n\
         scopes = [{scopes}]\n\
         connections = [\"*\"]\n\
         [store]\n\
         url = \"sqlite:demo-in-memory\"\n\
         encryption_key = \"plain:{sealing}\"\n\
         {}{}{}{}",
        startexam(sandbox.startexam()),
        thinkexam(sandbox.thinkexam()),
        examtesting(sandbox.examtesting()),
        catalogue(),
    )
}

fn startexam(address: SocketAddr) -> String {
    let account = startexam_account();
    format!(
        "[connections.startexam-main]\n\
         vendor = \"startexam\"\n\
         base_url = \"http://{address}\"\n\
         {account}\
         settle_grace = \"1s\"\n\
         requests_per_second = 0\n"
    )
}

// ThinkExam documents no address at which a test starts; operators set theirs, and this one is made up.
fn thinkexam(address: SocketAddr) -> String {
    let account = thinkexam_account();
    format!(
        "[connections.thinkexam-main]\n\
         vendor = \"thinkexam\"\n\
         base_url = \"http://{address}\"\n\
         link_template = \"https://exams.example.com/start?token={{token}}\"\n\
         requests_per_second = 0\n\
         [connections.thinkexam-main.signature]\n\
         mode = \"remote\"\n\
         {account}\
         url = \"http://{address}/sim/signature\"\n"
    )
}

fn examtesting(address: SocketAddr) -> String {
    let account = examtesting_account();
    format!(
        "[connections.examtesting-main]\n\
         vendor = \"examtesting\"\n\
         base_url = \"http://{address}\"\n\
         {account}\
         requests_per_second = 0\n"
    )
}

/// Renders the catalogue: every test of the sandbox under a readable id, and its program.
fn catalogue() -> String {
    use accounts::{startexam, thinkexam};
    let startexam = startexam::TESTS.iter().map(|test| (Vendor::StartExam, test));
    let thinkexam = thinkexam::TESTS.iter().map(|test| (Vendor::ThinkExam, test));
    let assessments = startexam.chain(thinkexam).map(|(vendor, (reference, name))| {
        let (id, connection) = (name.to_lowercase().replace(' ', "-"), vendor.connection());
        format!("[assessments.{id}]\nname = \"{name}\"\nconnection = \"{connection}\"\nref = \"{reference}\"\n")
    });
    let (connection, reference) = (Vendor::StartExam.connection(), accounts::startexam::PROGRAM_ID);
    let program = format!(
        "[programs.{PROGRAM}]\nname = \"Onboarding 2026\"\nconnection = \"{connection}\"\nref = \"{reference}\"\n"
    );
    assessments.chain([program]).collect()
}

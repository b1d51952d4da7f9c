//! The demo's parts: the sandbox, a configuration generated in memory with a fresh key, and an in-memory store. It
//! reads no files and leaves none behind.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tokio::net::TcpListener;

use crate::commands::demo::people::Vendor;
use crate::commands::sandbox_config::{self, Simulators};
use crate::commands::{Failure, Process, key};
use crate::config::{self, HostAccess, Sources, Startup};
use crate::sandbox::{Sandbox, Settings};
use crate::secret::Secret;
use crate::store::Keyring;

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

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
    let client = sandbox_config::client("demo", &key::hash(api_key));
    let simulators = Simulators {
        startexam: sandbox.startexam(),
        thinkexam: sandbox.thinkexam(),
        examtesting: sandbox.examtesting(),
        lms: sandbox.lms(),
    };
    let (sealing, connections) = (sealing.expose(), sandbox_config::connections(simulators));
    let webhooks = sandbox_config::webhooks("demo", simulators);
    format!(
        "[server]\n\
         listen = \"{listen}\"\n\
         admin_listen = \"\"\n\
         {client}\
         [store]\n\
         url = \"sqlite:demo-in-memory\"\n\
         encryption_key = \"plain:{sealing}\"\n\
         {webhooks}\
         {connections}"
    )
}

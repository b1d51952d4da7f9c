//! `sandbox`: runs the simulators of the three vendors and of an LMS.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};

use super::signals::StopListener;
use super::{Failure, Process, key, runtime, say};
use crate::commands::sandbox_config::{self, Simulators, examtesting_account, startexam_account, thinkexam_account};
use crate::sandbox::{Sandbox, Settings, accounts, known_faults};

/// The highest first port of four.
const MAX_PORT_BASE: i64 = 65_532;

/// Run wire-accurate simulators, one port each: StartExam, ThinkExam, ExamTesting, and an LMS that receives webhooks
#[derive(Args)]
#[command(
    after_help = "Examples:\n  examgate sandbox\n  examgate sandbox --port-base 0          (four free ports)\n  \
                        examgate sandbox --print-config > examgate.toml    (a gateway's configuration for it)\n  \
                        curl http://127.0.0.1:9101/_faults      (the faults it can inject)\n\nThe accounts \
                        are public and protect nothing: use them on loopback and test networks only."
)]
pub(super) struct Options {
    /// The address to listen on
    #[arg(long, value_name = "H", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_parser = host)]
    host: IpAddr,
    /// The first of four consecutive ports; 0 picks four free ones
    #[arg(long, value_name = "PORT", default_value_t = 9101, value_parser = clap::value_parser!(u16).range(..=MAX_PORT_BASE))]
    port_base: u16,
    /// Print a gateway's complete configuration for the simulators at these ports, and start nothing
    #[arg(long)]
    print_config: bool,
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    if options.print_config {
        return print_config(options, process);
    }
    let settings = Settings { host: options.host, port_base: options.port_base, now: process.now };
    runtime()?.block_on(async {
        let stop = StopListener::listen()?;
        let sandbox = Sandbox::start(settings).await.map_err(|error| unstarted(options, &error))?;
        say(overview(&sandbox))?;
        stop.asked().await;
        sandbox.stop().await;
        Ok(())
    })
}

fn host(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "expected an IP address such as 127.0.0.1 or ::1".to_owned())
}

fn unstarted(options: &Options, error: &io::Error) -> Failure {
    let Options { host, port_base, .. } = options;
    let last = port_base + if *port_base == 0 { 0 } else { 3 };
    Failure::Other(match error.kind() {
        ErrorKind::AddrInUse => format!(
            "the sandbox cannot start: one of the ports {port_base} to {last} of {host} is in use by another program; choose \
             others with --port-base PORT, or --port-base 0 for free ones"
        ),
        ErrorKind::AddrNotAvailable => {
            format!("the sandbox cannot start: --host {host} is not an address of this machine")
        }
        _ => format!("the sandbox cannot start on {host}: {error}"),
    })
}

fn print_config(options: &Options, process: &Process) -> Result<(), Failure> {
    if options.port_base == 0 {
        let detail = "--print-config: needs the ports beforehand; name the first with --port-base PORT instead of 0";
        return Err(Failure::Usage(vec![detail.to_owned()]));
    }
    // An address that means "all of this machine's" is none to connect to.
    let host = match options.host {
        IpAddr::V4(host) if host.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(host) if host.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        host => host,
    };
    let port = |number| SocketAddr::new(host, options.port_base + number);
    let simulators = Simulators { startexam: port(0), thinkexam: port(1), examtesting: port(2), lms: port(3) };
    let api_key = key::generate(process);
    say(sandbox_config::file(simulators, &api_key, &key::hash(&api_key)).trim_end())
}

fn overview(sandbox: &Sandbox) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["vendor", "base_url", "account"]);
    let first_id = |tests: &[(&'static str, &'static str)]| tests.first().map_or("", |(id, _)| *id);
    let startexam = format!("{}assessment {}", startexam_account(), first_id(accounts::startexam::TESTS));
    let course = accounts::thinkexam::COURSES.first().unwrap_or(&"");
    let test = first_id(accounts::thinkexam::TESTS);
    let thinkexam = format!("{}assessment {test}, group {course}", thinkexam_account());
    let group = accounts::examtesting::GROUPS.first().unwrap_or(&"");
    let examtesting = format!("{}group {group}", examtesting_account());
    table.add_row(["startexam".to_owned(), address(sandbox.startexam()), startexam]);
    table.add_row(["thinkexam".to_owned(), address(sandbox.thinkexam()), thinkexam]);
    table.add_row(["examtesting".to_owned(), address(sandbox.examtesting()), examtesting]);
    let hook = format!("{}{}", address(sandbox.lms()), accounts::lms::PATH);
    table.add_row(["an LMS (webhooks)".to_owned(), hook, format!("secret = \"plain:{}\"", accounts::lms::SECRET)]);
    let (first, lms) = (address(sandbox.startexam()), address(sandbox.lms()));
    let fault = known_faults().find_map(|(vendor, fault, _)| (vendor == "startexam").then_some(fault)).unwrap_or("…");
    format!(
        "{table}\n\
         Faults, on each port:  curl {first}/_faults            (the catalogue)\n\
         \x20                      curl {first}/_faults -d '{{\"add\":[{{\"name\":\"{fault}\",\"times\":1}}]}}'   (inject into the next call)\n\
         Recorded effects:      curl {first}/_effects\n\
         Received webhooks:     curl {lms}/_ledger\n\
         Reset:                 curl -X POST {first}/_reset\n\
         Stop with Ctrl-C."
    )
}

fn address(address: SocketAddr) -> String {
    format!("http://{address}")
}

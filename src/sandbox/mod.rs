//! Wire-true simulators of the three vendors, one port each, for people who build or test against examgate.
//!
//! Each simulator does the vendor's checks in a fixed order, keeps the vendor's state, answers in the vendor's own bytes and
//! misbehaves on demand; control endpoints tell what really happened. What the vendors document and what is assumed is
//! told apart in docs/SANDBOX.md.
//!
//! The sandbox must never share code with the adapters under `vendors`: two readings of the same fact sheet that agree
//! prove more than one reading used twice. It is for loopback and test networks; its accounts are public.
//!
//! Left out, and answered like any unknown path: `StartExam`'s legacy v1 calls, and `ThinkExam`'s calls whose paths are not
//! published.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use tokio::net::TcpListener;

use crate::sandbox::simulator::{Profile, Simulator, Vendor};
use server::Stopper;

pub mod accounts;

mod control;
mod effects;
mod examtesting;
mod fault_kinds;
mod faults;
mod http_types;
mod ids;
mod ordered_json;
mod parameters;
mod server;
mod simulator;
mod startexam;
mod thinkexam;
mod webhooks;

/// Where the sandbox listens and what time it is there.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The address to listen on, normally loopback.
    pub host: IpAddr,
    /// 0 for three free ports, else the first of three ports in a row: `StartExam`, `ThinkExam`, `ExamTesting`.
    pub port_base: u16,
    /// The vendors' clock.
    pub now: fn() -> SystemTime,
}

/// Three running simulators.
#[derive(Debug)]
pub struct Sandbox {
    addresses: [SocketAddr; 3],
    stopper: Stopper,
}

impl Sandbox {
    /// Binds three ports and serves on them in the background.
    ///
    /// # Errors
    ///
    /// When a port cannot be bound, or `port_base` leaves no room for three ports.
    pub async fn start(settings: Settings) -> io::Result<Sandbox> {
        let base = settings.port_base;
        let ports = [port(base, 0)?, port(base, 1)?, port(base, 2)?];
        let mut listeners = Vec::new();
        for port in ports {
            listeners.push(TcpListener::bind((settings.host, port)).await?);
        }
        let start = (settings.now)();
        let vendors: [(Profile, Box<dyn Vendor>); 3] = [
            (startexam::PROFILE, Box::new(startexam::StartExam::new(start))),
            (thinkexam::PROFILE, Box::new(thinkexam::ThinkExam::new(start))),
            (examtesting::PROFILE, Box::new(examtesting::ExamTesting::new())),
        ];
        let stopper = Stopper::default();
        let mut addresses = [SocketAddr::new(settings.host, 0); 3];
        for ((listener, (profile, vendor)), address) in listeners.into_iter().zip(vendors).zip(&mut addresses) {
            *address = listener.local_addr()?;
            server::serve(listener, Arc::new(Simulator::new(profile, vendor, settings.now)), &stopper);
        }
        Ok(Sandbox { addresses, stopper })
    }

    /// Where the `StartExam` simulator listens.
    #[must_use]
    pub fn startexam(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where the `ThinkExam` simulator listens.
    #[must_use]
    pub fn thinkexam(&self) -> SocketAddr {
        self.addresses[1]
    }

    /// Where the `ExamTesting` simulator listens.
    #[must_use]
    pub fn examtesting(&self) -> SocketAddr {
        self.addresses[2]
    }

    /// Lets calls in progress end for up to two seconds, then ends them.
    pub async fn stop(self) {
        self.stopper.stop().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stopper.end();
    }
}

/// Every fault of every vendor: the vendor, the fault's name, what it means. For documents and their tests.
pub fn known_faults() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    profiles().into_iter().flat_map(|profile| profile.kinds().map(move |kind| (profile.name, kind.name, kind.meaning)))
}

/// Every lasting switch of every vendor: the vendor, the switch's name, what it means.
pub fn known_switches() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    profiles()
        .into_iter()
        .flat_map(|profile| profile.switches.iter().map(move |knob| (profile.name, knob.name, knob.meaning)))
}

fn profiles() -> [Profile; 3] {
    [startexam::PROFILE, thinkexam::PROFILE, examtesting::PROFILE]
}

fn port(base: u16, offset: u16) -> io::Result<u16> {
    if base == 0 {
        return Ok(0);
    }
    base.checked_add(offset).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("port base {base} leaves no room for three ports"))
    })
}

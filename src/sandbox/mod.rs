//! Wire-accurate simulators of the three vendors, and of an LMS that receives webhooks, one port each, for building and
//! testing against examgate.
//!
//! Each simulator performs the vendor's checks in a fixed order, keeps the vendor's state, responds byte for byte like
//! the vendor and injects faults on request; control endpoints report what really happened. docs/SANDBOX.md separates
//! what the vendors document from what is assumed.
//!
//! The sandbox must never share code with the adapters under `vendors`: two independent readings of the same fact sheet
//! that agree prove more than one reading used twice. Use it on loopback and test networks only; its accounts are
//! public.
//!
//! Not implemented, and answered like any unknown path: `StartExam`'s legacy v1 calls, and `ThinkExam`'s calls whose
//! paths are not published.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use tokio::net::TcpListener;

use crate::sandbox::simulator::Simulator;
use crate::sandbox::vendor::{Profile, Vendor};
use server::ShutdownHandle;

pub mod accounts;

mod control;
mod effects;
mod examtesting;
mod fault_kinds;
mod faults;
mod http_types;
mod ids;
mod lms;
mod ordered_json;
mod parameters;
mod server;
mod simulator;
mod startexam;
mod thinkexam;
mod vendor;
mod webhooks;

/// The sandbox's address and clock.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The address to listen on, normally loopback.
    pub host: IpAddr,
    /// 0 for four free ports, else the first of four consecutive ports: `StartExam`, `ThinkExam`, `ExamTesting`, the LMS.
    pub port_base: u16,
    /// The vendors' clock.
    pub now: fn() -> SystemTime,
}

/// Four running simulators.
#[derive(Debug)]
pub struct Sandbox {
    addresses: [SocketAddr; 4],
    stopper: ShutdownHandle,
}

impl Sandbox {
    /// Binds four ports and serves on them in the background.
    ///
    /// # Errors
    ///
    /// If a port cannot be bound, or `port_base` leaves no room for four ports.
    pub async fn start(settings: Settings) -> io::Result<Sandbox> {
        let base = settings.port_base;
        let ports = [port(base, 0)?, port(base, 1)?, port(base, 2)?, port(base, 3)?];
        let mut listeners = Vec::new();
        for port in ports {
            listeners.push(TcpListener::bind((settings.host, port)).await?);
        }
        let start = (settings.now)();
        let vendors: [(Profile, Box<dyn Vendor>); 4] = [
            (startexam::PROFILE, Box::new(startexam::StartExam::new(start))),
            (thinkexam::PROFILE, Box::new(thinkexam::ThinkExam::new(start))),
            (examtesting::PROFILE, Box::new(examtesting::ExamTesting::new())),
            (lms::PROFILE, Box::new(lms::Lms::new())),
        ];
        let stopper = ShutdownHandle::default();
        let mut addresses = [SocketAddr::new(settings.host, 0); 4];
        for ((listener, (profile, vendor)), address) in listeners.into_iter().zip(vendors).zip(&mut addresses) {
            *address = listener.local_addr()?;
            server::serve(listener, Arc::new(Simulator::new(profile, vendor, settings.now)), &stopper);
        }
        Ok(Sandbox { addresses, stopper })
    }

    /// Returns the address of the `StartExam` simulator.
    #[must_use]
    pub fn startexam(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Returns the address of the `ThinkExam` simulator.
    #[must_use]
    pub fn thinkexam(&self) -> SocketAddr {
        self.addresses[1]
    }

    /// Returns the address of the `ExamTesting` simulator.
    #[must_use]
    pub fn examtesting(&self) -> SocketAddr {
        self.addresses[2]
    }

    /// Returns the address of the LMS that receives webhooks.
    #[must_use]
    pub fn lms(&self) -> SocketAddr {
        self.addresses[3]
    }

    /// Stops the simulators, giving calls in flight up to two seconds to finish.
    pub async fn stop(self) {
        self.stopper.stop().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stopper.end();
    }
}

/// Lists every fault of every simulator: vendor or LMS, name, meaning. For documents and their tests.
pub fn known_faults() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    profiles().into_iter().flat_map(|profile| profile.kinds().map(move |kind| (profile.name, kind.name, kind.meaning)))
}

/// Lists every lasting switch of every simulator: vendor or LMS, name, meaning.
pub fn known_switches() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    profiles()
        .into_iter()
        .flat_map(|profile| profile.switches.iter().map(move |knob| (profile.name, knob.name, knob.meaning)))
}

fn profiles() -> [Profile; 4] {
    [startexam::PROFILE, thinkexam::PROFILE, examtesting::PROFILE, lms::PROFILE]
}

fn port(base: u16, offset: u16) -> io::Result<u16> {
    if base == 0 {
        return Ok(0);
    }
    base.checked_add(offset).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("port base {base} leaves no room for four ports"))
    })
}

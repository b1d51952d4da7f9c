//! Test support: the real program as a process of its own, the sandbox, a scripted vendor, and builders of requests and
//! configurations.

pub mod collector;
pub mod connections;
pub mod gateway;
pub mod issuer;
pub mod machine;
pub mod people;
pub mod postgres;
pub mod relay;
pub mod snapshots;
pub mod tls;
pub mod vendor;
pub mod watch;

//! What the behaviour tests stand on: the real program as a process of its own, the sandbox, and a vendor that answers
//! whatever a test wants.

pub mod collector;
pub mod gateway;
pub mod issuer;
pub mod machine;
pub mod postgres;
pub mod relay;
pub mod tls;
pub mod vendor;
pub mod watch;

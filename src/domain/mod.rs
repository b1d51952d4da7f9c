//! The words of the API as types: what a candidate, an assignment, a program is, what can be known of a write, what can
//! go wrong, and what a vendor must be able to do.
//!
//! It names no I/O library and performs none: no socket, no file, no clock, no randomness of its own. A value that exists
//! here is valid; whoever builds one learns every fault of the input at once.

pub mod assignment;
pub mod audit;
pub mod candidate;
pub mod capability;
pub mod deserialize;
pub mod error;
pub mod exchange;
pub mod ids;
pub mod intent;
pub mod operation;
pub mod outcome;
pub mod program;
pub mod scope;
pub mod system;
pub mod units;
pub mod validation;
pub mod vendor;

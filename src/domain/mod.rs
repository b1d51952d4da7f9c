//! The API's vocabulary as types: candidates, assignments, programs, outcomes, errors, and the trait that vendors
//! implement.
//!
//! This module names no I/O library and performs no I/O: no socket, no file, no clock, no randomness of its own. A
//! value that exists here is valid; constructors report all errors of the input at once.

pub mod assignment;
pub mod audit;
pub mod candidate;
pub mod capability;
pub mod date_time;
pub mod deserialize;
pub mod error;
pub mod event;
pub mod exchange;
pub mod identity;
pub mod ids;
pub mod intent;
pub mod operation;
pub mod outcome;
pub mod program;
pub mod record;
pub mod results;
pub mod scope;
pub mod subject;
pub mod suggest;
pub mod system;
pub mod table;
pub mod transition;
pub mod units;
pub mod validation;
pub mod vendor;
pub mod vendor_error;
pub mod webhook;
pub mod words;

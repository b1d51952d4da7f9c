//! Results: reads reports from the vendors' feeds and receivers, matches them with candidates and assignments, folds them
//! into results, and answers requests about results and reports.

mod queries;
mod receiver;
mod receiver_addresses;
mod requests;

pub use self::queries::{ReportQuery, ReportView, ResultQuery, ResultView};
pub use self::receiver::{Receiver, Refusal};
pub use self::receiver_addresses::{ReceiverAddress, receiver_addresses};
pub use self::requests::ReportTarget;

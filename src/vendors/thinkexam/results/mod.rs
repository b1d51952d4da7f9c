//! Reads what `ThinkExam` reports of a finished test in a webhook, in both forms of its body. Pure functions of bytes and
//! settings.
//!
//! It keeps no answers (`details`) and no name, mobile number, city, gender or age. Whatever has a form that the vendor does
//! not document is rejected, with a reason that holds nothing of the report.

mod exam_date;
mod reader_settings;
mod settings;
#[cfg(test)]
mod tests;
mod webhook;

pub use exam_date::DateFormat;
pub use reader_settings::{BodyForm, MatchStep, ReaderSettings};
pub use settings::{OnRefusal, ReceiverSettings, ResultsSettings, WebhookMode};
pub use webhook::read_webhook;

//! The addresses at which vendors deliver their webhooks, as the configuration names them. They hold secrets.

use std::collections::BTreeMap;
use std::{fmt, iter};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::results::{ReportChannel, ReportSource};
use crate::secret::MASK;
use crate::service::{Catalogue, ConnectionSetup};

/// Everything but what stands for itself in a segment of a path (RFC 3986 §2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The address of a receiver, for the vendor's panel.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiverAddress {
    /// The connection.
    pub connection: String,
    /// The path below the API's base path, with the secret token.
    pub path: String,
    /// The catalogue's id of the assessment that the path names, if any.
    pub assessment: Option<String>,
}

impl fmt::Debug for ReceiverAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, path: _, assessment } = self;
        f.debug_struct("ReceiverAddress")
            .field("connection", connection)
            .field("path", &MASK)
            .field("assessment", assessment)
            .finish()
    }
}

/// Returns the addresses of all receivers: of each connection that receives webhooks the one for any assessment, then one
/// for each assessment of the catalogue.
#[must_use]
pub fn receiver_addresses(
    connections: &BTreeMap<String, ConnectionSetup>,
    catalogue: &Catalogue,
) -> Vec<ReceiverAddress> {
    let mut addresses = Vec::new();
    for (name, setup) in connections {
        let Some(ReportChannel::Receiver(plan)) = setup.connected.vendor.report_source().map(ReportSource::channel)
        else {
            continue;
        };
        addresses.push(address(name, plan.path_token.expose(), None));
        let assessments = catalogue.assessments.values().filter(|entry| entry.connection == *name);
        addresses.extend(assessments.map(|entry| address(name, plan.path_token.expose(), Some(&entry.id))));
    }
    addresses
}

fn address(connection: &str, token: &str, assessment: Option<&str>) -> ReceiverAddress {
    let segments = ["receivers", connection, token].into_iter().chain(assessment);
    let path = segments.flat_map(|segment| iter::once("/").chain(utf8_percent_encode(segment, ESCAPED))).collect();
    ReceiverAddress { connection: connection.to_owned(), path, assessment: assessment.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_segment_is_escaped() {
        let address = address("thinkexam-main", "a/b c+d", Some("ext:7"));
        assert_eq!(address.path, "/receivers/thinkexam-main/a%2Fb%20c%2Bd/ext%3A7");
        assert!(!format!("{address:?}").contains("a%2Fb"), "{address:?}");
    }
}

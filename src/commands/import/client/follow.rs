//! Follows a stream of Server-Sent Events, and connects again when it ends.

use std::cell::RefCell;
use std::time::Duration;

use http::HeaderName;
use http::header::{ACCEPT, CONTENT_TYPE};
use tokio::time::timeout;
use url::Url;

use super::super::super::Failure;
use super::{Client, RESPONSE_TIMEOUT, RequestFailure};

const EVENTS: &str = "text/event-stream";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Longest silence of a stream: the gateway sends something every 15 seconds.
const MAX_SILENCE: Duration = Duration::from_mins(1);
/// Pause before a stream that has ended is opened again.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest line of a stream.
const MAX_LINE: usize = 1 << 20;

/// Splits a stream into events (WHATWG HTML, "Server-sent events").
#[derive(Default)]
struct EventParser {
    line: Vec<u8>,
    data: String,
    id: Option<String>,
}

/// An event of a stream.
struct StreamEvent {
    /// The id of the last event so far.
    id: Option<String>,
    /// What it says; empty if only the id has moved.
    data: String,
}

impl EventParser {
    /// Takes a byte; returns the event that it completes.
    fn push(&mut self, byte: u8) -> Option<StreamEvent> {
        if byte != b'\n' {
            self.line.push(byte);
            return None;
        }
        let line = String::from_utf8_lossy(&self.line).trim_end_matches('\r').to_owned();
        self.line.clear();
        if line.is_empty() {
            return Some(StreamEvent { id: self.id.clone(), data: std::mem::take(&mut self.data) });
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" => self.id = Some(value.to_owned()),
            _ => {}
        }
        None
    }
}

impl Client<'_> {
    /// Follows a stream for ever, and passes on the data of each event once.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the gateway refuses the request; any error of `sink`.
    pub(in crate::commands) async fn follow(
        &self,
        url: Url,
        mut sink: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let last: RefCell<Option<String>> = RefCell::default();
        loop {
            let begun = self.retry_until_done(async || {
                let accepted = format!("{EVENTS}, application/problem+json");
                let mut request = self.http.get(url.clone()).bearer_auth(self.key.expose()).header(ACCEPT, accepted);
                if let Some(last) = &*last.borrow() {
                    request = request.header(LAST_EVENT_ID, last);
                }
                let response = timeout(RESPONSE_TIMEOUT, request.send()).await.map_err(|_| self.late())?;
                let response = self.successful(response.map_err(|error| self.unanswered(error))?).await?;
                let named =
                    response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
                if named.starts_with(EVENTS) { Ok(response) } else { Err(self.invalid_response("is no event stream")) }
            });
            let mut response = begun.await.map_err(RequestFailure::or_refusal)?;
            let mut parser = EventParser::default();
            // A stream that breaks off is opened again after the last event.
            while let Ok(Ok(Some(chunk))) = timeout(MAX_SILENCE, response.chunk()).await {
                for event in chunk.iter().filter_map(|byte| parser.push(*byte)) {
                    if !event.data.is_empty() {
                        sink(&event.data)?;
                    }
                    if event.id.is_some() {
                        *last.borrow_mut() = event.id;
                    }
                }
                if parser.line.len() > MAX_LINE {
                    break;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<(Option<String>, String)> {
        let mut parser = EventParser::default();
        let events = text.bytes().filter_map(|byte| parser.push(byte));
        events.map(|event| (event.id, event.data)).filter(|(id, data)| id.is_some() || !data.is_empty()).collect()
    }

    #[test]
    fn a_stream_is_split_into_events() {
        let read =
            events(": hello\n\nevent: ping\nid: 7\ndata: {\"a\":\ndata: 1}\n\nid: 9\n\ndata: x\r\n\r\ndata: cut");
        let expected = [(Some("7"), "{\"a\":\n1}"), (Some("9"), ""), (Some("9"), "x")];
        assert_eq!(read, expected.map(|(id, data)| (id.map(str::to_owned), data.to_owned())));
    }
}

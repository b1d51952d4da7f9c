//! A trace collector that records what it receives.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;

use super::vendor::{Stub, build_response};

/// The collector. Everything has arrived once the gateway has stopped gracefully.
pub struct Collector(pub Stub);

/// A span, its ids in hexadecimal.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    /// 1 internal, 2 server, 3 client.
    pub kind: i32,
    pub attributes: BTreeMap<String, String>,
    /// 2 is an error.
    pub status: i32,
}

impl Span {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self(Stub::start(|_| build_response(200, "application/x-protobuf", "")).await)
    }

    /// Returns the environment of a gateway that sends its traces here.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", self.0.url()), ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned())]
    }

    /// Waits until this span has arrived. At its end the gateway waits only two seconds for the collector.
    pub async fn wait_for(&self, name: &str) {
        let began = std::time::Instant::now();
        while !self.spans().iter().any(|span| span.name == name) {
            assert!(began.elapsed() < super::gateway::TIMEOUT, "no span {name}: {:?}", self.spans());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Returns the attributes of the sender.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let parts = self.requests().into_iter().flat_map(|request| request.resource_spans);
        parts.filter_map(|part| part.resource).flat_map(|resource| attributes(resource.attributes)).collect()
    }

    /// Returns every span so far.
    pub fn spans(&self) -> Vec<Span> {
        let parts = self.requests().into_iter().flat_map(|request| request.resource_spans);
        let spans = parts.flat_map(|part| part.scope_spans).flat_map(|scope| {
            assert_eq!(scope.scope.map(|scope| scope.name).as_deref(), Some("examgate"));
            scope.spans
        });
        let hex = |bytes: Vec<u8>| data_encoding::HEXLOWER.encode(&bytes);
        spans
            .map(|span| {
                assert!(span.events.is_empty(), "events stay in the log: {span:?}");
                Span {
                    name: span.name,
                    trace: hex(span.trace_id),
                    id: hex(span.span_id),
                    parent: hex(span.parent_span_id),
                    kind: span.kind,
                    attributes: attributes(span.attributes).collect(),
                    status: span.status.map_or(0, |status| status.code),
                }
            })
            .collect()
    }

    /// Returns the only span of this name.
    pub fn span(&self, name: &str) -> Span {
        let mut found = self.spans().into_iter().filter(|span| span.name == name);
        let (first, second) = (found.next(), found.next());
        assert!(second.is_none(), "two spans {name}: {first:?} {second:?}");
        first.unwrap_or_else(|| panic!("no span {name}: {:?}", self.spans()))
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let seen = self.0.seen();
        let read = seen.into_iter().map(|seen| ExportTraceServiceRequest::decode(&*seen.body).expect("protobuf"));
        read.collect()
    }
}

fn attributes(list: Vec<KeyValue>) -> impl Iterator<Item = (String, String)> {
    list.into_iter().map(|pair| {
        let text = match pair.value.and_then(|value| value.value) {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("{}: {other:?}", pair.key),
        };
        (pair.key, text)
    })
}

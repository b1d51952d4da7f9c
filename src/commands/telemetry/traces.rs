//! Traces over OTLP/HTTP, configured by the standard's variables; off unless an endpoint is set.
//!
//! This module reads and validates the variables that decide whether and where to send. The OpenTelemetry crates read
//! headers, sampler, batching and resource attributes themselves, after this module has rejected values they would
//! silently ignore.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use url::Url;

use super::collector::Collector;
use super::{Layered, logs};
use crate::commands::{Failure, Process};

/// Timeout of the last export when the process ends.
const LAST_EXPORT: Duration = Duration::from_secs(2);
/// OpenTelemetry's default.
const TIMEOUT: Duration = Duration::from_secs(10);

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
const SERVICE: &str = "OTEL_SERVICE_NAME";
/// Variables with the same meaning: the one for traces takes precedence over the general one.
const ENDPOINT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOL: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const LIMIT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const COMPRESSION: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
/// Unsupported variables; setting one is an error rather than silently ignored.
const NOT_KNOWN: [&str; 6] = [
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
];

/// The tracing settings of the environment.
#[derive(Debug, PartialEq)]
struct TracingEnv {
    endpoint: Url,
    timeout: Duration,
}

/// An active trace exporter.
pub(super) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    /// Scheme, host and port of the collector.
    collector: String,
}

impl Traces {
    /// Starts the exporter if the environment configures one.
    pub(super) fn tracing_env(process: &Process, runtime: &Handle) -> Result<Option<Self>, Failure> {
        let variable = |name: &str| process.variable(name).map(|value| value.to_string_lossy().into_owned());
        let Some(wanted) = wanted(&variable).map_err(Failure::Usage)? else { return Ok(None) };
        let cannot = |error: &dyn std::error::Error| Failure::other("tracing cannot start", super::whole(error));
        let collector = Collector::new(wanted.timeout, runtime.clone()).map_err(|error| cannot(&error))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector)
            .with_endpoint(wanted.endpoint.as_str())
            .with_timeout(wanted.timeout)
            .build()
            .map_err(|error| cannot(&error))?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(variable(SERVICE)))
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("examgate");
        Ok(Some(Self { provider, tracer, collector: wanted.endpoint.origin().ascii_serialization() }))
    }

    /// Builds the layer that exports this program's own spans only; events stay in the log.
    pub(super) fn layer(&self) -> Layered {
        let own = filter_fn(|about| about.is_span() && logs::ours(about.target()));
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(own.with_max_level_hint(LevelFilter::DEBUG))
            .boxed()
    }

    /// Logs the collector that receives traces.
    pub(super) fn announce(&self) {
        tracing::info!(collector = self.collector, "sending traces");
    }

    /// Sends the remaining spans.
    pub(super) fn end(self) {
        if self.provider.shutdown_with_timeout(LAST_EXPORT).is_err() {
            tracing::warn!("trace exporter flush timed out");
        }
    }
}

/// Parses the environment. Returns every error at once.
fn wanted(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<TracingEnv>, Vec<String>> {
    let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, variable(name)?)));
    let is = |text: &str, word: &str| text.trim().eq_ignore_ascii_case(word);
    let Some((name, endpoint)) = first(ENDPOINT) else { return Ok(None) };
    if variable(DISABLED).is_some_and(|text| is(&text, "true")) {
        return Ok(None);
    }
    let mut faults = Vec::new();
    let mut fault = |name: &str, why: &str| faults.push(format!("environment variable {name}: {why}"));
    match variable(EXPORTER) {
        Some(text) if is(&text, "none") => return Ok(None),
        Some(text) if !is(&text, "otlp") => fault(EXPORTER, "expected otlp or none"),
        _ => {}
    }
    let address = address(name, &endpoint);
    if address.is_none() {
        fault(name, "expected an http or https URL");
    }
    if let Some((name, _)) = first(PROTOCOL).filter(|(_, text)| !is(text, "http/protobuf")) {
        fault(name, "only http/protobuf is supported");
    }
    if let Some((name, _)) = first(COMPRESSION).filter(|(_, text)| !is(text, "none")) {
        fault(name, "compression is not supported");
    }
    let limit = first(LIMIT).map(|(name, text)| (name, text.trim().parse().ok().filter(|millis| *millis > 0)));
    if let Some((name, None)) = limit {
        fault(name, "expected milliseconds");
    }
    for name in NOT_KNOWN.into_iter().filter(|name| variable(name).is_some()) {
        fault(name, "is not supported; the system's certificates are used");
    }
    if let Some((name, why)) = sampler_fault(variable) {
        fault(name, why);
    }
    let timeout = limit.and_then(|(_, millis)| millis).map_or(TIMEOUT, Duration::from_millis);
    match address {
        Some(endpoint) if faults.is_empty() => Ok(Some(TracingEnv { endpoint, timeout })),
        _ => Err(faults),
    }
}

/// Parses the endpoint: the variable for traces is used as it is, the general one with the path the standard adds.
fn address(name: &str, text: &str) -> Option<Url> {
    let mut url = Url::parse(text.trim()).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    if name != ENDPOINT[0] {
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Some(url)
}

/// Validates the sampler; the crate treats an unknown one as "all".
fn sampler_fault(variable: &dyn Fn(&str) -> Option<String>) -> Option<(&'static str, &'static str)> {
    let sampler = variable(SAMPLER)?;
    match sampler.as_str() {
        "always_on" | "always_off" | "parentbased_always_on" | "parentbased_always_off" => None,
        "traceidratio" | "parentbased_traceidratio" => {
            let share = variable(SAMPLER_ARGUMENT).map_or(Some(1.0), |text| text.parse::<f64>().ok());
            (!share.is_some_and(|share| (0.0..=1.0).contains(&share)))
                .then_some((SAMPLER_ARGUMENT, "expected a number from 0 to 1"))
        }
        _ => Some((
            SAMPLER,
            "expected always_on, always_off, traceidratio, or one of these with the prefix parentbased_",
        )),
    }
}

/// Builds the resource that describes this service; the environment overrides the defaults.
fn resource(service: Option<String>) -> Resource {
    let resource = Resource::builder_empty()
        .with_service_name("examgate")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match service {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<TracingEnv>, Vec<String>> {
        wanted(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn endpoint(variables: &[(&str, &str)]) -> String {
        of(variables).unwrap().unwrap().endpoint.to_string()
    }

    #[test]
    fn tracing_is_off_without_an_endpoint() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[(PROTOCOL[1], "grpc"), (SERVICE, "x")]), Ok(None));
        let named = (ENDPOINT[1], "http://localhost:4318");
        assert_eq!(of(&[named, (DISABLED, "TRUE")]), Ok(None));
        assert_eq!(of(&[named, (EXPORTER, "none")]), Ok(None));
        assert!(of(&[named, (DISABLED, "no")]).unwrap().is_some());
    }

    #[test]
    fn only_the_general_endpoint_gets_the_traces_path() {
        assert_eq!(endpoint(&[(ENDPOINT[1], "http://localhost:4318")]), "http://localhost:4318/v1/traces");
        assert_eq!(endpoint(&[(ENDPOINT[1], "https://otel.example/base/")]), "https://otel.example/base/v1/traces");
        let both = [(ENDPOINT[1], "http://other:1"), (ENDPOINT[0], "http://localhost:4318/x")];
        assert_eq!(endpoint(&both), "http://localhost:4318/x");
    }

    #[test]
    fn the_timeout_is_in_milliseconds() {
        let named = (ENDPOINT[1], "http://localhost:4318");
        let of = |more: &[(&'static str, &'static str)]| of(&[&[named], more].concat()).unwrap().unwrap().timeout;
        assert_eq!(of(&[]), Duration::from_secs(10));
        assert_eq!(of(&[(LIMIT[1], "300")]), Duration::from_millis(300));
        assert_eq!(of(&[(LIMIT[1], "300"), (LIMIT[0], "200")]), Duration::from_millis(200));
    }

    #[test]
    fn errors_name_the_variable_without_its_value() {
        let wrong = [
            (ENDPOINT[1], "localhost:4318 secret"),
            (PROTOCOL[0], "grpc"),
            (COMPRESSION[1], "gzip"),
            (LIMIT[1], "10s"),
            (SAMPLER, "jaeger_remote"),
            (NOT_KNOWN[1], "/ca.pem"),
            (EXPORTER, "zipkin"),
        ];
        let faults = of(&wrong).unwrap_err();
        assert_eq!(faults.len(), wrong.len(), "{faults:?}");
        for (name, value) in wrong {
            assert!(faults.iter().any(|fault| fault.contains(&format!("{name}:"))), "{name}: {faults:?}");
            assert!(value == "grpc" || !faults.iter().any(|fault| fault.contains(value)), "{value}: {faults:?}");
        }
        let named = (ENDPOINT[1], "http://localhost:4318");
        assert!(of(&[named, (SAMPLER, "traceidratio"), (SAMPLER_ARGUMENT, "2")]).is_err());
        assert!(of(&[named, (SAMPLER, "parentbased_traceidratio"), (SAMPLER_ARGUMENT, "0.25")]).is_ok());
    }
}

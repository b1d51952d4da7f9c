//! What operators may see of each attempt: the entries of an exchange.

use std::time::Duration;

use http::HeaderMap;
use url::Position;

use super::Client;
use super::layers::{AttemptTimes, InFlightCall};
use crate::domain::exchange::VendorCall;
use crate::domain::vendor::CallPurpose;
use crate::domain::vendor_error::VendorError;
use crate::transport::attempt::AttemptError;
use crate::transport::redaction::{self, RequestSnapshot};
use crate::transport::request::Request;
use crate::transport::response::Response;

impl Client {
    /// Records an attempt sent with these headers.
    pub(super) fn record_attempt(
        &self,
        flight: &InFlightCall<'_>,
        headers: &HeaderMap,
        result: &Result<Response, AttemptError>,
        times: &AttemptTimes,
    ) {
        let sent = RequestSnapshot::new(headers, flight.url.query(), &flight.request.body);
        let mut call = self.describe_call(flight, &sent, times);
        match result {
            Ok(response) => {
                call.status = Some(response.status.as_u16());
                call.headers = redaction::headers(&response.headers);
                call.answer = flight.request.shown.redact_response(&sent, response, &self.inner.secrets);
            }
            Err(AttemptError { error, status, .. }) => {
                call.status = status.map(|status| status.as_u16());
                call.ended = error.code.as_str();
                call.detail = Some(error.detail.clone());
            }
        }
        flight.context.exchange.add(call);
    }

    /// Records a call that was rejected before it was sent.
    pub(super) fn record_unsent(&self, flight: &InFlightCall<'_>, error: &VendorError) {
        let Request { headers, body, .. } = flight.request;
        let sent = RequestSnapshot::new(headers, flight.url.query(), body);
        let times = AttemptTimes { started: self.now(), waited: flight.began.elapsed(), took: Duration::ZERO };
        let call = self.describe_call(flight, &sent, &times);
        let (ended, detail) = (error.code.as_str(), Some(error.detail.clone()));
        flight.context.exchange.add(VendorCall { ended, detail, ..call });
    }

    fn describe_call(
        &self,
        flight: &InFlightCall<'_>,
        sent: &RequestSnapshot<'_>,
        &AttemptTimes { started, waited, took }: &AttemptTimes,
    ) -> VendorCall {
        let Request { operation, method, shown, .. } = flight.request;
        let (name, secrets) = (&self.inner.name, &self.inner.secrets);
        let address = &flight.url[..Position::AfterPath];
        VendorCall {
            connection: name.connection.clone(),
            vendor: name.vendor.clone(),
            operation,
            settling: flight.context.purpose == CallPurpose::Reconcile,
            started,
            waited,
            took,
            method: method.to_string(),
            address: secrets.mask(address),
            ended: "answered",
            detail: None,
            status: None,
            request: shown.redact_request(sent, secrets),
            headers: Vec::new(),
            answer: None,
        }
    }
}

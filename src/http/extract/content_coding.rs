//! A body as it arrives: within a minimum rate, decoded (RFC 9110 §8.4) and limited in size. Every limit on what a body
//! may hold counts decoded bytes, so that compression does not get around one.

use std::io;
use std::time::Duration;

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body as HttpBody;
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout};
use tokio_util::io::StreamReader;

use crate::domain::error::{Code, Error};
use crate::http::app_state::Limits;

/// The content codings the API takes, besides none.
pub(in crate::http) const ACCEPTED: &str = "gzip";

/// Maximum size of a decoded chunk.
const CHUNK: usize = 16 * 1024;
/// What a compressed body may be longer than twice its content. Without this limit, a compressed body without
/// content could be endless.
const MAX_OVERHEAD: u64 = 64 * 1024;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum ContentCoding {
    /// Not at all.
    Identity,
    /// With gzip (RFC 1952).
    Gzip,
}

impl ContentCoding {
    /// Returns the coding these headers name.
    ///
    /// # Errors
    /// `unsupported_media_type`.
    pub(in crate::http) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let mut found = Self::Identity;
        for value in headers.get_all(CONTENT_ENCODING) {
            for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
                    continue;
                }
                let gzip = name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip");
                if !gzip || found == Self::Gzip {
                    let detail =
                        "The body has an unsupported `Content-Encoding`: send it with `gzip`, once, or without.";
                    return Err(Error::new(Code::UnsupportedMediaType, detail));
                }
                found = Self::Gzip;
            }
        }
        Ok(found)
    }
}

/// A decoded body as it arrives.
pub(in crate::http) struct DecodedBody {
    source: Source,
    limit: u64,
    come: u64,
    /// The error beyond the limit.
    too_large: Error,
}

#[expect(clippy::large_enum_variant, reason = "one per request; a box would cost the usual body an allocation")]
enum Source {
    Plain(MinRateBody),
    Gzip(Box<GzipDecoder<StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>>>),
}

impl DecodedBody {
    /// Takes the body of this request, of at most `limit` bytes when decoded.
    ///
    /// # Errors
    /// `unsupported_media_type` for a coding that is not supported; `payload_too_large` if `Content-Length` already
    /// exceeds the limit.
    pub(in crate::http) fn new(request: Request, limit: u64, limits: Limits) -> Result<Self, Error> {
        let coding = ContentCoding::of(request.headers())?;
        let announced = request.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let most = match coding {
            ContentCoding::Identity => limit,
            ContentCoding::Gzip => limit.saturating_mul(2).saturating_add(MAX_OVERHEAD),
        };
        let too_large = match coding {
            ContentCoding::Identity => format!("The body is larger than {limit} bytes."),
            ContentCoding::Gzip => format!("The body is larger than {limit} bytes when decompressed."),
        };
        let too_large = Error::new(Code::PayloadTooLarge, too_large);
        if announced.is_some_and(|length| length > most) {
            return Err(too_large);
        }
        let body = MinRateBody {
            body: request.into_body(),
            most,
            limits,
            come: 0,
            waited: Duration::ZERO,
            too_large: too_large.clone(),
        };
        let source = match coding {
            ContentCoding::Identity => Source::Plain(body),
            ContentCoding::Gzip => Source::Gzip(Box::new(gzip(body))),
        };
        Ok(Self { source, limit, come: 0, too_large })
    }

    /// Returns the next decoded chunk; `None` at the end.
    ///
    /// # Errors
    /// `payload_too_large`; `malformed_json` for a body that ends unexpectedly, is too slow or is no gzip.
    pub(in crate::http) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = match &mut self.source {
            Source::Plain(body) => body.next().await?,
            Source::Gzip(decoder) => {
                let mut chunk = BytesMut::with_capacity(CHUNK);
                let length = decoder.read_buf(&mut chunk).await.map_err(decoding_error)?;
                (length > 0).then(|| chunk.freeze())
            }
        };
        self.come += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.come > self.limit { Err(self.too_large.clone()) } else { Ok(chunk) }
    }
}

/// Decodes every member of a gzip file: concatenated files are one (RFC 1952 §2.2).
fn gzip(body: MinRateBody) -> GzipDecoder<StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>> {
    let chunks = stream::try_unfold(body, async |mut body: MinRateBody| {
        // Wrapped, because a reader can only fail with an I/O error; `decoding_error` unwraps it.
        let chunk = body.next().await.map_err(io::Error::other)?;
        Ok(chunk.map(|chunk| (chunk, body)))
    });
    let mut decoder = GzipDecoder::new(StreamReader::new(chunks.boxed()));
    decoder.multiple_members(true);
    decoder
}

fn decoding_error(error: io::Error) -> Error {
    let truncated = error.kind() == io::ErrorKind::UnexpectedEof;
    error.downcast::<Error>().unwrap_or_else(|_| {
        let detail = if truncated {
            "The gzip body is incomplete: it ends before its last compressed block or its checksum."
        } else {
            "The body is not valid gzip, although its `Content-Encoding` says so."
        };
        Error::new(Code::MalformedJson, detail)
    })
}

/// A body as it is sent. It may be slow only while it keeps up a minimum rate, so that a caller cannot hold a request
/// open for ever. Only time spent waiting for the caller counts, not time spent processing.
struct MinRateBody {
    body: HttpBody,
    /// Maximum number of bytes sent.
    most: u64,
    limits: Limits,
    come: u64,
    waited: Duration,
    /// The error beyond the maximum.
    too_large: Error,
}

impl MinRateBody {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let earned = Duration::from_secs(self.come / u64::from(self.limits.body_rate.max(1)));
            let patience = (self.limits.body_allowance + earned).saturating_sub(self.waited);
            let started = Instant::now();
            let frame = timeout(patience, self.body.frame()).await;
            self.waited += started.elapsed();
            let Ok(frame) = frame else {
                let detail = "The body did not arrive in time; it was discarded.";
                return Err(Error::new(Code::MalformedJson, detail));
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| Error::new(Code::MalformedJson, "The body ended unexpectedly."))?;
            let Ok(data) = frame.into_data() else { continue };
            self.come += data.len() as u64;
            if self.come > self.most {
                return Err(self.too_large.clone());
            }
            return Ok(Some(data));
        }
    }
}

#[cfg(test)]
mod tests;

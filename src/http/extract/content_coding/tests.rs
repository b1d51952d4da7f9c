use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;
use rstest::rstest;

use super::*;

fn coding(values: &[&str]) -> Result<ContentCoding, Code> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(CONTENT_ENCODING, HeaderValue::from_str(value).unwrap());
    }
    ContentCoding::of(&headers).map_err(|error| error.code)
}

#[rstest]
#[case::none(&[], Ok(ContentCoding::Identity))]
#[case::identity(&["Identity"], Ok(ContentCoding::Identity))]
#[case::empty(&[""], Ok(ContentCoding::Identity))]
#[case::gzip(&["gzip"], Ok(ContentCoding::Gzip))]
#[case::upper_case(&[" GZIP "], Ok(ContentCoding::Gzip))]
#[case::old_name(&["X-Gzip"], Ok(ContentCoding::Gzip))]
#[case::with_identity(&["identity, gzip"], Ok(ContentCoding::Gzip))]
#[case::twice(&["gzip, gzip"], Err(Code::UnsupportedMediaType))]
#[case::twice_in_two_lines(&["gzip", "gzip"], Err(Code::UnsupportedMediaType))]
#[case::brotli(&["br"], Err(Code::UnsupportedMediaType))]
#[case::deflate(&["deflate"], Err(Code::UnsupportedMediaType))]
#[case::another_besides(&["gzip, br"], Err(Code::UnsupportedMediaType))]
#[case::no_name(&["gzip;q=1"], Err(Code::UnsupportedMediaType))]
fn gzip_is_the_only_coding(#[case] values: &[&str], #[case] expected: Result<ContentCoding, Code>) {
    assert_eq!(coding(values), expected);
}

fn compressed(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn of(body: HttpBody, coding: &'static str, limit: u64) -> DecodedBody {
    let request = Request::builder().header(CONTENT_ENCODING, coding).body(body).unwrap();
    DecodedBody::new(request, limit, Limits::default()).unwrap()
}

async fn collect(mut body: DecodedBody) -> Result<Vec<u8>, (Code, String)> {
    let mut bytes = Vec::new();
    loop {
        match body.next().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes),
            Err(error) => return Err((error.code, error.detail)),
        }
    }
}

/// Reads the bytes as a gzip body that arrives in chunks of this length.
async fn decoded(bytes: &[u8], chunk: usize, limit: u64) -> Result<Vec<u8>, (Code, String)> {
    let chunks: Vec<io::Result<Bytes>> = bytes.chunks(chunk).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    collect(of(HttpBody::from_stream(stream::iter(chunks)), "gzip", limit)).await
}

#[tokio::test]
async fn chunks_and_members_do_not_change_the_content() {
    let content = "exam ".repeat(20_000).into_bytes();
    let (first, second) = content.split_at(33_333);
    for sent in [compressed(&content), [compressed(first), compressed(&[]), compressed(second)].concat()] {
        for chunk in [1, 7, 4096, usize::MAX] {
            assert_eq!(decoded(&sent, chunk, 100_000).await.as_deref(), Ok(content.as_slice()), "{chunk}");
        }
    }
    assert_eq!(decoded(&compressed(&[]), 3, 0).await, Ok(Vec::new()));
}

#[tokio::test]
async fn damaged_gzip_is_malformed_wherever_it_is_damaged() {
    let whole = compressed(&b"{\"externalId\":\"emp-1001\"}".repeat(50));
    for end in 0..whole.len() {
        let (code, detail) = decoded(&whole[..end], 5, 10_000).await.unwrap_err();
        assert_eq!(code, Code::MalformedJson, "cut at {end}");
        assert!(detail.contains("incomplete"), "cut at {end}: {detail}");
    }
    for at in [0, 1, 2, 15, whole.len() - 8, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 0x5a;
        let (code, detail) = decoded(&changed, 1000, 10_000).await.unwrap_err();
        assert_eq!(code, Code::MalformedJson, "changed at {at}");
        assert!(detail.contains("gzip"), "changed at {at}: {detail}");
    }
    for other in [b"{}".as_slice(), &[whole.as_slice(), b"{}"].concat()] {
        let (code, detail) = decoded(other, 1000, 10_000).await.unwrap_err();
        assert_eq!(code, Code::MalformedJson);
        assert!(detail.contains("gzip"), "{detail}");
    }
}

#[tokio::test]
async fn the_limit_counts_what_comes_out() {
    let zeros = vec![0; 10_000_000];
    let bomb = compressed(&zeros);
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    assert_eq!(decoded(&bomb, 4096, 20_000).await.unwrap_err().0, Code::PayloadTooLarge);
    assert_eq!(decoded(&bomb, 4096, 9_999_999).await.unwrap_err().0, Code::PayloadTooLarge);
    assert_eq!(decoded(&bomb, 4096, 10_000_000).await.map(|bytes| bytes.len()), Ok(10_000_000));
}

#[tokio::test]
async fn compressed_nothing_ends_too() {
    let nothing = Bytes::from(compressed(&[]));
    let endless = stream::repeat_with(move || Ok::<_, io::Error>(nothing.clone()));
    let error = collect(of(HttpBody::from_stream(endless), "gzip", 1000)).await.unwrap_err();
    assert_eq!(error.0, Code::PayloadTooLarge);
}

#[tokio::test]
async fn an_announced_length_over_the_limit_is_refused_at_once() {
    let new = |coding: &'static str, length: u64| {
        let request = Request::builder().header(CONTENT_ENCODING, coding).header(CONTENT_LENGTH, length);
        DecodedBody::new(request.body(HttpBody::empty()).unwrap(), 1000, Limits::default()).map(|_| ())
    };
    assert!(new("identity", 1000).is_ok() && new("gzip", 1030).is_ok());
    assert_eq!(new("identity", 1001).unwrap_err().code, Code::PayloadTooLarge);
    assert_eq!(new("gzip", 10_000_000).unwrap_err().code, Code::PayloadTooLarge);
}

#[tokio::test(start_paused = true)]
async fn body_that_never_arrives_times_out() {
    for coding in ["identity", "gzip"] {
        let body = HttpBody::from_stream(stream::pending::<Result<Bytes, io::Error>>());
        let (code, detail) = collect(of(body, coding, 10)).await.unwrap_err();
        assert_eq!(code, Code::MalformedJson);
        assert!(detail.contains("in time"), "{coding}: {detail}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_time_waiting_for_the_caller_counts() {
    let pieces = stream::iter([b"x"; 3]).map(|piece| Ok::<_, io::Error>(Bytes::from_static(piece)));
    let mut body = of(HttpBody::from_stream(pieces), "identity", 10);
    for _ in 0..3 {
        assert_eq!(body.next().await.unwrap().unwrap(), "x");
        tokio::time::sleep(Duration::from_hours(1)).await;
    }
    assert_eq!(body.next().await, Ok(None));
}

#[tokio::test]
async fn body_without_length_is_limited_too() {
    let chunks = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[b' '; 64])));
    let error = collect(of(HttpBody::from_stream(chunks), "identity", 1000)).await.unwrap_err();
    assert_eq!(error.0, Code::PayloadTooLarge);
}

#[tokio::test]
async fn body_of_exactly_the_limit_is_read() {
    assert_eq!(collect(of(HttpBody::from("12345"), "identity", 5)).await.as_deref(), Ok(b"12345".as_slice()));
    assert!(collect(of(HttpBody::from("123456"), "identity", 5)).await.is_err());
}

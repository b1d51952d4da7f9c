use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use crate::domain::error::Code;
use crate::http::handlers::bulk::chunk_reader::tests::{crumbled, cut};
use crate::http::handlers::bulk::json::*;
use crate::http::handlers::bulk::rows::BulkItem;
use crate::http::handlers::bulk::rows::tests::{kept, summary};

type Summary = (Result<(BulkOptions, Fingerprint), ReadError>, Vec<(Option<String>, Vec<String>)>);

fn of(input: impl Read) -> Summary {
    let (kept, mut rows) = kept(BulkItem::Candidates, 5, None);
    let end = read(input, &mut rows);
    (end, summary(&kept))
}

fn text(text: &str) -> Summary {
    of(crumbled(text.as_bytes()))
}

fn fault(body: &str) -> Error {
    match text(body).0 {
        Err(ReadError::Fault(error)) => *error,
        end => panic!("{body}: {end:?}"),
    }
}

fn pointers(body: &Value) -> Vec<String> {
    fault(&body.to_string()).errors.into_iter().map(|error| error.pointer).collect()
}

#[test]
fn fields_may_come_in_any_order() {
    let row = r#"{"itemId":"a","connection":"c"}"#;
    let bodies = [
        format!(r#"{{"connection":"c","failOnErrors":2,"items":[{row},{{}}]}}"#),
        format!("{{\n  \"items\" : [ {row} , {{}} ] , \"failOnErrors\" : 2.0e0,\t\"connection\":\"\\u0063\" }}\n"),
    ];
    let [first, second] = bodies.map(|body| text(&body));
    let (envelope, hash) = first.0.unwrap();
    assert_eq!(envelope, BulkOptions { connection: Some("c".to_owned()), fail_on_errors: Some(2) });
    assert_eq!(first.1, [(Some("a".to_owned()), vec![]), (None, vec![])]);
    // A number with a fraction is no valid count, but it has the same meaning.
    assert!(matches!(second.0, Err(ReadError::Fault(_))));
    let third = text(&format!(r#"{{"items":[{row},{{}}],"connection":"c","failOnErrors":2}}"#));
    assert_eq!(third.0.unwrap().1, hash);
    let other = text(&format!(r#"{{"items":[{{}},{row}],"connection":"c","failOnErrors":2}}"#));
    assert_ne!(other.0.unwrap().1, hash);
}

#[test]
fn invalid_envelope_fails_the_bulk_with_all_errors() {
    for (body, expected) in [
        (json!({}), vec!["/items"]),
        (json!({ "items": [] }), vec!["/items"]),
        (json!({ "items": null }), vec!["/items"]),
        (json!({ "items": {}, "odd": 1 }), vec!["/odd", "/items"]),
        (json!({ "items": { "a": [1] } }), vec!["/items"]),
        (json!({ "items": "x", "failOnErrors": -1, "connection": 7 }), vec!["/connection", "/failOnErrors", "/items"]),
        (json!({ "items": [{}], "failOnErrors": 0 }), vec!["/failOnErrors"]),
        (json!({ "items": [{}], "failOnErrors": "1" }), vec!["/failOnErrors"]),
        (json!({ "items": [{}], "connection": " " }), vec!["/connection"]),
        (json!({ "items": vec![json!({}); 6] }), vec!["/items"]),
        (json!({ "items": vec![json!([[1]]); 9], "odd": 1 }), vec!["/odd", "/items"]),
        (json!([]), vec![""]),
        (json!([[{}], 1, null]), vec![""]),
        (json!(null), vec![""]),
        (json!("x"), vec![""]),
        (json!(1.5), vec![""]),
    ] {
        assert_eq!(pointers(&body), expected, "{body}");
    }
}

#[test]
fn late_connection_that_contradicts_rows_fails_the_bulk() {
    let row = |name: &str| format!(r#"{{"connection":"{name}"}}"#);
    let late = |rows: &[String]| text(&format!(r#"{{"items":[{}],"connection":"c"}}"#, rows.join(",")));
    assert_eq!(late(&[row("c"), "{}".to_owned(), row("c")]).0.unwrap().0.connection.as_deref(), Some("c"));
    let wrong = vec!["/connection invalid_field".to_owned()];
    assert_eq!(late(&[row("c"), row("d")]).1, [(None, vec![]), (None, wrong)]);
    let Err(ReadError::Fault(error)) = late(&[row("d"), row("c")]).0 else { panic!() };
    assert_eq!(error.errors[0].pointer, "/connection");
}

#[test]
fn malformed_json_is_reported_with_its_position() {
    let deep = "[".repeat(70);
    for body in [
        "",
        " ",
        "{",
        "{}{}",
        r#"{"items":[{}]"#,
        r#"{"items":[{},]}"#,
        r#"{"items":[{}]}]"#,
        r#"{"items":[{}],"items":[{}]}"#,
        r#"{"items":7,"items":[]}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"items":[{"externalId":"a","externalId":"b"}]}"#,
        r#"{"items":[{"custom":{"a":{"b":1,"b":2}}}]}"#,
        r#"{"items":[1e999]}"#,
        r#"{"items":["\ud800"]}"#,
        r#"[{"a":1,"a":1}]"#,
        "nul",
        "\u{feff}{}",
        &deep,
        &format!(r#"{{"items":[{deep}]}}"#),
    ] {
        let error = fault(body);
        assert_eq!(error.code, Code::MalformedJson, "{body}: {error:?}");
        assert!(error.detail.contains("line 1 column"), "{body}: {error:?}");
    }
    assert!(matches!(of(&b"{\"items\":[\"\xff\"]}"[..]).0, Err(ReadError::Fault(_))));
}

#[test]
fn sizes_within_a_bulk_are_limited() {
    let long = "x".repeat(MAX_LENGTH);
    let many = vec!["0"; MAX_VALUES].join(",");
    let members = (0..MAX_ENVELOPE_VALUES).fold(String::new(), |mut text, index| {
        let _ = write!(text, "\"m{index}\":1,");
        text
    });
    for body in [
        format!(r#"{{"items":[{{}},{{"externalId":"{long}"}}]}}"#),
        format!(r#"{{"connection":"{long}"}}"#),
        format!(r#"{{"{long}":1}}"#),
        format!(r#"{{"items":[[{many}]]}}"#),
        format!(r#"{{{members}"items":[]}}"#),
        format!("[{}]", vec!["0"; MAX_ENVELOPE_VALUES].join(",")),
    ] {
        let Err(ReadError::Fault(error)) = of(body.as_bytes()).0 else { panic!("{}", &body[..20]) };
        assert_eq!(error.code, Code::PayloadTooLarge, "{} {error:?}", &body[..20]);
    }
    let row = format!(r#"{{"externalId":"{}"}}"#, "x".repeat(MAX_LENGTH - 100));
    let rows = format!(r#"{{"items":[{}]}}"#, vec![row; 5].join(","));
    assert!(of(rows.as_bytes()).0.is_ok(), "the limit applies to each row, not to their sum");
}

#[test]
fn reader_stops_when_rows_are_no_longer_taken() {
    let mut rows = RowSink::new(
        BulkItem::Candidates,
        5,
        crate::http::handlers::bulk::rows::ConnectionConsensus::default(),
        |_| false,
    );
    let row = format!(r#"{{"itemId":"{}"}}"#, "x".repeat(600_000));
    let body = format!(r#"{{"items":[{row},{row}]}}"#);
    assert_eq!(read(body.as_bytes(), &mut rows).unwrap_err(), ReadError::Closed);
}

fn any_body() -> impl Strategy<Value = String> {
    let row = prop_oneof![
        "\\{\"itemId\":\"[a-zä]{0,3}\"\\}",
        Just("{\"externalId\":\"x\",\"connection\":\"c\"}".to_owned()),
        Just("{\"active\":\"yes\"}".to_owned()),
        "[\\[\\]\\{\\}\":,a1 ]{0,6}",
    ];
    let member = prop_oneof![
        Just("\"connection\":\"c\"".to_owned()),
        Just("\"failOnErrors\":3".to_owned()),
        Just("\"odd\":{\"a\":[1,null]}".to_owned()),
        prop::collection::vec(row, 0..8).prop_map(|rows| format!("\"items\":[{}]", rows.join(", "))),
    ];
    prop::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(",\n")))
}

proptest! {
    #[test]
    fn chunking_does_not_change_the_result(body in any_body(), places in prop::collection::vec(any::<usize>(), 0..8)) {
        let whole = of(body.as_bytes());
        prop_assert_eq!(of(cut(body.as_bytes(), &places)), whole);
    }

    #[test]
    fn rejects_exactly_what_the_strict_parser_rejects(body in any_body()) {
        let malformed = crate::http::extract::strict_json::parse_strict(body.as_bytes(), 10_000).is_err();
        let here = matches!(of(body.as_bytes()).0, Err(ReadError::Fault(error)) if error.code == Code::MalformedJson);
        prop_assert_eq!(here, malformed, "{}", body);
    }
}

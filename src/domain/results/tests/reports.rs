//! What tells reports and series apart.

use super::*;
use crate::domain::ids::CandidateId;

#[test]
fn reports_differ_by_connection_kind_and_content() {
    let one = digest_input("c", ReportKind::FeedItem, b"{}");
    assert_eq!(digest_input("c", ReportKind::FeedItem, b"{}"), one);
    for other in [
        digest_input("d", ReportKind::FeedItem, b"{}"),
        digest_input("c", ReportKind::FetchedReport, b"{}"),
        digest_input("c", ReportKind::FeedItem, b"{} "),
    ] {
        assert_ne!(other, one);
    }
    assert_ne!(digest_input("ab", ReportKind::Webhook, b"c"), digest_input("a", ReportKind::Webhook, b"bc"));
}

#[test]
fn series_have_different_index_texts() {
    let at = |candidate: &str, test: Option<&str>| SeriesKey::CandidateAtTest {
        candidate: candidate.to_owned(),
        test: test.map(str::to_owned),
    };
    let keys = [
        SeriesKey::Participant("a".to_owned()),
        at("a", None),
        at("a", Some("b")),
        at("a\nb", None),
        at("a\n", Some("b")),
        at("a", Some("\nb")),
    ];
    for (index, key) in keys.iter().enumerate() {
        assert!(keys[..index].iter().all(|other| other.index_text() != key.index_text()), "{key:?}");
        let stored: SeriesKey = serde_json::from_str(&serde_json::to_string(key).unwrap()).unwrap();
        assert_eq!(stored, *key, "survives the store");
    }
}

#[test]
fn a_matched_series_is_known_by_the_gateways_ids() {
    let id = CandidateId::parse("cand_00000000000000000000000000000001").unwrap();
    let participant = SeriesKey::Participant("p".to_owned());
    assert_eq!(participant.clone().matched(&id, "t"), participant);
    let person = SeriesKey::CandidateAtTest { candidate: "email:jane@example.com".to_owned(), test: None };
    let known = SeriesKey::CandidateAtTest { candidate: id.to_string(), test: Some("t".to_owned()) };
    assert_eq!(person.matched(&id, "t"), known);
}

#[test]
fn a_rejection_says_what_and_where() {
    let field = Rejection::field(RejectionReason::MissingField, "participantId");
    assert_eq!(field.to_string(), "missing_field (participantId)");
    assert_eq!(Rejection::whole(RejectionReason::NotJson).to_string(), "not_json");
    let stored: Rejection = serde_json::from_str(&serde_json::to_string(&field).unwrap()).unwrap();
    assert_eq!(stored, field);
}

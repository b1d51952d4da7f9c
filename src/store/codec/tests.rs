use proptest::prelude::*;

use crate::domain::candidate::Person;
use crate::store::codec::assignments::ASSIGNMENTS;
use crate::store::codec::*;
use crate::store::conformance::{Maker, environment};

fn records() -> RecordCodec {
    let environment = environment();
    RecordCodec::new(Keyring::new(&Keyring::generate(&environment), &[]).unwrap(), environment)
}

fn sealed(records: &RecordCodec, table: &'static str, id: &str, json: &str) -> SealedRow {
    let sealed = records.keyring.seal(&records.environment, AadContext { table, record: id }, json.as_bytes()).unwrap();
    SealedRow { id: id.to_owned(), tenant: "t".to_owned(), connection: "c".to_owned(), sealed, photo: None }
}

#[test]
fn a_picture_stored_inside_the_record_is_read() {
    let (records, make) = (records(), Maker(environment()));
    let candidate = make.candidate("t", "c", Person { photo: Some("QUJD".to_owned().into()), ..make.person() });
    let id = candidate.id.to_string();
    let row = sealed(&records, CANDIDATES, &id, &serde_json::to_string(&candidate).unwrap());
    assert_eq!(records.candidate(&row).unwrap(), candidate);
    assert_eq!(records.candidate_without_photo(&row).unwrap().person.photo, None);
}

proptest! {
    #[test]
    fn a_candidate_round_trips(
        external_id: Option<String>, group: Option<String>, active: Option<bool>,
        custom in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
    ) {
        let (records, make) = (records(), Maker(environment()));
        let person = Person { external_id: external_id.map(Into::into), active, group, custom, ..make.person() };
        let candidate = make.candidate("t", "c", person);
        let CandidateRow { id, tenant, connection, sealed, photo, .. } = records.candidate_row(&candidate).unwrap();
        prop_assert_eq!(records.candidate(&SealedRow { id, tenant, connection, sealed, photo }).unwrap(), candidate);
    }
}

#[test]
fn columns_that_disagree_with_the_seal_are_refused() {
    let (records, make) = (records(), Maker(environment()));
    let intent = make.registration(&make.candidate("t", "c", make.person()));
    let row = |tenant: &str, connection: &str| {
        let IntentRow { record, sealed, .. } = records.intent_row(&intent).unwrap();
        SealedRow { id: record, tenant: tenant.to_owned(), connection: connection.to_owned(), sealed, photo: None }
    };
    assert!(records.intent(&row("t", "c")).is_ok());
    for bad in [row("other", "c"), row("t", "other")] {
        assert!(matches!(records.intent(&bad), Err(StoreError::Unreadable(_))));
    }
}

#[test]
fn an_error_quotes_nothing_of_the_record() {
    let records = records();
    let row = sealed(&records, CANDIDATES, "cand_1", r#"{"id":"planted@example.org"}"#);
    let error = records.candidate(&row).unwrap_err().to_string();
    assert!(error.contains("cand_1") && !error.contains("planted"), "{error}");
}

/// The formats in which version 1 wrote records. They must not change: databases contain them.
#[test]
fn records_of_the_first_version_are_read() {
    let records = records();
    let person = r#"{"external_id":"E1","user_name":null,"name":{"given_name":"Ada","family_name":null,"formatted":null},
        "email":"ada@example.org","active":null,"phone_numbers":[{"kind":"mobile","value":"1"}],
        "address":{"street_address":null,"locality":null,"region":null,"postal_code":null,"country":"UK"},
        "group":null,"birth_date":null,"gender":null,"photo":null,"custom":{"a":"b"}}"#;
    let cand = "cand_0190163d8694739aa9d4cb0a1f1e2b3c";
    let asg = "asg_0190163d8694739aa9d4cb0a1f1e2b3c";
    let times = r#""created":"2026-11-22T10:00:00Z","last_modified":"2026-11-22T10:00:00.5Z""#;

    let candidate = format!(
        r#"{{"id":"{cand}","tenant":"t","connection":"c","person":{person},"state":"unknown","outcome":"not_applied",
        "vendor_ref":{{"id":7}},"private":{{"token":"x"}},"warnings":[{{"code":"field_ignored","detail":"d"}}],{times}}}"#
    );
    let candidate = records.candidate(&sealed(&records, CANDIDATES, cand, &candidate)).unwrap();
    assert_eq!(candidate.person.email.as_deref(), Some("ada@example.org"));

    let assignment = format!(
        r#"{{"id":"{asg}","tenant":"t","connection":"c","candidate_id":"{cand}","order":{{"candidate":{{"external_id":"E1"}},
        "assessment":"rust-101","valid_from":null,"valid_until":"2026-12-22T10:00:00Z","center":"m","notify":"vendor_email",
        "passwordless":false,"proctoring":{{"enabled":false,"parameters":{{}}}},"if_exists":"create_new","reference":null}},
        "vendor_key":"E1","assessment_ref":"r","subject":"s","state":"assigned","outcome":"applied","vendor_ref":{{}},
        "launch":{{"url":"https://go","expires_at":null}},"warnings":[],{times}}}"#
    );
    let assignment = records.assignment(&sealed(&records, ASSIGNMENTS, asg, &assignment)).unwrap();
    assert_eq!(assignment.subject, "s");

    let known = format!(r#"{{"id":"{cand}","person":{person},"vendor_ref":{{}},"private":{{}}}}"#);
    let writes = [
        (
            cand,
            format!(
                r#"{{"register":{{"id":"{cand}","person":{person},"own_user_name":false,"password":"p","own_password":true}}}}"#
            ),
        ),
        (cand, format!(r#"{{"update":{{"candidate":{known},"touched":["/email"]}}}}"#)),
        (cand, format!(r#"{{"hide":{known}}}"#)),
        (
            asg,
            format!(
                r#"{{"assign":{{"id":"{asg}","candidate":"E1","private":{{}},"assessment":"r","center":null,
            "valid_from":null,"valid_until":null,"notify":"none","passwordless":false,
            "proctoring":{{"enabled":false,"parameters":{{}}}},"if_exists":"reuse","first_booking":true}}}}"#
            ),
        ),
        (asg, format!(r#"{{"cancel":{{"id":"{asg}","candidate":"E1","assessment":"r"}}}}"#)),
    ];
    for (id, write) in writes {
        let intent = format!(
            r#"{{"tenant":"t","connection":"c","write":{write},"started":"2026-11-22T10:00:00Z","attempts":2,
            "settle_from":"2026-11-22T10:00:30Z","reason":null}}"#
        );
        let intent = records.intent(&sealed(&records, INTENTS_TABLE, id, &intent)).unwrap();
        assert_eq!((intent.write.record_id(), intent.attempts), (id, 2));
    }
}

//! Validation before anything is sent: settings and plans.

use super::*;

#[test]
fn missing_and_invalid_fields_are_reported_before_anything_is_sent() {
    let vendor = vendor(json!({}));
    let faults = planned(&*vendor, Person::default(), None).unwrap_err();
    assert_eq!(pointers(&faults), [("/group", "missing_field"), ("/email", "missing_field")]);
    let long = "x".repeat(101);
    let mut person = Person { group: Some(long.clone()), user_name: Some("a&#b".into()), ..full() };
    person.name.given_name = Some("<b>".to_owned());
    person.phone_numbers[1].value = "1\n2".to_owned();
    person.custom.insert("anything".to_owned(), long);
    let faults = planned(&*vendor, person, Some("")).unwrap_err();
    let invalid = ["/group", "/name/givenName", "/phoneNumbers/1/value", "/userName", "/password"];
    assert_eq!(pointers(&faults), invalid.map(|pointer| (pointer, "invalid_field")));
}

#[test]
fn unsupported_fields_are_listed() {
    let vendor = vendor(json!({}));
    let codes = |person: Person| -> Vec<(String, String)> {
        let warnings = planned(&*vendor, person, None).unwrap().warnings;
        warnings
            .into_iter()
            .map(|warning| (warning.code.as_str().to_owned(), warning.pointer.unwrap_or_default()))
            .collect()
    };
    let mut person = Person { birth_date: Some("2000-01-01".to_owned()), gender: Some("x".to_owned()), ..full() };
    person.photo = Some("AA==".to_owned().into());
    person.custom.insert("a".to_owned(), "b".to_owned());
    let expected = ["/birthDate", "/gender", "/photo", "/custom/a"];
    assert_eq!(codes(person), expected.map(|pointer| ("field_ignored".to_owned(), pointer.to_owned())));

    let named = |given: Option<&str>, formatted: &str| {
        let name =
            Name { given_name: given.map(str::to_owned), family_name: None, formatted: Some(formatted.to_owned()) };
        codes(Person { name, ..small() })
    };
    let at_formatted = |code: &str| vec![(code.to_owned(), "/name/formatted".to_owned())];
    assert_eq!(named(None, "Jane Doe"), at_formatted("name_unsplit"));
    assert_eq!(named(Some("Jane"), "Jane Doe"), at_formatted("field_ignored"));
    assert_eq!(named(Some("Jane"), "Jane"), []);
}

#[test]
fn a_generated_user_name_is_built_from_the_ids_and_fits() {
    let vendor = vendor(json!({ "send_student_id": false }));
    let name = |external_id: Option<String>| {
        let planned = planned(&*vendor, Person { external_id: external_id.map(Into::into), ..small() }, Some("pw"))
            .unwrap()
            .write;
        assert!(planned.own_user_name && !planned.own_password);
        planned.person.user_name.unwrap().to_string()
    };
    assert_eq!(name(None), "c-89abcdef");
    assert_eq!(name(Some("E 17".to_owned())), "E 17-89abcdef");
    assert_eq!(name(Some("é".repeat(250))), format!("{}-89abcdef", "é".repeat(91)));
    assert_eq!(name(Some("a<b".to_owned())), "c-89abcdef");
}

#[test]
fn generated_passwords_have_letters_and_digits() {
    let vendor = vendor(json!({}));
    let environment = environment();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..500 {
        let id = CandidateId::parse(ID).unwrap();
        let planned = vendor.plan_registration(&id, new(small(), None), &environment).unwrap().write;
        assert!(planned.own_password);
        let password = planned.password.unwrap().expose().to_owned();
        assert_eq!(password.len(), 12);
        assert!(password.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{password}");
        assert!(password.bytes().any(|byte| byte.is_ascii_digit()), "{password}");
        assert!(password.bytes().any(|byte| byte.is_ascii_alphabetic()), "{password}");
        seen.insert(password);
    }
    assert_eq!(seen.len(), 500);
}

/// Returns the keys of the settings that are invalid.
fn invalid_keys(more: Value) -> Vec<String> {
    let errors = connected(more).err().unwrap();
    assert!(!format!("{errors:?}").contains("key&one"));
    errors.into_iter().map(|error| error.key).collect()
}

#[test]
fn every_invalid_setting_is_reported_without_secrets() {
    let all = json!({
        "base_url": "http://api.examtesting.com", "institution_id": " ", "api_key": "env:NOT_THERE", "api_pass": "file:/none",
        "response_format": "regex", "default_group": "<a>",
    });
    let expected = ["base_url", "institution_id", "api_key", "api_pass", "response_regex", "default_group"];
    assert_eq!(invalid_keys(all), expected);
}

#[rstest]
#[case::no_url("nonsense")]
#[case::user_and_password("https://u:p@h.example")]
#[case::query("https://h.example/?a=b")]
#[case::ftp("ftp://h.example")]
fn a_base_url_that_cannot_be_used_is_rejected(#[case] base_url: &str) {
    assert_eq!(invalid_keys(json!({ "base_url": base_url })), ["base_url"]);
}

#[rstest]
#[case::not_an_expression("regex", "(")]
#[case::without_a_status("regex", "(?<id>.)")]
#[case::unknown_group("regex", "(?<status>.)(?<nummer>.)")]
#[case::of_another_format("auto", "a")]
fn a_response_regex_that_cannot_be_used_is_rejected(#[case] format: &str, #[case] regex: &str) {
    assert_eq!(invalid_keys(json!({ "response_format": format, "response_regex": regex })), ["response_regex"]);
}

#[test]
fn a_response_regex_with_a_status_is_accepted() {
    assert!(connected(json!({ "response_format": "regex", "response_regex": "(?<status>.+)" })).is_ok());
}

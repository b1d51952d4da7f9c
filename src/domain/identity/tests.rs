use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::domain::candidate::Identity;

#[rstest]
#[case::plain("emp-1", "emp-1")]
#[case::trailing_blank("emp-1 ", "emp-1")]
#[case::no_break_space("emp-1\u{a0}", "emp-1")]
#[case::ideographic_space("\u{3000}emp-1", "emp-1")]
#[case::line_end("\r\nemp-1\t", "emp-1")]
#[case::next_line("emp-1\u{85}", "emp-1")]
#[case::blank_inside("emp 1", "emp 1")]
#[case::decomposed("Rene\u{301}", "Ren\u{e9}")]
#[case::hangul("\u{1100}\u{1161}", "\u{ac00}")]
#[case::angstrom("\u{212b}", "\u{c5}")]
#[case::case_is_kept("Emp-1", "Emp-1")]
#[case::emoji("\u{1f600}", "\u{1f600}")]
fn external_ids_have_one_form(#[case] text: &str, #[case] form: &str) {
    let id = ExternalId::parse(text).unwrap();
    assert_eq!((id.as_str(), &*id.identity(), id.as_given()), (form, form, text));
}

#[rstest]
#[case::blank("", "must not be blank")]
#[case::only_spaces(" \u{a0}\t", "must not be blank")]
#[case::byte_order_mark("\u{feff}emp-1", "contains U+FEFF BYTE ORDER MARK at character 1; remove it")]
#[case::zero_width_space("emp-1\u{200b}", "contains U+200B ZERO WIDTH SPACE at character 6; remove it")]
#[case::position_counts_what_is_trimmed("  a\u{200d}b", "contains U+200D ZERO WIDTH JOINER at character 4; remove it")]
#[case::soft_hyphen("a\u{ad}b", "contains U+00AD SOFT HYPHEN at character 2; remove it")]
#[case::override_of_direction("\u{202e}a", "contains U+202E RIGHT-TO-LEFT OVERRIDE at character 1; remove it")]
#[case::line_inside("a\nb", "contains U+000A LINE FEED at character 2; remove it")]
#[case::bell("a\u{7}", "contains U+0007 (a control character) at character 2; remove it")]
#[case::tag("a\u{e0041}", "contains U+E0041 (a format character) at character 2; remove it")]
#[case::hangul_filler("a\u{3164}", "contains U+3164 HANGUL FILLER at character 2; remove it")]
#[case::hangul_choseong_filler("\u{115f}a", "contains U+115F HANGUL CHOSEONG FILLER at character 1; remove it")]
#[case::braille_blank("a\u{2800}b", "contains U+2800 BRAILLE PATTERN BLANK at character 2; remove it")]
#[case::variation_selector("a\u{fe0f}", "contains U+FE0F (a variation selector) at character 2; remove it")]
#[case::mongolian_selector("a\u{180b}", "contains U+180B (an invisible character) at character 2; remove it")]
#[case::private_use("a\u{e000}", "contains U+E000 (a private-use character) at character 2; remove it")]
fn invisible_characters_are_refused(#[case] text: &str, #[case] detail: &str) {
    assert_eq!(ExternalId::parse(text).unwrap_err(), detail);
    assert_eq!(UserName::parse(text).unwrap_err(), detail);
    assert_eq!(EmailAddress::parse(text).unwrap_err(), detail);
}

#[rstest]
#[case::trimmed(" ana@example.com\u{a0}", "")]
#[case::no_at("nobody", "it has no `@`")]
#[case::nothing_before("@example.com", "there is nothing before its `@`")]
#[case::blank_inside("an a@example.com", "it contains U+0020 SPACE at character 3")]
#[case::no_break_space_inside("an\u{a0}a@example.com", "it contains U+00A0 NO-BREAK SPACE at character 3")]
#[case::bracket("Ana <ana@example.com>", "it contains U+0020 SPACE at character 4")]
#[case::comma("ana,bo@example.com", "it contains `,` at character 4")]
#[case::second_at("a@b@c", "it contains a second `@` at character 4")]
#[case::empty_label("a@b..c", "the name of the host after its `@` has an empty part, or one with a hyphen at its end")]
fn email_addresses_are_trimmed_and_refused_with_a_reason(#[case] text: &str, #[case] reason: &str) {
    let refused = EmailAddress::parse(text).err().map(|detail| detail.replace("is not an e-mail address: ", ""));
    assert_eq!(refused.unwrap_or_default(), reason);
}

#[test]
fn lengths_count_the_form() {
    assert!(ExternalId::parse(&format!(" {} ", "e\u{301}".repeat(250))).is_ok());
    assert_eq!(ExternalId::parse(&"x".repeat(251)).unwrap_err(), "must not have more than 250 characters");
    assert_eq!(UserName::parse(&"x".repeat(201)).unwrap_err(), "must not have more than 200 characters");
}

#[rstest]
#[case(" Ana ", "Ana", "ana")]
#[case("RENE\u{301}", "REN\u{c9}", "ren\u{e9}")]
#[case("\u{130}x", "\u{130}x", "i\u{307}x")]
fn user_names_keep_their_case_and_ignore_it(#[case] text: &str, #[case] spelling: &str, #[case] key: &str) {
    let name = UserName::parse(text).unwrap();
    assert_eq!((name.as_str(), &*name.identity()), (spelling, key));
}

#[test]
fn stored_spellings_are_neither_rewritten_nor_refused() {
    for spelling in ["emp-1 ", "\u{feff}emp-4", "Rene\u{301}", "", "a\u{200b}"] {
        let stored: ExternalId = serde_json::from_value(spelling.into()).unwrap();
        assert_eq!(stored.as_str(), spelling);
        assert_eq!(serde_json::to_value(&stored).unwrap(), spelling);
    }
    let given = ExternalId::parse("emp-1 ").unwrap();
    assert_eq!(serde_json::to_value(&given).unwrap(), "emp-1");
}

#[test]
fn identities_compare_by_key() {
    let identity = |text: &str| Identity::ExternalId(text.into());
    assert_eq!(identity("emp-1 "), identity("emp-1"));
    assert_ne!(identity("Emp-1"), identity("emp-1"));
    assert_eq!(Identity::Email("A@x".into()), Identity::Email("a@X".into()));
    assert_eq!(identity("emp-1 ").former_texts(), ["emp-1 "]);
    assert_eq!(identity("emp-1").former_texts(), [""; 0]);
    assert_eq!(Identity::ExternalId(ExternalId::parse("emp-1 ").unwrap()).former_texts(), ["emp-1 "]);
    assert_eq!(Identity::Email("Rene\u{301}@x".into()).former_texts(), ["rene\u{301}@x"]);
}

proptest! {
    #[test]
    fn a_form_is_its_own_form(text in "\\PC{0,12}|[ \u{a0}\u{300}-\u{304}\u{130}Σσa-zA-Z@.\u{1100}-\u{1112}\u{1161}-\u{1169}]{0,12}") {
        if let Ok(id) = ExternalId::parse(&text) {
            prop_assert_eq!(id.as_str(), &*id.identity());
            prop_assert_eq!(&ExternalId::parse(&id).unwrap(), &id);
            prop_assert!(Identity::ExternalId(text.as_str().into()) == Identity::ExternalId(id));
        }
        if let Ok(name) = UserName::parse(&text) {
            let key = name.identity().into_owned();
            prop_assert_eq!(&*caseless_key(&key), key.as_str());
            prop_assert_eq!(&*caseless_key(&text), key.as_str());
            let again = UserName::parse(&name).unwrap();
            prop_assert_eq!(&*again.identity(), key.as_str());
        }
    }
}

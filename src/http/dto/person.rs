//! The fields of a person in requests and responses. Requests reject unknown fields and responses may gain fields, so
//! there are two families of types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::candidate as domain;
use crate::domain::error::FieldError;
use crate::http::extract::validate::{StrictObject, word};

/// A name and its parts.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameInput {
    /// First name.
    #[schema(max_length = 200)]
    given_name: Option<String>,
    /// Last name.
    #[schema(max_length = 200)]
    family_name: Option<String>,
    /// The display name. Default: the other parts joined.
    #[schema(max_length = 200)]
    formatted: Option<String>,
}

impl From<NameInput> for domain::Name {
    fn from(input: NameInput) -> Self {
        let NameInput { given_name, family_name, formatted } = input;
        Self { given_name, family_name, formatted }
    }
}

/// A postal address.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressInput {
    /// Street and number.
    #[schema(max_length = 200)]
    street_address: Option<String>,
    /// City.
    #[schema(max_length = 200)]
    locality: Option<String>,
    /// State or province.
    #[schema(max_length = 200)]
    region: Option<String>,
    /// Postal code.
    #[schema(max_length = 200)]
    postal_code: Option<String>,
    /// Country, as the vendor spells it.
    #[schema(max_length = 200)]
    country: Option<String>,
}

impl From<AddressInput> for domain::Address {
    fn from(input: AddressInput) -> Self {
        let AddressInput { street_address, locality, region, postal_code, country } = input;
        Self { street_address, locality, region, postal_code, country }
    }
}

/// A telephone number.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PhoneNumberInput {
    /// The type of number; at most one number per type.
    #[serde(rename = "type", default, deserialize_with = "word")]
    #[schema(required = true, nullable = false)]
    pub(super) kind: Option<PhoneType>,
    /// The number, as it should be written.
    #[schema(required = true, nullable = false, min_length = 1, max_length = 200)]
    pub(super) value: Option<String>,
}

/// The type of a telephone number.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhoneType {
    /// A mobile telephone.
    Mobile,
    /// A work telephone.
    Work,
}

impl From<PhoneType> for domain::PhoneKind {
    fn from(kind: PhoneType) -> Self {
        match kind {
            PhoneType::Mobile => Self::Mobile,
            PhoneType::Work => Self::Work,
        }
    }
}

impl From<domain::PhoneKind> for PhoneType {
    fn from(kind: domain::PhoneKind) -> Self {
        match kind {
            domain::PhoneKind::Mobile => Self::Mobile,
            domain::PhoneKind::Work => Self::Work,
        }
    }
}

/// What to do if the gateway already has the candidate.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfCandidateExists {
    /// Return the existing candidate; a warning `existing_differs` names the fields that differ.
    Reuse,
    /// Send the new field values to the vendor.
    Update,
    /// Reject the request with `candidate_already_exists`.
    Fail,
}

impl From<IfCandidateExists> for domain::IfCandidateExists {
    fn from(word: IfCandidateExists) -> Self {
        match word {
            IfCandidateExists::Reuse => Self::Reuse,
            IfCandidateExists::Update => Self::Update,
            IfCandidateExists::Fail => Self::Fail,
        }
    }
}

/// The fields of a person as received, before any check.
#[derive(Default)]
pub(super) struct PersonFields {
    pub(super) external_id: Option<String>,
    pub(super) user_name: Option<String>,
    pub(super) name: Option<StrictObject<NameInput>>,
    pub(super) email: Option<String>,
    pub(super) active: Option<bool>,
    pub(super) phone_numbers: Option<Vec<StrictObject<PhoneNumberInput>>>,
    pub(super) address: Option<StrictObject<AddressInput>>,
    pub(super) group: Option<String>,
    pub(super) birth_date: Option<String>,
    pub(super) gender: Option<String>,
    pub(super) photo: Option<String>,
    pub(super) custom: Option<BTreeMap<String, Option<String>>>,
}

/// Declares a document with the fields of a person and some of its own. (`serde(flatten)` would swallow unknown
/// fields.)
macro_rules! with_person {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$extra_meta:meta])* $extra:ident: $extra_type:ty,)*
            ..
            $($(#[$after_meta:meta])* $after:ident: $after_type:ty,)*
        }
    ) => {
        #[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "camelCase")]
        $(#[$meta])*
        pub struct $name {
            $($(#[$extra_meta])* $extra: $extra_type,)*
            /// The name to sign in with.
            #[schema(min_length = 1, max_length = 200)]
            user_name: Option<String>,
            /// The name and its parts.
            #[schema(value_type = Option<$crate::http::dto::person::NameInput>)]
            name: Option<$crate::http::extract::validate::StrictObject<$crate::http::dto::person::NameInput>>,
            /// The e-mail address.
            #[schema(format = "email", max_length = 254)]
            email: Option<String>,
            /// Whether the person may take assessments. Default: true.
            active: Option<bool>,
            /// Telephone numbers, at most one per type.
            #[schema(value_type = Option<Vec<$crate::http::dto::person::PhoneNumberInput>>, max_items = 2)]
            phone_numbers: Option<Vec<$crate::http::extract::validate::StrictObject<$crate::http::dto::person::PhoneNumberInput>>>,
            /// Postal address.
            #[schema(value_type = Option<$crate::http::dto::person::AddressInput>)]
            address: Option<$crate::http::extract::validate::StrictObject<$crate::http::dto::person::AddressInput>>,
            /// The group at the vendor (classroom, course) that the person joins. Default: the connection's default
            /// group.
            #[schema(min_length = 1, max_length = 200)]
            group: Option<String>,
            /// Date of birth.
            #[schema(value_type = Option<String>, format = Date)]
            birth_date: Option<String>,
            /// Gender, as the vendor spells it.
            #[schema(min_length = 1, max_length = 200)]
            gender: Option<String>,
            /// A picture in Base64.
            #[schema(min_length = 1, max_length = 1_048_576)]
            photo: Option<String>,
            /// Fields specific to the vendor account, at most 50.
            custom: Option<std::collections::BTreeMap<String, Option<String>>>,
            $($(#[$after_meta])* $after: $after_type,)*
        }
    };
}
pub(super) use with_person;

impl PersonFields {
    /// Returns the person and the errors that only this document can have. If there are errors, use the person for
    /// further checks only.
    pub(super) fn into_person(self) -> (domain::Person, Vec<FieldError>) {
        let Self {
            external_id,
            user_name,
            name,
            email,
            active,
            phone_numbers,
            address,
            group,
            birth_date,
            gender,
            photo,
            custom,
        } = self;
        let (phone_numbers, faults) = phone_numbers_of(phone_numbers.unwrap_or_default());
        let person = domain::Person {
            external_id,
            user_name,
            name: name.map(|StrictObject(name)| name.into()).unwrap_or_default(),
            email,
            active,
            phone_numbers,
            address: address.map(|StrictObject(address)| address.into()).unwrap_or_default(),
            group,
            birth_date,
            gender,
            photo: photo.map(Into::into),
            // A field set to null counts as not given.
            custom: custom.unwrap_or_default().into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        };
        (person, faults)
    }
}

/// Returns the numbers and the fields missing in them. A placeholder replaces what is missing, so that other errors of
/// a number are still found, at the right position.
fn phone_numbers_of(inputs: Vec<StrictObject<PhoneNumberInput>>) -> (Vec<domain::PhoneNumber>, Vec<FieldError>) {
    // Two types allow at most two numbers; the check of the person compares every pair.
    if inputs.len() > 2 {
        return (Vec::new(), vec![FieldError::invalid("/phoneNumbers", "must not have more than 2 entries")]);
    }
    let given: Vec<domain::PhoneKind> =
        inputs.iter().filter_map(|StrictObject(number)| number.kind.map(Into::into)).collect();
    let kinds = [domain::PhoneKind::Mobile, domain::PhoneKind::Work];
    let mut free = kinds.into_iter().filter(|kind| !given.contains(kind));
    let mut numbers = Vec::new();
    let mut faults = Vec::new();
    for (index, StrictObject(PhoneNumberInput { kind, value })) in inputs.into_iter().enumerate() {
        let missing = [("type", kind.is_none()), ("value", value.is_none())];
        let missing = missing.into_iter().filter(|(_, missing)| *missing);
        faults.extend(
            missing.map(|(member, _)| FieldError::missing(format!("/phoneNumbers/{index}/{member}"), "is missing")),
        );
        let kind = kind.map(Into::into).or_else(|| free.next()).unwrap_or(domain::PhoneKind::Mobile);
        numbers.push(domain::PhoneNumber { kind, value: value.unwrap_or_else(|| "-".to_owned()) });
    }
    (numbers, faults)
}

/// A name and its parts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "SCIM's field names")]
pub struct Name {
    /// First name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_name: Option<String>,
    /// Last name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family_name: Option<String>,
    /// The display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formatted: Option<String>,
}

impl Name {
    pub(super) fn of(name: domain::Name) -> Option<Self> {
        let given = name != domain::Name::default();
        let domain::Name { given_name, family_name, formatted } = name;
        given.then_some(Self { given_name, family_name, formatted })
    }
}

/// A postal address.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "SCIM's field names")]
pub struct Address {
    /// Street and number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub street_address: Option<String>,
    /// City.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<String>,
    /// State or province.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// Country, as the vendor spells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

impl Address {
    pub(super) fn of(address: domain::Address) -> Option<Self> {
        let given = address != domain::Address::default();
        let domain::Address { street_address, locality, region, postal_code, country } = address;
        given.then_some(Self { street_address, locality, region, postal_code, country })
    }
}

/// A telephone number.
#[derive(Debug, Serialize, ToSchema)]
pub struct PhoneNumber {
    /// The type of number.
    #[serde(rename = "type")]
    pub kind: PhoneType,
    /// The number as written.
    pub value: String,
}

impl From<domain::PhoneNumber> for PhoneNumber {
    fn from(number: domain::PhoneNumber) -> Self {
        let domain::PhoneNumber { kind, value } = number;
        Self { kind: kind.into(), value }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::http::dto::candidate::NewCandidate;
    use crate::http::extract::validate::parse;

    fn told(numbers: &Value) -> Vec<String> {
        let fault = parse::<NewCandidate>(&json!({ "phoneNumbers": numbers })).err();
        let errors = fault.map(|fault| fault.errors).unwrap_or_default();
        errors.into_iter().map(|error| error.pointer.replace("/phoneNumbers", "")).collect()
    }

    #[test]
    fn phone_number_errors_keep_their_positions_beside_incomplete_numbers() {
        for (numbers, expected) in [
            (json!([{ "value": "1" }, { "type": "work", "value": " " }]), &["/0/type", "/1/value"][..]),
            (json!([{ "type": "work" }, { "type": "work", "value": "1" }]), &["/0/value", "/1/type"]),
            (json!([{ "value": " " }, { "value": "1" }]), &["/0/type", "/1/type", "/0/value"]),
            (json!([{ "type": "mobile", "value": "1" }, { "value": "2" }]), &["/1/type"]),
            (json!([{ "value": "1" }, { "type": "mobile", "value": "2" }]), &["/0/type"]),
            (json!([{}, {}]), &["/0/type", "/0/value", "/1/type", "/1/value"]),
            (json!([{}, {}, {}]), &[""]),
        ] {
            assert_eq!(told(&numbers), expected, "{numbers}");
        }
    }
}

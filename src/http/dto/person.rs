//! The fields of a person in requests and responses. Requests reject unknown fields and responses may gain fields, so
//! there are two families of types.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::candidate as domain;
use crate::domain::candidate::PhoneKind;
use crate::domain::error::FieldError;
use crate::domain::validation::FieldErrors;
use crate::http::extract::validate::{StrictObject, word};

/// Declares a group of text fields as requests and as responses have it. Each field has its description in a request and
/// in a response.
macro_rules! text_group {
    ($(#[$doc:meta])* $input:ident, $output:ident { $($field:ident $given:literal $shown:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $input {
            $(#[doc = $given] #[schema(max_length = 200)] $field: Option<String>,)*
        }

        impl From<$input> for domain::$output {
            fn from(input: $input) -> Self {
                Self { $($field: input.$field,)* }
            }
        }

        $(#[$doc])*
        #[derive(Debug, Serialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        #[expect(clippy::struct_field_names, reason = "SCIM's field names")]
        pub struct $output {
            $(#[doc = $shown] #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<String>,)*
        }

        impl $output {
            /// Returns the group, unless it is empty.
            pub(super) fn of(group: domain::$output) -> Option<Self> {
                (group != domain::$output::default()).then(|| Self { $($field: group.$field,)* })
            }
        }
    };
}

text_group! {
    /// A name and its parts.
    NameInput, Name {
        given_name "First name." "First name.",
        family_name "Last name." "Last name.",
        formatted "The display name. Default: the other parts joined." "The display name.",
    }
}

text_group! {
    /// A postal address.
    AddressInput, Address {
        street_address "Street and number; may have several lines." "Street and number.",
        locality "City." "City.",
        region "State or province." "State or province.",
        postal_code "Postal code." "Postal code.",
        country "Country, as the vendor spells it." "Country, as the vendor spells it.",
    }
}

/// A telephone number.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PhoneNumberInput {
    /// The type of number; at most one number per type.
    #[serde(rename = "type", default, deserialize_with = "word")]
    #[schema(required = true, nullable = false)]
    pub(super) kind: Option<PhoneKind>,
    /// The number, as it should be written.
    #[schema(required = true, nullable = false, min_length = 1, max_length = 200)]
    pub(super) value: Option<String>,
}

/// Declares a document with the fields of a person, apart from `externalId`, and some of its own. (`serde(flatten)`
/// would swallow unknown fields.)
macro_rules! with_person {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$extra_meta:meta])* $extra:ident: $extra_type:ty,)*
            ..
            $($(#[$after_meta:meta])* $after:ident: $after_type:ty,)*
        }
    ) => {
        #[derive(Debug, Deserialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        $(#[$meta])*
        pub struct $name {
            $($(#[$extra_meta])* $extra: $extra_type,)*
            /// The name to sign in with.
            #[schema(min_length = 1, max_length = 200)]
            user_name: Option<String>,
            /// The name and its parts.
            #[schema(value_type = Option<NameInput>)]
            name: Option<StrictObject<NameInput>>,
            /// The e-mail address.
            #[schema(format = "email", max_length = 254)]
            email: Option<String>,
            /// Whether the person may take assessments. Default: true.
            active: Option<bool>,
            /// Telephone numbers, at most one per type.
            #[schema(value_type = Option<Vec<PhoneNumberInput>>, max_items = 2)]
            phone_numbers: Option<Vec<StrictObject<PhoneNumberInput>>>,
            /// Postal address.
            #[schema(value_type = Option<AddressInput>)]
            address: Option<StrictObject<AddressInput>>,
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
            custom: Option<BTreeMap<String, Option<String>>>,
            $($(#[$after_meta])* $after: $after_type,)*
        }

        impl $name {
            /// Takes the person out, with the errors that only this document can have; a placeholder replaces an invalid
            /// field, so that the others can be checked.
            fn take_person(&mut self, errors: &mut FieldErrors) -> domain::Person {
                domain::Person {
                    external_id: None,
                    user_name: self.user_name.take().map(Into::into),
                    name: self.name.take().map(|StrictObject(name)| name.into()).unwrap_or_default(),
                    email: self.email.take().map(Into::into),
                    active: self.active,
                    phone_numbers: phone_numbers(self.phone_numbers.take().unwrap_or_default(), errors),
                    address: self.address.take().map(|StrictObject(address)| address.into()).unwrap_or_default(),
                    group: self.group.take(),
                    birth_date: self.birth_date.take(),
                    gender: self.gender.take(),
                    photo: self.photo.take().map(Into::into),
                    // A field set to null counts as not given.
                    custom: self.custom.take().into_iter().flatten().filter_map(|(key, value)| Some((key, value?))).collect(),
                }
            }
        }
    };
}
pub(super) use with_person;

/// Converts the numbers and adds the fields missing in them to the errors. A placeholder replaces what is missing, so
/// that other errors of a number are still found, at the right position.
pub(super) fn phone_numbers(
    inputs: Vec<StrictObject<PhoneNumberInput>>,
    errors: &mut FieldErrors,
) -> Vec<domain::PhoneNumber> {
    // Two types allow at most two numbers; the check of the person compares every pair.
    if inputs.len() > 2 {
        errors.push(FieldError::invalid("/phoneNumbers", "must not have more than 2 entries"));
        return Vec::new();
    }
    let given: Vec<PhoneKind> = inputs.iter().filter_map(|StrictObject(number)| number.kind).collect();
    let mut free = PhoneKind::ALL.iter().copied().filter(|kind| !given.contains(kind));
    let mut numbers = Vec::new();
    for (index, StrictObject(PhoneNumberInput { kind, value })) in inputs.into_iter().enumerate() {
        let missing = [("type", kind.is_none()), ("value", value.is_none())];
        let missing = missing.into_iter().filter(|(_, missing)| *missing);
        errors.extend(
            missing.map(|(member, _)| FieldError::missing(format!("/phoneNumbers/{index}/{member}"), "is missing")),
        );
        let kind = kind.or_else(|| free.next()).unwrap_or(PhoneKind::Mobile);
        numbers.push(domain::PhoneNumber { kind, value: value.unwrap_or_else(|| "-".to_owned()) });
    }
    numbers
}

/// A telephone number.
#[derive(Debug, Serialize, ToSchema)]
pub struct PhoneNumber {
    /// The type of number.
    #[serde(rename = "type")]
    pub kind: PhoneKind,
    /// The number as written.
    pub value: String,
}

impl From<domain::PhoneNumber> for PhoneNumber {
    fn from(number: domain::PhoneNumber) -> Self {
        let domain::PhoneNumber { kind, value } = number;
        Self { kind, value }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::http::dto::candidate::NewCandidate;
    use crate::http::extract::validate::parse;

    fn error_pointers(numbers: &Value) -> Vec<String> {
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
            assert_eq!(error_pointers(&numbers), expected, "{numbers}");
        }
    }
}

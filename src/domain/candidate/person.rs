//! A person's attributes, with their checks and comparisons.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::domain::error::FieldError;
use crate::domain::validation::{FieldErrors, pointer_token};
use crate::domain::words::words;

/// A person's attributes (SCIM and `OneRoster` fields). Valid by construction through [`Person::checked`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The caller's own id.
    pub external_id: Option<String>,
    /// The sign-in name.
    pub user_name: Option<String>,
    /// The name.
    pub name: Name,
    /// The e-mail address.
    pub email: Option<String>,
    /// Whether the person may take part; `None` means yes.
    pub active: Option<bool>,
    /// Telephone numbers, at most one per kind.
    pub phone_numbers: Vec<PhoneNumber>,
    /// Postal address.
    pub address: Address,
    /// The vendor-side group (classroom, course) that the person joins.
    pub group: Option<String>,
    /// Date of birth, `YYYY-MM-DD`.
    pub birth_date: Option<String>,
    /// Gender, as the vendor spells it.
    pub gender: Option<String>,
    /// A picture in Base64.
    pub photo: Option<Photo>,
    /// Fields defined by the vendor's account.
    pub custom: BTreeMap<String, String>,
}

/// A picture in Base64, by far the largest field of a person. Clones share the text, because the record, the intent and
/// the call hold the same person at the same time.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Photo(Arc<str>);

impl From<String> for Photo {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Deref for Photo {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Serialize for Photo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl fmt::Debug for Photo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Photo({} bytes)", self.len())
    }
}

/// The parts of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// First name.
    pub given_name: Option<String>,
    /// Last name.
    pub family_name: Option<String>,
    /// The display name.
    pub formatted: Option<String>,
}

/// A postal address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Street and number.
    pub street_address: Option<String>,
    /// City.
    pub locality: Option<String>,
    /// State or province.
    pub region: Option<String>,
    /// Postal code.
    pub postal_code: Option<String>,
    /// Country, as the vendor spells it.
    pub country: Option<String>,
}

/// A telephone number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhoneNumber {
    /// The kind of number.
    pub kind: PhoneKind,
    /// The number as written.
    pub value: String,
}

words! {
    /// The type of a telephone number.
    #[schema(as = PhoneType)]
    pub enum PhoneKind {
        /// A mobile telephone.
        Mobile "mobile",
        /// A work telephone.
        Work "work",
    }
}

/// Maximum lengths, in characters. `EXTERNAL_ID` is the smallest limit that a vendor documents (`StartExam`: 250).
pub mod limits {
    /// The caller's own id.
    pub const EXTERNAL_ID: usize = 250;
    /// Names, numbers, groups and other lines.
    pub const LINE: usize = 200;
    /// A password.
    pub const PASSWORD: usize = 128;
    /// A picture in Base64 (about 768 KiB of picture).
    pub const PHOTO: usize = 1 << 20;
    /// Number of custom fields.
    pub const CUSTOM_MEMBERS: usize = 50;
}

impl Person {
    /// Validates the person. Pointers are those of the API (`/name/givenName`).
    ///
    /// # Errors
    /// All invalid fields.
    pub fn checked(self) -> Result<Self, Vec<FieldError>> {
        let mut errors = FieldErrors::new();
        errors.check_line("/externalId", self.external_id.as_deref(), limits::EXTERNAL_ID);
        errors.check_line("/userName", self.user_name.as_deref(), limits::LINE);
        errors.check_line("/name/givenName", self.name.given_name.as_deref(), limits::LINE);
        errors.check_line("/name/familyName", self.name.family_name.as_deref(), limits::LINE);
        errors.check_line("/name/formatted", self.name.formatted.as_deref(), limits::LINE);
        errors.check_email("/email", self.email.as_deref());
        errors.check_line("/group", self.group.as_deref(), limits::LINE);
        errors.check_date("/birthDate", self.birth_date.as_deref());
        errors.check_line("/gender", self.gender.as_deref(), limits::LINE);
        errors.check_line("/photo", self.photo.as_deref(), limits::PHOTO);
        for (pointer, value) in self.address.members() {
            errors.check_line(pointer, value, limits::LINE);
        }
        for (index, number) in self.phone_numbers.iter().enumerate() {
            errors.check_line(&format!("/phoneNumbers/{index}/value"), Some(&number.value), limits::LINE);
            if self.phone_numbers[..index].iter().any(|earlier| earlier.kind == number.kind) {
                let pointer = format!("/phoneNumbers/{index}/type");
                errors.push(FieldError::invalid(pointer, "an earlier number has the same type"));
            }
        }
        for (name, value) in &self.custom {
            let pointer = format!("/custom/{}", pointer_token(name));
            errors.check_line(&pointer, Some(name), limits::LINE);
            errors.check_line(&pointer, Some(value), limits::LINE);
        }
        if self.custom.len() > limits::CUSTOM_MEMBERS {
            let detail = format!("must not have more than {} entries", limits::CUSTOM_MEMBERS);
            errors.push(FieldError::invalid("/custom", detail));
        }
        errors.into_result(self)
    }

    /// Returns whether the person may take part.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active.unwrap_or(true)
    }

    /// Returns the number of this kind.
    #[must_use]
    pub fn phone(&self, kind: PhoneKind) -> Option<&str> {
        self.phone_numbers.iter().find(|number| number.kind == kind).map(|number| number.value.as_str())
    }

    /// Overlays the fields that `given` sets; returns the result and the pointers of the fields that changed.
    #[must_use]
    pub fn merged_with(&self, given: &Self) -> (Self, Vec<String>) {
        let over = |given: &Option<String>, present: &Option<String>| given.clone().or_else(|| present.clone());
        let mut phone_numbers = self.phone_numbers.clone();
        for number in &given.phone_numbers {
            phone_numbers.retain(|present| present.kind != number.kind);
            phone_numbers.push(number.clone());
        }
        let mut custom = self.custom.clone();
        custom.extend(given.custom.clone());
        let person = Self {
            external_id: over(&given.external_id, &self.external_id),
            user_name: over(&given.user_name, &self.user_name),
            name: Name {
                given_name: over(&given.name.given_name, &self.name.given_name),
                family_name: over(&given.name.family_name, &self.name.family_name),
                formatted: over(&given.name.formatted, &self.name.formatted),
            },
            email: over(&given.email, &self.email),
            active: given.active.or(self.active),
            phone_numbers,
            address: Address {
                street_address: over(&given.address.street_address, &self.address.street_address),
                locality: over(&given.address.locality, &self.address.locality),
                region: over(&given.address.region, &self.address.region),
                postal_code: over(&given.address.postal_code, &self.address.postal_code),
                country: over(&given.address.country, &self.address.country),
            },
            group: over(&given.group, &self.group),
            birth_date: over(&given.birth_date, &self.birth_date),
            gender: over(&given.gender, &self.gender),
            photo: given.photo.clone().or_else(|| self.photo.clone()),
            custom,
        };
        let touched = self.differences(&person);
        (person, touched)
    }

    /// Returns the pointers of the fields in which the two differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (one, two) = (self.flat(), other.flat());
        let pointers: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
        pointers.into_iter().filter(|pointer| one.get(*pointer) != two.get(*pointer)).cloned().collect()
    }

    /// Returns the pointers of the fields that are set, for warnings about unsupported ones.
    #[must_use]
    pub fn present_members(&self) -> Vec<String> {
        self.members(|index, _| index.to_string()).into_iter().map(|(pointer, _)| pointer).collect()
    }

    /// Maps pointers to values for comparison: telephone numbers by kind, because their order is irrelevant, and
    /// `active` only if it differs from the default.
    fn flat(&self) -> BTreeMap<String, String> {
        let mut members: BTreeMap<_, _> =
            self.members(|_, number| number.kind.as_str().to_owned()).into_iter().collect();
        if self.is_active() {
            members.remove("/active");
        }
        members
    }

    /// Lists all set fields with their pointers; `phone` names a telephone number below `/phoneNumbers/`.
    fn members(&self, phone: impl Fn(usize, &PhoneNumber) -> String) -> Vec<(String, String)> {
        let active = self.active.map(|active| active.to_string());
        let single = [
            ("/externalId", self.external_id.as_deref()),
            ("/userName", self.user_name.as_deref()),
            ("/name/givenName", self.name.given_name.as_deref()),
            ("/name/familyName", self.name.family_name.as_deref()),
            ("/name/formatted", self.name.formatted.as_deref()),
            ("/email", self.email.as_deref()),
            ("/active", active.as_deref()),
            ("/group", self.group.as_deref()),
            ("/birthDate", self.birth_date.as_deref()),
            ("/gender", self.gender.as_deref()),
            ("/photo", self.photo.as_deref()),
        ];
        let given = |(pointer, value): (&str, Option<&str>)| Some((pointer.to_owned(), value?.to_owned()));
        let phones = (0..)
            .zip(&self.phone_numbers)
            .map(|(index, number)| (format!("/phoneNumbers/{}", phone(index, number)), number.value.clone()));
        let custom =
            self.custom.iter().map(|(name, value)| (format!("/custom/{}", pointer_token(name)), value.clone()));
        let address = self.address.members().into_iter().filter_map(given);
        single.into_iter().filter_map(given).chain(phones).chain(address).chain(custom).collect()
    }
}

impl Name {
    /// Returns the display name: `formatted`, else first and last name joined.
    #[must_use]
    pub fn display_name(&self) -> Option<String> {
        if self.formatted.is_some() {
            return self.formatted.clone();
        }
        let parts: Vec<&str> =
            [&self.given_name, &self.family_name].into_iter().flatten().map(String::as_str).collect();
        if parts.is_empty() { None } else { Some(parts.join(" ")) }
    }
}

impl Address {
    /// Lists all fields with their pointers.
    fn members(&self) -> [(&'static str, Option<&str>); 5] {
        [
            ("/address/streetAddress", self.street_address.as_deref()),
            ("/address/locality", self.locality.as_deref()),
            ("/address/region", self.region.as_deref()),
            ("/address/postalCode", self.postal_code.as_deref()),
            ("/address/country", self.country.as_deref()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Person {
        let text = || Some("x".to_owned());
        // Without `..`: a new field must be added here, and with it to the lists above.
        Person {
            external_id: text(),
            user_name: text(),
            name: Name { given_name: text(), family_name: text(), formatted: text() },
            email: Some("a@example.com".to_owned()),
            active: Some(false),
            phone_numbers: vec![PhoneNumber { kind: PhoneKind::Mobile, value: "1".to_owned() }],
            address: Address {
                street_address: text(),
                locality: text(),
                region: text(),
                postal_code: text(),
                country: text(),
            },
            group: text(),
            birth_date: Some("1990-01-01".to_owned()),
            gender: text(),
            photo: Some("QUJD".to_owned().into()),
            custom: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        }
    }

    #[test]
    fn every_field_is_listed_and_merged() {
        let full = full();
        assert!(full.clone().checked().is_ok());
        assert_eq!(full.present_members().len(), 18);
        let (merged, touched) = Person::default().merged_with(&full);
        assert_eq!((&merged, touched.len()), (&full, 18));
        assert_eq!(full.merged_with(&Person::default()), (full.clone(), Vec::new()));
    }
}

//! A person's attributes, with their checks and comparisons.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::domain::error::FieldError;
use crate::domain::identity::{EmailAddress, ExternalId, UserName};
use crate::domain::validation::{FieldErrors, pointer_token};
use crate::domain::words::words;

/// A person's attributes (SCIM and `OneRoster` fields). Valid by construction through [`Person::checked`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The caller's own id.
    pub external_id: Option<ExternalId>,
    /// The sign-in name.
    pub user_name: Option<UserName>,
    /// The name.
    pub name: Name,
    /// The e-mail address.
    pub email: Option<EmailAddress>,
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

/// Maximum lengths, in characters.
pub mod limits {
    pub use crate::domain::identity::MAX_EXTERNAL_ID as EXTERNAL_ID;

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
    /// Validates the person, and brings identities and names into their one form. Pointers are those of the API
    /// (`/name/givenName`).
    ///
    /// # Errors
    /// All invalid fields.
    pub fn checked(self) -> Result<Self, Vec<FieldError>> {
        let mut errors = FieldErrors::new();
        let Name { given_name, family_name, formatted } = self.name;
        let person = Self {
            external_id: errors.take("/externalId", self.external_id.map(|id| id.reparse())),
            user_name: errors.take("/userName", self.user_name.map(|name| name.reparse())),
            name: Name {
                given_name: errors.take_name("/name/givenName", given_name, limits::LINE),
                family_name: errors.take_name("/name/familyName", family_name, limits::LINE),
                formatted: errors.take_name("/name/formatted", formatted, limits::LINE),
            },
            email: errors.take("/email", self.email.map(|email| email.reparse())),
            ..self
        };
        person.check_other_fields(&mut errors);
        errors.into_result(person)
    }

    /// Checks the fields that stay as they are given.
    fn check_other_fields(&self, errors: &mut FieldErrors) {
        errors.check_line("/group", self.group.as_deref(), limits::LINE);
        errors.check_date("/birthDate", self.birth_date.as_deref());
        errors.check_line("/gender", self.gender.as_deref(), limits::LINE);
        errors.check_line("/photo", self.photo.as_deref(), limits::PHOTO);
        for (pointer, value) in self.address.members() {
            match pointer {
                // RFC 7643 §4.1.2: this one may contain newlines.
                "/address/streetAddress" => errors.check_lines(pointer, value, limits::LINE),
                _ => errors.check_line(pointer, value, limits::LINE),
            }
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
        errors.extend(self.too_many_custom_fields());
    }

    /// Returns the error of a person with more custom fields than allowed.
    #[must_use]
    pub fn too_many_custom_fields(&self) -> Option<FieldError> {
        let detail = || format!("must not have more than {} entries", limits::CUSTOM_MEMBERS);
        (self.custom.len() > limits::CUSTOM_MEMBERS).then(|| FieldError::invalid("/custom", detail()))
    }

    /// Returns the person with each identity as the caller gave it, for a row that is checked again before it is sent.
    #[must_use]
    pub fn as_given(mut self) -> Self {
        self.external_id = self.external_id.map(|id| id.as_given().into());
        self.user_name = self.user_name.map(|name| name.as_given().into());
        self.email = self.email.map(|email| email.as_given().into());
        self
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

    /// Overlays the fields that `given` sets; returns the result and the pointers of the fields that changed. The spelling
    /// of an identity that stays the same stays too: the vendor knows it.
    #[must_use]
    pub fn merged_with(&self, given: &Self) -> (Self, Vec<String>) {
        // A macro, because each identity has a type of its own.
        macro_rules! identity {
            ($field:ident) => {
                match (&given.$field, &self.$field) {
                    (Some(given), Some(present)) if given.is_same(present) => Some(present.clone()),
                    (given, present) => given.clone().or_else(|| present.clone()),
                }
            };
        }
        let over = |given: &Option<String>, present: &Option<String>| given.clone().or_else(|| present.clone());
        let mut phone_numbers = self.phone_numbers.clone();
        for number in &given.phone_numbers {
            phone_numbers.retain(|present| present.kind != number.kind);
            phone_numbers.push(number.clone());
        }
        let mut custom = self.custom.clone();
        custom.extend(given.custom.clone());
        let person = Self {
            external_id: identity!(external_id),
            user_name: identity!(user_name),
            name: Name {
                given_name: over(&given.name.given_name, &self.name.given_name),
                family_name: over(&given.name.family_name, &self.name.family_name),
                formatted: over(&given.name.formatted, &self.name.formatted),
            },
            email: identity!(email),
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

    /// Returns the pointers of the fields in which the two differ. Two spellings of an identity do not differ.
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
        let keys = [
            ("/externalId", self.external_id.as_ref().map(ExternalId::identity)),
            ("/userName", self.user_name.as_ref().map(UserName::identity)),
            ("/email", self.email.as_ref().map(EmailAddress::identity)),
        ];
        members.extend(keys.into_iter().filter_map(|(pointer, key)| Some((pointer.to_owned(), key?.into_owned()))));
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
    /// Returns the street address on one line, for a vendor that has one line: its lines joined with ", ".
    #[must_use]
    pub fn street_line(&self) -> Option<Cow<'_, str>> {
        let text = self.street_address.as_deref()?;
        if !text.contains(['\r', '\n']) {
            return Some(Cow::Borrowed(text));
        }
        let lines: Vec<&str> = text.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty()).collect();
        Some(Cow::Owned(lines.join(", ")))
    }

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
            external_id: Some("x".into()),
            user_name: Some("x".into()),
            name: Name { given_name: text(), family_name: text(), formatted: text() },
            email: Some("a@example.com".into()),
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

    #[test]
    fn identities_and_names_get_one_form_and_other_fields_stay() {
        let given = Person {
            external_id: Some("emp-1\u{a0}".into()),
            email: Some(" Ana@Example.com ".into()),
            name: Name {
                given_name: Some(" Rene\u{301} ".into()),
                family_name: Some("\u{646}\u{200c}\u{627}".into()),
                formatted: None,
            },
            group: Some(" G ".into()),
            ..Person::default()
        };
        let person = given.clone().checked().unwrap();
        assert_eq!(person.external_id.as_deref(), Some("emp-1"));
        assert_eq!(person.email.as_deref(), Some("Ana@Example.com"));
        assert_eq!(person.name.given_name.as_deref(), Some("Ren\u{e9}"));
        assert_eq!(person.name.family_name.as_deref(), Some("\u{646}\u{200c}\u{627}"));
        assert_eq!(person.group.as_deref(), Some(" G "));
        assert_eq!(person.clone().as_given().external_id, given.external_id);
        assert_eq!(person.clone().checked(), Ok(person));
    }

    #[test]
    fn another_spelling_is_no_difference_and_the_present_one_stays() {
        let present = Person { external_id: Some("emp-1 ".into()), email: Some("A@x".into()), ..Person::default() };
        let given = Person { external_id: Some("emp-1".into()), email: Some("a@x".into()), ..Person::default() };
        assert_eq!(present.merged_with(&given), (present.clone(), Vec::new()));
        let other = Person { external_id: Some("emp-2".into()), ..given };
        assert_eq!(present.merged_with(&other).1, ["/externalId"]);
    }

    #[test]
    fn a_street_address_may_have_several_lines() {
        let person = |street: &str| Person {
            address: Address { street_address: Some(street.to_owned()), ..Address::default() },
            ..Person::default()
        };
        let lines = "Main Street 1\r\nFlat 2\n\n 3rd floor \r";
        let kept = person(lines).checked().unwrap();
        assert_eq!(kept.address.street_address.as_deref(), Some(lines));
        assert_eq!(kept.address.street_line().as_deref(), Some("Main Street 1, Flat 2, 3rd floor"));
        assert_eq!(person("a\tb").checked().unwrap_err().len(), 1);
        assert_eq!(person("\r\n").checked().unwrap_err().len(), 1);
    }
}

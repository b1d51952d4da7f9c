//! Settings of a `StartExam` account and their validation.
//!
//! Errors must never show the secret.

use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use url::{Position, Url};
use zeroize::Zeroizing;

use super::wire::guid;
use crate::domain::validation::FieldErrors;
use crate::secret::{Secret, SecretRef};
use crate::transport::ConnectionSettings;
use crate::vendors::{AdapterContext, SettingError};

/// Vendor-specific keys of `[connections.<name>]` with `vendor = "startexam"`.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// Base URL of the vendor's API; a path prefix (a proxy) is allowed and is part of the signature.
    #[serde(default = "default_base_url")]
    pub base_url: String,
    /// The account's number, from the account's details.
    pub account_id: u64,
    /// The account's secret.
    pub secret: SecretRef,
    /// How to decode the secret's text to the key.
    #[serde(default)]
    pub secret_encoding: SecretEncoding,
    /// Unique name of the centre, for orders that name none.
    pub center: String,
    /// The profile (GUID) whose field rules apply to employees.
    pub profile_id: String,
    /// Names of the profile fields, by attribute of a person.
    #[serde(default)]
    pub profile_fields: ProfileFields,
    /// URL that a candidate opens, with the placeholders `{center}` and `{id}` (the participant).
    #[serde(default = "default_link_template")]
    pub link_template: String,
    /// What the vendor returns for an employee skipped because of `doNotCreateIfExist`.
    #[serde(default)]
    pub existing_registration: ExistingRegistration,
    /// Whether this gateway makes all bookings of this account, so that its store knows every one.
    #[serde(default)]
    pub bookings_only_here: bool,
    /// Whether an order with `ifExists: reuse` books again if the existing booking has expired.
    #[serde(default)]
    pub rebook_expired: bool,
}

/// How to decode the secret's text to the key. The vendor's sentence about it could not be read; both public clients
/// use the text's bytes unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretEncoding {
    /// The text's own bytes.
    #[default]
    Utf8,
    /// The text is Base64 (standard alphabet, padded).
    Base64,
    /// The text is hexadecimal.
    Hex,
}

/// What the vendor returns for an employee skipped because of `doNotCreateIfExist`. Undocumented, so the operator sets
/// it after observing it; it decides how many such rows may share a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExistingRegistration {
    /// Not observed yet.
    #[default]
    Unknown,
    /// The id of the existing registration.
    Repeated,
    /// `null` at the employee's position.
    Null,
    /// Nothing; the list is shorter.
    LeftOut,
}

/// Names of the profile's fields. A name replaces only the default of its own key; an empty name means that the profile
/// has no such field.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ProfileFields {
    /// Field of `name.givenName`.
    pub given_name: String,
    /// Field of `name.familyName`.
    pub family_name: String,
    /// Field of `name.formatted`.
    pub formatted: String,
    /// Field of `email`.
    pub email: String,
    /// Field of the telephone number of type `mobile`.
    pub phone_mobile: String,
    /// Field of the telephone number of type `work`.
    pub phone_work: String,
    /// Field of `address.streetAddress`.
    pub street: String,
    /// Field of `address.locality`.
    pub locality: String,
    /// Field of `address.region`.
    pub region: String,
    /// Field of `address.postalCode`.
    pub postal_code: String,
    /// Field of `address.country`.
    pub country: String,
}

impl Default for ProfileFields {
    // Names from the example on the vendor's page `/Methods/SyncEmployees`.
    fn default() -> Self {
        Self {
            given_name: "First Name".to_owned(),
            family_name: "Last Name".to_owned(),
            formatted: String::new(),
            email: "Email".to_owned(),
            phone_mobile: String::new(),
            phone_work: String::new(),
            street: String::new(),
            locality: String::new(),
            region: String::new(),
            postal_code: String::new(),
            country: String::new(),
        }
    }
}

/// Validated settings.
pub(super) struct Account {
    pub(super) base_url: Url,
    pub(super) number: u64,
    pub(super) secret: Secret,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) center: String,
    pub(super) profile_id: String,
    pub(super) fields: ProfileFields,
    pub(super) link: LinkTemplate,
    pub(super) existing: ExistingRegistration,
    pub(super) bookings_only_here: bool,
    pub(super) rebook_expired: bool,
}

impl Settings {
    /// Validates the settings.
    ///
    /// # Errors
    /// Every invalid setting.
    pub(super) fn checked(self, setup: &AdapterContext<'_>) -> Result<Account, Vec<SettingError>> {
        let mut faults = Vec::new();
        let mut note = |key: &str, detail: String| faults.push(SettingError { key: key.to_owned(), detail });

        let base_url = base_url(&self.base_url, setup.connection).map_err(|detail| note("base_url", detail)).ok();
        if self.account_id == 0 {
            note("account_id", "must be the account's number".to_owned());
        }
        let secret = self.secret.resolve(setup.secrets).and_then(|secret| {
            let key = key_bytes(&secret, self.secret_encoding)?;
            Ok((secret, key))
        });
        let secret = secret.map_err(|detail| note("secret", detail)).ok();
        if let Some(detail) = unfit_line(&self.center) {
            note("center", detail);
        }
        let profile_id = guid(&self.profile_id);
        if profile_id.is_none() {
            note("profile_id", "must be a GUID".to_owned());
        }
        self.profile_fields.check(&mut note);
        let link = LinkTemplate::parse(&self.link_template, setup.connection);
        let link = link.map_err(|detail| note("link_template", detail)).ok();

        let (Some(base_url), Some((secret, key)), Some(profile_id), Some(link), true) =
            (base_url, secret, profile_id, link, faults.is_empty())
        else {
            return Err(faults);
        };
        Ok(Account {
            base_url,
            number: self.account_id,
            secret,
            key,
            center: self.center,
            profile_id,
            fields: self.profile_fields,
            link,
            existing: self.existing_registration,
            bookings_only_here: self.bookings_only_here,
            rebook_expired: self.rebook_expired,
        })
    }
}

impl ProfileFields {
    fn check(&self, note: &mut impl FnMut(&str, String)) {
        let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, field) in self.names() {
            if field.is_empty() {
                continue;
            }
            if let Some(detail) = unfit_line(field) {
                note(&format!("profile_fields.{key}"), detail);
            }
            if let Some(earlier) = taken.insert(field, key) {
                note(&format!("profile_fields.{key}"), format!("names the same profile field as {earlier}"));
            }
        }
    }

    fn names(&self) -> [(&'static str, &str); 11] {
        let Self {
            given_name,
            family_name,
            formatted,
            email,
            phone_mobile,
            phone_work,
            street,
            locality,
            region,
            postal_code,
            country,
        } = self;
        [
            ("given_name", given_name),
            ("family_name", family_name),
            ("formatted", formatted),
            ("email", email),
            ("phone_mobile", phone_mobile),
            ("phone_work", phone_work),
            ("street", street),
            ("locality", locality),
            ("region", region),
            ("postal_code", postal_code),
            ("country", country),
        ]
    }
}

/// Escapes all but the unreserved characters of RFC 3986, so that a value stays one value in a path, query or fragment.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Template of the URL that a candidate opens.
#[derive(Debug)]
pub(super) struct LinkTemplate(String);

impl LinkTemplate {
    fn parse(text: &str, connection: &ConnectionSettings) -> Result<Self, String> {
        let template = Self(text.to_owned());
        if !text.contains("{id}") {
            return Err("must contain {id}, the participant's id".to_owned());
        }
        if text.replace("{center}", "").replace("{id}", "").contains(['{', '}']) {
            return Err("supports only {center} and {id}".to_owned());
        }
        let parse = |center, id| Url::parse(&template.url(center, id)).map_err(|_| "is not a URL".to_owned());
        let (one, other) = (parse("a", "b")?, parse("c", "d")?);
        connection.accepts(&one)?;
        if one[..Position::BeforePath] != other[..Position::BeforePath] {
            return Err("must not use a placeholder in the host".to_owned());
        }
        Ok(template)
    }

    /// Returns the URL for this participant of this centre.
    pub(super) fn url(&self, center: &str, id: &str) -> String {
        // Percent-encoded values contain no brace, so the second replacement cannot change the first value.
        let center = utf8_percent_encode(center, VALUE).to_string();
        let id = utf8_percent_encode(id, VALUE).to_string();
        self.0.replace("{center}", &center).replace("{id}", &id)
    }
}

fn base_url(text: &str, connection: &ConnectionSettings) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| "is not an absolute URL".to_owned())?;
    connection.accepts(&url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or fragment".to_owned());
    }
    Ok(url)
}

fn key_bytes(secret: &Secret, encoding: SecretEncoding) -> Result<Zeroizing<Vec<u8>>, String> {
    let text = secret.expose().as_bytes();
    let bytes = match encoding {
        SecretEncoding::Utf8 => Ok(text.to_vec()),
        SecretEncoding::Base64 => BASE64.decode(text).map_err(|_| "is not valid Base64 (see secret_encoding)"),
        SecretEncoding::Hex => HEXLOWER_PERMISSIVE.decode(text).map_err(|_| "is not hexadecimal (see secret_encoding)"),
    };
    let bytes = bytes.map(Zeroizing::new).map_err(str::to_owned)?;
    if bytes.is_empty() { Err("is empty".to_owned()) } else { Ok(bytes) }
}

fn unfit_line(text: &str) -> Option<String> {
    let mut faults = FieldErrors::new();
    faults.check_line("", Some(text), 200);
    faults.into_result(()).err()?.pop().map(|fault| fault.detail)
}

fn default_base_url() -> String {
    "https://api.startexam.com".to_owned()
}

fn default_link_template() -> String {
    "https://go.startexam.com/{center}#participant/{id}".to_owned()
}

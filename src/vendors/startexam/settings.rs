//! Settings of a `StartExam` account and their validation.
//!
//! Errors must never show the secret.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::{Position, Url};

use super::guid::guid;
use super::results::{FeedSettings, ResultsSettings};
use super::sign::SharedKey;
use crate::domain::validation::FieldErrors;
use crate::secret::{Redactor, SecretRef};
use crate::transport::ConnectionSettings;
use crate::vendors::key_encoding::KeyEncoding;
use crate::vendors::{AdapterContext, SettingError, SettingErrors, percent_encoded};

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
    /// How to decode the secret's text to the key. The vendor's sentence about it could not be read; both public clients
    /// use the text's bytes unchanged.
    #[serde(default)]
    pub secret_encoding: KeyEncoding,
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
    /// How results are read.
    #[serde(default)]
    pub results: ResultsSettings,
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

macro_rules! profile_fields {
    ($($key:ident = $default:literal, of $attribute:literal;)*) => {
        /// Names of the profile's fields. A name replaces only the default of its own key; an empty name means that the
        /// profile has no such field.
        #[derive(Debug, Clone, Deserialize)]
        #[serde(default)]
        pub struct ProfileFields {
            $(#[doc = concat!("Field of ", $attribute, ".")] pub $key: String,)*
        }

        impl Default for ProfileFields {
            fn default() -> Self {
                Self { $($key: $default.to_owned(),)* }
            }
        }

        impl ProfileFields {
            fn names(&self) -> [(&'static str, &str); [$($default),*].len()] {
                [$((stringify!($key), self.$key.as_str())),*]
            }
        }
    };
}

// Names from the example on the vendor's page `/Methods/SyncEmployees`.
profile_fields! {
    given_name = "First Name", of "`name.givenName`";
    family_name = "Last Name", of "`name.familyName`";
    formatted = "", of "`name.formatted`";
    email = "Email", of "`email`";
    phone_mobile = "", of "the telephone number of type `mobile`";
    phone_work = "", of "the telephone number of type `work`";
    street = "", of "`address.streetAddress`";
    locality = "", of "`address.locality`";
    region = "", of "`address.region`";
    postal_code = "", of "`address.postalCode`";
    country = "", of "`address.country`";
}

impl ProfileFields {
    fn check(&self, errors: &mut SettingErrors) {
        let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, field) in self.names().into_iter().filter(|(_, field)| !field.is_empty()) {
            errors.check(&format!("profile_fields.{key}"), one_line(field));
            if let Some(earlier) = taken.insert(field, key) {
                errors.push(&format!("profile_fields.{key}"), format!("names the same profile field as {earlier}"));
            }
        }
    }
}

/// Validated settings.
pub(super) struct Account {
    pub(super) base_url: Url,
    pub(super) number: u64,
    /// Masks the secret.
    pub(super) redactor: Redactor,
    pub(super) signer: SharedKey,
    pub(super) center: String,
    pub(super) profile_id: String,
    pub(super) fields: ProfileFields,
    pub(super) link: LinkTemplate,
    pub(super) existing: ExistingRegistration,
    pub(super) bookings_only_here: bool,
    pub(super) rebook_expired: bool,
    /// How results are read; `None` if they are not.
    pub(super) results: Option<FeedSettings>,
}

impl Settings {
    /// The keys without a default.
    pub(in crate::vendors) const REQUIRED: &[&str] = &["account_id", "secret", "center", "profile_id"];

    /// Validates the settings.
    ///
    /// # Errors
    /// Every invalid setting.
    pub(super) fn checked(self, context: &AdapterContext<'_>) -> Result<Account, Vec<SettingError>> {
        let mut errors = SettingErrors::default();
        let base_url = errors.check("base_url", context.url("base_url", &self.base_url));
        if self.account_id == 0 {
            errors.push("account_id", "must be the account's number");
        }
        let secret = self.secret.resolve(context.secrets).and_then(|secret| {
            let key = self.secret_encoding.decode(&secret, "secret_encoding")?;
            Ok((Redactor::new([&secret]), SharedKey::new(self.account_id, key)))
        });
        let secret = errors.check("secret", secret);
        errors.check("center", one_line(&self.center));
        let profile_id = errors.check("profile_id", guid(&self.profile_id).ok_or("must be a GUID"));
        self.profile_fields.check(&mut errors);
        let link = errors.check("link_template", LinkTemplate::parse(&self.link_template, context.connection));
        let results = errors.check_section("results", self.results.checked(&self.profile_fields.email));

        let account = || {
            let (redactor, signer) = secret?;
            Some(Account {
                base_url: base_url?,
                number: self.account_id,
                redactor,
                signer,
                center: self.center,
                profile_id: profile_id?,
                fields: self.profile_fields,
                link: link?,
                existing: self.existing_registration,
                bookings_only_here: self.bookings_only_here,
                rebook_expired: self.rebook_expired,
                results: results?,
            })
        };
        errors.finish(account())
    }
}

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
        self.0.replace("{center}", &percent_encoded(center)).replace("{id}", &percent_encoded(id))
    }
}

fn one_line(text: &str) -> Result<(), String> {
    let mut errors = FieldErrors::new();
    errors.check_line("", Some(text), 200);
    errors.into_result(()).map_err(|errors| errors.into_iter().map(|error| error.detail).collect())
}

fn default_base_url() -> String {
    "https://api.startexam.com".to_owned()
}

fn default_link_template() -> String {
    "https://go.startexam.com/{center}#participant/{id}".to_owned()
}

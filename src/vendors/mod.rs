//! Exam vendors, one folder each: `mod` (trait implementation and capabilities), `settings` (the operator's settings),
//! `sign` (a pure function of request, body and time), `wire` (the vendor's own field names, private), `error` (one
//! table from the vendor's codes to ours, quoting its source), `results` (a pure reader of its reports of attempts),
//! `report_source` (how those reach the gateway).
//!
//! Only this file lists them. An adapter must never name another adapter, the store or the HTTP API.

use std::io;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;
use url::Url;

use crate::domain::capability::{Capability, RetrySafety, VendorDescriptor, WriteKind};
use crate::domain::deserialize::{DeserializeError, read};
use crate::domain::error::ConnectionRef;
use crate::domain::system::System;
use crate::domain::vendor::Vendor;
use crate::secret::{Redactor, SecretSource};
use crate::transport::{Client, ConnectionSettings};

pub mod examtesting;
mod key_encoding;
mod report_tree;
pub mod startexam;
#[cfg(test)]
mod tests;
pub mod thinkexam;

pub use key_encoding::KeyEncoding;

macro_rules! vendors {
    ($($name:ident = $folder:ident;)*) => {
        /// Every supported kind of vendor.
        pub static DESCRIPTORS: [&VendorDescriptor; [$(stringify!($folder)),*].len()] = [$(&$folder::DESCRIPTOR),*];

        /// The vendor's own settings of one connection.
        #[derive(Debug, Clone)]
        #[expect(missing_docs, reason = "each variant is the vendor of its name")]
        pub enum Settings { $($name($folder::Settings),)* }

        impl Settings {
            /// Deserialises the settings of this kind of vendor; `None` for an unknown kind. The enum has no serde tag:
            /// a tagged enum is read as a whole, which hides the path of an error and every unknown key.
            ///
            /// # Errors
            /// Every key that cannot be read.
            #[must_use]
            pub fn read(kind: &str, tree: Value) -> Option<Result<Self, Vec<DeserializeError>>> {
                match kind {
                    $(kind if kind == $folder::DESCRIPTOR.kind => Some(read(tree).map(Self::$name)),)*
                    _ => None,
                }
            }

            /// Returns the keys that this kind of vendor requires.
            #[must_use]
            pub fn required(kind: &str) -> &'static [&'static str] {
                match kind {
                    $(kind if kind == $folder::DESCRIPTOR.kind => $folder::Settings::REQUIRED,)*
                    _ => &[],
                }
            }

            /// Builds the adapter. Reads secrets but opens no connection.
            ///
            /// # Errors
            /// Every invalid setting.
            pub fn connect(self, setup: &AdapterContext<'_>) -> Result<VendorConnection, Vec<SettingError>> {
                match self { $(Self::$name(settings) => $folder::connect(settings, setup),)* }
            }

            /// Returns the descriptor of the vendor that these settings are for.
            #[must_use]
            pub fn descriptor(&self) -> &'static VendorDescriptor {
                match self { $(Self::$name(_) => &$folder::DESCRIPTOR,)* }
            }
        }
    };
}

vendors! {
    ExamTesting = examtesting;
    ThinkExam = thinkexam;
    StartExam = startexam;
}

/// Everything an adapter needs besides its own settings.
pub struct AdapterContext<'a> {
    /// The operator's name of the connection.
    pub name: &'a str,
    /// The settings every connection has.
    pub connection: &'a ConnectionSettings,
    /// Source of secrets.
    pub secrets: &'a dyn SecretSource,
    /// Clock and entropy.
    pub environment: System,
}

impl AdapterContext<'_> {
    /// Builds the connection's HTTP client, which masks these secrets.
    fn client(&self, kind: &str, base_url: &Url, secrets: Redactor) -> Result<Client, Vec<SettingError>> {
        let name = ConnectionRef { connection: self.name.to_owned(), vendor: kind.to_owned() };
        Client::new(name, base_url, self.connection, secrets, self.environment.clone())
            .map_err(|detail| vec![SettingError { key: "base_url".to_owned(), detail }])
    }

    /// Parses the URL of the setting `key`; only a `base_url` must not have a query.
    fn url(&self, key: &str, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|_| "is not an absolute URL")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user name or password".to_owned());
        }
        if url.fragment().is_some() || (key == "base_url" && url.query().is_some()) {
            return Err("must not have a query or fragment".to_owned());
        }
        self.connection.accepts(&url)?;
        Ok(url)
    }
}

/// A connection ready for use.
#[derive(Clone)]
pub struct VendorConnection {
    /// The adapter.
    pub vendor: Arc<dyn Vendor>,
    /// The adapter's HTTP client, for the state of its circuit breaker.
    pub client: Client,
    /// The vendor account, if the settings name one: never a secret, and unchanged when a secret is replaced.
    pub account: String,
}

impl VendorConnection {
    /// Returns vendor, base URL and account, independent of other settings: another destination has other people and
    /// other bookings.
    #[must_use]
    pub fn destination(&self) -> String {
        format!("{} {} {}", self.vendor.descriptor().kind, self.client.base_url(), self.account)
    }
}

/// An invalid setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// The key below the connection, e.g. `signature.url`.
    pub key: String,
    /// One sentence for the operator; never a secret.
    pub detail: String,
}

/// Errors of settings, collected so that all are reported at once.
#[derive(Default)]
struct SettingErrors(Vec<SettingError>);

impl SettingErrors {
    fn push(&mut self, key: &str, detail: impl Into<String>) {
        self.0.push(SettingError { key: key.to_owned(), detail: detail.into() });
    }

    /// Adds the error of this key; returns what is valid.
    fn check<T>(&mut self, key: &str, result: Result<T, impl Into<String>>) -> Option<T> {
        result.map_err(|detail| self.push(key, detail)).ok()
    }

    /// Adds the errors of a section, which name its own keys; returns what is valid.
    fn check_section<T>(&mut self, section: &str, result: Result<T, Vec<SettingError>>) -> Option<T> {
        let add = |SettingError { key, detail }: SettingError| self.push(&format!("{section}.{key}"), detail);
        result.map_err(|errors| errors.into_iter().for_each(add)).ok()
    }

    /// Returns the value if there is no error.
    fn finish<T>(self, checked: Option<T>) -> Result<T, Vec<SettingError>> {
        checked.filter(|_| self.0.is_empty()).ok_or(self.0)
    }
}

/// Declares a write kind that the vendor supports, by default one row per call and harmless to repeat.
const fn supported(kind: WriteKind) -> Capability {
    Capability {
        kind,
        supported: true,
        required: &[],
        ignored: &[],
        max_batch: 1,
        retry_safety: RetrySafety::Idempotent,
        per_item_outcome: false,
        read_back: false,
        note: "",
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986, so that a value stays one value anywhere in a URL.
fn percent_encoded(value: &str) -> String {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(value, ESCAPED).to_string()
}

/// Returns whether a change listed by these pointers affects this field.
fn is_touched(touched: &[String], pointer: &str) -> bool {
    let within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    touched.iter().any(|touched| touched == pointer || within(touched, pointer) || within(pointer, touched))
}

/// Returns the length of the value's JSON without building it; 0 if it has no JSON form, because then it is not sent.
fn json_length(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => 0,
    }
}

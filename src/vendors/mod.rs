//! Exam vendors, one folder each: `mod` (trait implementation and capabilities), `settings` (the operator's settings),
//! `sign` (a pure function of request, body and time), `wire` (the vendor's own field names, private), `error` (one
//! table from the vendor's codes to ours, quoting its source).
//!
//! Only this file lists them. An adapter must never name another adapter, the store or the HTTP API.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::capability::VendorDescriptor;
use crate::domain::deserialize::{DeserializeError, read};
use crate::domain::system::System;
use crate::domain::vendor::Vendor;
use crate::secret::SecretSource;
use crate::transport::{Client, ConnectionSettings};

pub mod examtesting;
pub mod startexam;
#[cfg(test)]
mod tests;
pub mod thinkexam;

macro_rules! vendors {
    ($($name:ident = $folder:ident;)*) => {
        /// Every supported kind of vendor.
        pub static DESCRIPTORS: [&VendorDescriptor; [$(stringify!($folder)),*].len()] = [$(&$folder::DESCRIPTOR),*];

        /// The vendor's own settings of one connection.
        #[derive(Debug, Clone, Deserialize)]
        #[serde(tag = "vendor", rename_all = "lowercase")]
        #[expect(missing_docs, reason = "each variant is the vendor of its name")]
        pub enum Settings { $($name($folder::Settings),)* }

        impl Settings {
            /// Deserialises the settings of this kind of vendor; `None` for an unknown kind. It does not use the serde
            /// tag: a tagged enum is read as a whole, which hides the path of an error and every unknown key.
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

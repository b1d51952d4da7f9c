//! The exam vendors, one folder each: `mod` (the trait and the capabilities), `settings` (what the operator gives), `sign`
//! (a pure function of request, body and time), `wire` (the vendor's own field names, private), `error` (one table from
//! the vendor's codes to ours, quoting its source).
//!
//! This file is the only place that lists them. An adapter must never name another adapter, the store or the public face.

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
        /// Every kind of vendor there is.
        pub static DESCRIPTORS: [&VendorDescriptor; [$(stringify!($folder)),*].len()] = [$(&$folder::DESCRIPTOR),*];

        /// The vendor's own settings of one connection.
        #[derive(Debug, Clone, Deserialize)]
        #[serde(tag = "vendor", rename_all = "lowercase")]
        #[expect(missing_docs, reason = "each variant is the vendor of its name")]
        pub enum Settings { $($name($folder::Settings),)* }

        impl Settings {
            /// Reads the settings of this kind of vendor; `None` for a kind nobody knows. Not through the tag: a tagged
            /// choice is read as a whole, which hides the place of a fault and every unknown key.
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

            /// Builds the adapter. Reads secrets, opens no connection.
            ///
            /// # Errors
            /// Every setting that cannot work.
            pub fn connect(self, setup: &AdapterContext<'_>) -> Result<VendorConnection, Vec<SettingError>> {
                match self { $(Self::$name(settings) => $folder::connect(settings, setup),)* }
            }

            /// What kind of vendor these settings are for.
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

/// What every adapter is given besides its own settings.
pub struct AdapterContext<'a> {
    /// The operator's name of the connection.
    pub name: &'a str,
    /// The settings every connection has.
    pub connection: &'a ConnectionSettings,
    /// Where secrets are read from.
    pub secrets: &'a dyn SecretSource,
    /// Clock and entropy.
    pub environment: System,
}

/// A connection ready for use.
#[derive(Clone)]
pub struct VendorConnection {
    /// The adapter.
    pub vendor: Arc<dyn Vendor>,
    /// Its way out, for its circuit's state.
    pub client: Client,
    /// Which of the vendor's accounts it speaks for, where the settings say: never a secret, and the same after a secret was
    /// replaced.
    pub account: String,
}

impl VendorConnection {
    /// The account and the address it leads to, whatever else is set: what is sent to another destination meets other
    /// people and other bookings.
    #[must_use]
    pub fn destination(&self) -> String {
        format!("{} {} {}", self.vendor.descriptor().kind, self.client.base_url(), self.account)
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// The key below the connection, e.g. `signature.url`.
    pub key: String,
    /// One sentence for the operator; never a secret.
    pub detail: String,
}

/// How many bytes of JSON this is, without writing it down. Nothing where it has no JSON form: then it is not sent either.
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

//! Idempotency keys: their index values, the fingerprints that compare requests, and the stored replies.

use serde::{Deserialize, Serialize};

use crate::domain::assignment::Assignment;
use crate::domain::candidate::Candidate;
use crate::domain::ids::OperationId;
use crate::domain::intent::{IdempotencyKeyUse, StoredReply};
use crate::domain::program::Enrolled;
use crate::domain::webhook::{Delivery, PingResult, Webhook, WebhookPosition};
use crate::secret::Secret;
use crate::store::codec::secrets::{read_secret, write_secret};
use crate::store::codec::{RecordCodec, unknown_format};
use crate::store::columns::{Columns, FromColumns};
use crate::store::encryption::BlindIndex;
use crate::store::{AcquireKey, KeyState, StoreError};

const KEYS: &str = "idempotency_keys";

/// An [`AcquireKey`] ready for look-up and writing.
pub(in crate::store) struct KeyRow {
    /// Every form the scope may have in the table, the one to write first.
    pub scopes: Vec<BlindIndex>,
    pub scope: String,
    pub tenant: String,
    pub token: String,
    pub content: [u8; 32],
    pub fingerprint: [u8; 32],
    pub now: i64,
    pub expires: i64,
}

/// An existing row of `idempotency_keys`.
pub(in crate::store) struct StoredKey {
    pub scope: BlindIndex,
    pub token: String,
    pub fingerprint: Vec<u8>,
    /// Whether a live instance is working on it.
    pub running: bool,
    pub record: Option<String>,
    pub reply: Option<Vec<u8>>,
}

impl FromColumns for StoredKey {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self {
            scope: row.column(0)?,
            token: row.column(1)?,
            fingerprint: row.column(2)?,
            running: row.column(3)?,
            record: row.column(4)?,
            reply: row.column(5)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "StoredReply")]
enum ReplyRecord {
    Candidate {
        created: bool,
        candidate: Box<Candidate>,
        #[serde(default, serialize_with = "write_secret", deserialize_with = "read_secret")]
        initial_password: Option<Secret>,
    },
    Assignment {
        created: bool,
        assignment: Box<Assignment>,
    },
    Webhook {
        created: bool,
        webhook: Box<Webhook>,
        position: WebhookPosition,
        #[serde(default, serialize_with = "write_secret", deserialize_with = "read_secret")]
        secret: Option<Secret>,
        #[serde(default)]
        ping: Option<PingResult>,
    },
    Ping(PingResult),
    Delivery(Box<Delivery>),
    Gone,
    Enrolled(Enrolled),
    Operation(OperationId),
}

/// The sealed form of a reply.
#[derive(Serialize, Deserialize)]
struct SealedReply(#[serde(with = "ReplyRecord")] StoredReply);

impl RecordCodec {
    pub(in crate::store) fn key_row(&self, claim: &AcquireKey) -> KeyRow {
        let AcquireKey { tenant, token, scope, content, now, expires } = claim;
        KeyRow {
            scopes: self.keyring.blind_indices(&crate::store::codec::tenant_scope(tenant), "idempotency key", scope),
            scope: scope.clone(),
            tenant: tenant.clone(),
            token: token.clone(),
            content: *content,
            fingerprint: self.keyring.fingerprint(content),
            now: crate::store::codec::micros(*now),
            expires: crate::store::codec::micros(*expires),
        }
    }

    /// Returns the state of a stored key for a request. A resumable key belongs to the caller from now on; the engine
    /// records that.
    pub(in crate::store) fn key_state(&self, claim: &KeyRow, stored: &StoredKey) -> Result<KeyState, StoreError> {
        if !self.keyring.is_fingerprint_of(&stored.fingerprint, &claim.content) {
            return Ok(KeyState::Mismatch);
        }
        if let Some(sealed) = &stored.reply {
            let json = self.open_at(KEYS, &stored.token, sealed)?;
            let SealedReply(reply) = serde_json::from_slice(&json).map_err(|_| unknown_format(KEYS, &stored.token))?;
            return Ok(KeyState::Completed(Box::new(reply)));
        }
        if stored.running {
            return Ok(KeyState::InProgress);
        }
        // The record's write concludes under the token it began with.
        let token = if stored.record.is_some() { stored.token.clone() } else { claim.token.clone() };
        Ok(KeyState::Resumable(IdempotencyKeyUse { scope: claim.scope.clone(), token }, stored.record.clone()))
    }

    /// Seals a reply.
    pub(in crate::store) fn seal_reply(
        &self,
        key: &IdempotencyKeyUse,
        reply: StoredReply,
    ) -> Result<Vec<u8>, StoreError> {
        self.seal(KEYS, &key.token, &SealedReply(reply))
    }
}

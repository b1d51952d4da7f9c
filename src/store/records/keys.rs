//! Idempotency keys: under what they are found, what tells two requests apart, and the answers kept with them.

use serde::{Deserialize, Serialize};

use super::secrets::{read_secret, write_secret};
use super::{Records, unreadable};
use crate::domain::assignment::Assignment;
use crate::domain::candidate::Candidate;
use crate::domain::ids::OperationId;
use crate::domain::journal::{Answer, KeyRef};
use crate::domain::program::Enrolled;
use crate::secret::Secret;
use crate::store::seal::Blind;
use crate::store::{KeyClaim, KeyTaken, StoreError};

const KEYS: &str = "idempotency_keys";

/// A [`KeyClaim`] ready to be looked up and written.
pub(in crate::store) struct KeyRow {
    /// Every form the scope may have in the table, the one to write first.
    pub scopes: Vec<Blind>,
    pub scope: String,
    pub tenant: String,
    pub token: String,
    pub content: [u8; 32],
    pub fingerprint: [u8; 32],
    pub now: i64,
    pub expires: i64,
}

/// A row of `idempotency_keys` that is there already.
pub(in crate::store) struct StoredKey {
    pub scope: Blind,
    pub token: String,
    pub fingerprint: Vec<u8>,
    /// Whether a living instance is working on it.
    pub running: bool,
    pub record: Option<String>,
    pub answer: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerRecord {
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
    Gone,
    Enrolled(Enrolled),
    Operation(OperationId),
}

impl Records {
    pub(in crate::store) fn key_row(&self, claim: &KeyClaim) -> KeyRow {
        let KeyClaim { tenant, token, scope, content, now, expires } = claim;
        KeyRow {
            scopes: self.keyring.blinds(&super::tenant_scope(tenant), "idempotency key", scope),
            scope: scope.clone(),
            tenant: tenant.clone(),
            token: token.clone(),
            content: *content,
            fingerprint: self.keyring.fingerprint(content),
            now: super::micros(*now),
            expires: super::micros(*expires),
        }
    }

    /// What a stored key means for a claim. One that is open is the caller's from now on: the engine writes that down.
    pub(in crate::store) fn key_taken(&self, claim: &KeyRow, stored: &StoredKey) -> Result<KeyTaken, StoreError> {
        if !self.keyring.is_fingerprint_of(&stored.fingerprint, &claim.content) {
            return Ok(KeyTaken::Different);
        }
        if let Some(sealed) = &stored.answer {
            let json = self.open_at(KEYS, &stored.token, sealed)?;
            let answer: AnswerRecord = serde_json::from_slice(&json).map_err(|_| unreadable(KEYS, &stored.token))?;
            return Ok(KeyTaken::Answered(Box::new(answer.into())));
        }
        if stored.running {
            return Ok(KeyTaken::Running);
        }
        // What the record's write still has to say comes under the token it was begun with.
        let token = if stored.record.is_some() { stored.token.clone() } else { claim.token.clone() };
        Ok(KeyTaken::Open(KeyRef { scope: claim.scope.clone(), token }, stored.record.clone()))
    }

    /// The seal over an answer.
    pub(in crate::store) fn answer(&self, key: &KeyRef, answer: Answer) -> Result<Vec<u8>, StoreError> {
        self.seal(KEYS, &key.token, &AnswerRecord::from(answer))
    }
}

impl From<Answer> for AnswerRecord {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Candidate { created, candidate, initial_password } => {
                Self::Candidate { created, candidate, initial_password }
            }
            Answer::Assignment { created, assignment } => Self::Assignment { created, assignment },
            Answer::Gone => Self::Gone,
            Answer::Enrolled(enrolled) => Self::Enrolled(enrolled),
            Answer::Operation(id) => Self::Operation(id),
        }
    }
}

impl From<AnswerRecord> for Answer {
    fn from(record: AnswerRecord) -> Self {
        match record {
            AnswerRecord::Candidate { created, candidate, initial_password } => {
                Self::Candidate { created, candidate, initial_password }
            }
            AnswerRecord::Assignment { created, assignment } => Self::Assignment { created, assignment },
            AnswerRecord::Gone => Self::Gone,
            AnswerRecord::Enrolled(enrolled) => Self::Enrolled(enrolled),
            AnswerRecord::Operation(id) => Self::Operation(id),
        }
    }
}

//! Lines of the audit record. There is nothing of a person in them; they are sealed so that whoever can write to the
//! database cannot write them.

use crate::domain::audit::{ChainedEntry, Entry};
use crate::store::StoreError;
use crate::store::codec::{RecordCodec, unreadable};

const AUDIT: &str = "audit";

/// A line ready to be written, and the hash the next one names.
pub(in crate::store) struct AuditRow {
    pub seq: i64,
    pub sealed: Vec<u8>,
    pub hash: String,
}

/// The end of a tenant's chain.
pub(in crate::store) struct AuditHead {
    pub seq: i64,
    pub hash: String,
}

impl RecordCodec {
    /// The line of this entry after the last one there is.
    pub(in crate::store) fn audit_row(&self, entry: &Entry, head: &AuditHead) -> Result<AuditRow, StoreError> {
        let odd = || unreadable("audit_heads", &entry.tenant);
        let seq = head.seq.checked_add(1).ok_or_else(odd)?;
        let (line, hash) = entry.line(u64::try_from(seq).map_err(|_| odd())?, &head.hash).map_err(|_| odd())?;
        let sealed = self.keyring.seal(
            &self.environment,
            crate::store::codec::AadContext { table: AUDIT, record: &place(&entry.tenant, seq) },
            line.text.as_bytes(),
        )?;
        Ok(AuditRow { seq, sealed, hash })
    }

    /// A line as it was written. A row that was moved or altered is refused by its seal.
    pub(in crate::store) fn audit_line(
        &self,
        tenant: &str,
        seq: i64,
        sealed: &[u8],
    ) -> Result<ChainedEntry, StoreError> {
        let place = place(tenant, seq);
        let odd = || unreadable(AUDIT, &place);
        let text = String::from_utf8(self.open_at(AUDIT, &place, sealed)?.to_vec()).map_err(|_| odd())?;
        Ok(ChainedEntry { tenant: tenant.to_owned(), seq: u64::try_from(seq).map_err(|_| odd())?, text })
    }
}

/// What a line is sealed to: the number has no slash, so no two of them are alike.
fn place(tenant: &str, seq: i64) -> String {
    format!("{tenant}/{seq}")
}

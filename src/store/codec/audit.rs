//! Audit entries. They contain nothing about a person; they are sealed so that write access to the database is not
//! enough to forge one.

use crate::domain::audit::{ChainedEntry, Entry};
use crate::store::StoreError;
use crate::store::codec::{RecordCodec, unknown_format};

const AUDIT: &str = "audit";

/// An audit entry ready to write, with the hash that the next entry refers to.
pub(in crate::store) struct AuditRow {
    pub seq: i64,
    pub sealed: Vec<u8>,
    pub hash: String,
}

/// The last entry of a tenant's chain.
pub(in crate::store) struct AuditHead {
    pub seq: i64,
    pub hash: String,
}

impl RecordCodec {
    /// Encodes this entry as the successor of the last one.
    pub(in crate::store) fn audit_row(&self, entry: &Entry, head: &AuditHead) -> Result<AuditRow, StoreError> {
        let odd = || unknown_format("audit_heads", &entry.tenant);
        let seq = head.seq.checked_add(1).ok_or_else(odd)?;
        let (line, hash) = entry.line(u64::try_from(seq).map_err(|_| odd())?, &head.hash).map_err(|_| odd())?;
        let sealed = self.keyring.seal(
            &self.environment,
            crate::store::codec::AadContext { table: AUDIT, record: &place(&entry.tenant, seq) },
            line.text.as_bytes(),
        )?;
        Ok(AuditRow { seq, sealed, hash })
    }

    /// Opens an entry as it was written. Its associated data reveals a moved or altered row.
    pub(in crate::store) fn open_audit_entry(
        &self,
        tenant: &str,
        seq: i64,
        sealed: &[u8],
    ) -> Result<ChainedEntry, StoreError> {
        let place = place(tenant, seq);
        let odd = || unknown_format(AUDIT, &place);
        let text = String::from_utf8(self.open_at(AUDIT, &place, sealed)?.to_vec()).map_err(|_| odd())?;
        Ok(ChainedEntry { tenant: tenant.to_owned(), seq: u64::try_from(seq).map_err(|_| odd())?, text })
    }
}

/// Returns the place an entry is sealed for: unambiguous, because the number contains no slash.
fn place(tenant: &str, seq: i64) -> String {
    format!("{tenant}/{seq}")
}

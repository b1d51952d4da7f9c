//! The index of blind values, merged late (docs/decisions/0013).
//!
//! A row of `idempotency_keys`, `identities` or `lookups` is found by a keyed value, which falls anywhere: written at
//! once, each entry would cost a page. So a committed row's entry is kept in memory, and many are merged into the table
//! `late_index` together, a sorted slice with each commit. The rows are the truth; every row after the watermark is read
//! when the database is opened.
//!
//! An entry only points to a row, by the first bytes of its value. Code that follows it must compare the whole value.

mod check;
mod entries;
mod fill;
mod find;
mod staging;
#[cfg(test)]
mod tests;

pub(super) use check::{IndexFaults, check};
pub(super) use entries::{SharedEntries, Source, UnmergedEntries};
pub(super) use fill::rebuild;
pub(super) use find::find;
pub(super) use staging::{GENERATION, LateIndex};

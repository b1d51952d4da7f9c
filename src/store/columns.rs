//! Reading of result rows, the same for both engines.

use crate::store::UnsettledCount;
use crate::store::codec::SealedRow;

/// A type that a column can have in either engine.
pub(super) trait Column:
    rusqlite::types::FromSql + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>
{
}

impl<T> Column for T where
    T: rusqlite::types::FromSql + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>
{
}

/// A result row of either engine.
pub(super) trait Columns {
    type Error;

    fn column<T: Column>(&self, index: usize) -> Result<T, Self::Error>;
}

/// A value read from a result row.
pub(super) trait FromColumns: Sized + Send + 'static {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error>;
}

impl<A: Column + Send + 'static> FromColumns for (A,) {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok((row.column(0)?,))
    }
}

impl<A: Column + Send + 'static, B: Column + Send + 'static> FromColumns for (A, B) {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok((row.column(0)?, row.column(1)?))
    }
}

impl FromColumns for (String, i64, i64) {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok((row.column(0)?, row.column(1)?, row.column(2)?))
    }
}

impl FromColumns for (String, String, i64) {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok((row.column(0)?, row.column(1)?, row.column(2)?))
    }
}

impl FromColumns for SealedRow {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        let (id, tenant, connection, sealed) = (row.column(0)?, row.column(1)?, row.column(2)?, row.column(3)?);
        Ok(Self { id, tenant, connection, sealed, photo: None })
    }
}

/// A candidate's row with its picture.
pub(super) struct RowWithPhoto(pub(super) SealedRow);

impl FromColumns for RowWithPhoto {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self(SealedRow { photo: row.column(4)?, ..SealedRow::from_columns(row)? }))
    }
}

impl FromColumns for UnsettledCount {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        let count = u64::try_from(row.column::<i64>(2)?).unwrap_or(0);
        Ok(Self { connection: row.column(0)?, operation: row.column(1)?, count })
    }
}

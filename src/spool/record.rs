//! Converts a delivery to a row of the spool, and back.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::Entry;
use crate::delivery::AuthenticDelivery;
use crate::domain::Timestamp;

/// The size of a row besides its texts and its body: numbers, checksum, and SQLite's own data.
const OVERHEAD: u64 = 200;

/// The columns of a row, except its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub id: Uuid,
    /// Microseconds since 1970.
    pub received_at: i64,
    pub hook: String,
    pub provider: String,
    pub event_id: Option<String>,
    /// A JSON object with the stored headers.
    pub headers: String,
    pub body: Bytes,
}

impl Record {
    pub(super) fn of(delivery: &AuthenticDelivery, provider: &str) -> Self {
        Self {
            id: delivery.id(),
            received_at: microseconds(delivery.received_at()),
            hook: delivery.hook_path().to_string(),
            provider: provider.to_owned(),
            event_id: delivery.event_id().map(str::to_owned),
            headers: delivery.kept_headers().to_owned(),
            body: delivery.body().clone(),
        }
    }

    pub(super) fn received_at(&self) -> Timestamp {
        instant(self.received_at)
    }

    /// The size that counts toward the limit.
    pub(super) fn size(&self) -> u64 {
        let texts = [&self.hook, &self.provider, &self.headers].into_iter().chain(&self.event_id);
        OVERHEAD + texts.map(|text| text.len() as u64).sum::<u64>() + self.body.len() as u64
    }

    /// The checksum of all columns. Each is hashed with its length, so that no two different rows hash the same bytes.
    pub(super) fn sha256(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let mut add = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        add(self.id.as_bytes());
        add(&self.received_at.to_le_bytes());
        add(self.hook.as_bytes());
        add(self.provider.as_bytes());
        add(&[u8::from(self.event_id.is_some())]);
        add(self.event_id.as_deref().unwrap_or_default().as_bytes());
        add(self.headers.as_bytes());
        add(&self.body);
        digest.finalize().into()
    }

    /// Reads the columns of a row; `None` if they are not what was written.
    pub(super) fn read(row: &SqliteRow) -> Option<Self> {
        let sha256: Vec<u8> = row.try_get("sha256").ok()?;
        let record = Self {
            id: Uuid::from_slice(row.try_get("id").ok()?).ok()?,
            received_at: row.try_get("received_at").ok()?,
            hook: row.try_get("hook").ok()?,
            provider: row.try_get("provider").ok()?,
            event_id: row.try_get("event_id").ok()?,
            headers: row.try_get("headers").ok()?,
            body: row.try_get::<Vec<u8>, _>("body").ok()?.into(),
        };
        (record.sha256()[..] == sha256).then_some(record)
    }

    /// Reads a row as an entry of the spool, with its size.
    pub(super) fn entry(row: &SqliteRow) -> Result<(Entry, u64), sqlx::Error> {
        let place = row.try_get("seq")?;
        Ok(match Self::read(row) {
            Some(record) => {
                let size = record.size();
                (record.restore(place), size)
            }
            None => (Entry::Damaged { place }, OVERHEAD),
        })
    }

    fn restore(self, place: i64) -> Entry {
        let received_at = self.received_at();
        let delivery = AuthenticDelivery::restored(
            self.id,
            received_at,
            Arc::from(self.hook),
            self.event_id,
            self.headers,
            self.body,
        );
        Entry::Intact { place, delivery, provider: self.provider }
    }
}

fn microseconds(instant: Timestamp) -> i64 {
    instant.unix_seconds() * 1_000_000 + i64::from(instant.subsecond_nanos() / 1_000)
}

pub(super) fn instant(microseconds: i64) -> Timestamp {
    let nanoseconds = i128::from(microseconds) * 1_000;
    // Numbers outside the calendar were never written, and the checksum was compared before.
    let instant = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds);
    Timestamp::from_datetime(instant.unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

//! What a write notes for followers of all changes: the rows that it appends to `new_changes`.

use std::collections::HashMap;

use sqlx::types::time::OffsetDateTime;

use super::BatchWrite;
use crate::domain::{ChangeKind, Iccid, Transition};

/// The columns of the rows, one array for each, as `UNNEST` expects them.
pub(super) struct ChangeColumns<'a> {
    pub iccid: Vec<&'a str>,
    pub seq: Vec<i64>,
    pub kind: Vec<&'a str>,
    pub at: Vec<OffsetDateTime>,
}

impl<'a> ChangeColumns<'a> {
    /// One row for the transitions of a profile, and one for its connections.
    pub fn of(write: &'a BatchWrite<'a>) -> Self {
        let mut moved: HashMap<&Iccid, &Transition> = HashMap::new();
        for it in &write.transitions {
            // Of several, the last.
            moved.insert(it.iccid, it.transition);
        }
        let moved = moved.into_iter().map(|(iccid, transition)| {
            (iccid.as_str(), transition.seq, ChangeKind::Transition, transition.received_at)
        });
        let connected = write.connected_profiles().filter_map(|it| {
            let at = it.connections.last_connected_at?;
            Some((it.iccid.as_str(), it.seq, ChangeKind::Evidence, at))
        });
        let mut columns =
            Self { iccid: Vec::new(), seq: Vec::new(), kind: Vec::new(), at: Vec::new() };
        for (iccid, seq, kind, at) in moved.chain(connected) {
            columns.iccid.push(iccid);
            columns.seq.push(seq);
            columns.kind.push(kind.as_str());
            columns.at.push(at.as_datetime());
        }
        columns
    }
}

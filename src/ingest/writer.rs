//! A writer: takes the deliveries that wait in its queue, and has them written as one batch. A delivery that cannot be
//! written does not keep the others from being written.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::batch::Role;
use super::connection::IngestConnection;
use super::lanes::{LaneConnections, Lanes};
use super::pace::Pace;
use super::settle::{is_in_time, settle};
use super::{IngestContext, Queued};
use crate::telemetry;

/// Runs until every handle to the queue is dropped and everything in it is answered.
pub(super) async fn run(
    context: IngestContext,
    mut connection: IngestConnection,
    lane_connections: Arc<LaneConnections>,
    mut queue: mpsc::Receiver<Queued>,
    pace: Arc<Pace>,
) {
    let mut taken = Vec::with_capacity(pace.max_batch());
    let mut lanes = Lanes::new(context.clone(), lane_connections);
    loop {
        tokio::select! {
            biased;
            Some(()) = lanes.advance() => {}
            count = queue.recv_many(&mut taken, pace.max_batch()) => {
                if count == 0 {
                    break;
                }
                telemetry::record_batch(count);
                taken.retain(is_in_time);
                if taken.len() < count {
                    pace.note_expired();
                }
                let batch = lanes.divert(std::mem::take(&mut taken));
                let role = Role::Writer(&pace);
                let settled = settle(&context, &mut connection, batch, role).await;
                lanes.open(settled.locked);
                if queue.is_empty() {
                    pace.note_empty_queue();
                }
            }
            // Keeps the connection alive between batches, and never completes.
            never = connection.keep_alive() => match never {},
        }
    }
    while lanes.advance().await.is_some() {}
}

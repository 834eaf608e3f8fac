//! A writer: takes the deliveries that wait, and has them written as one batch. No delivery can fail another.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::batch::OnLocked;
use super::connection::WriterConnection;
use super::lanes::{LaneConnections, Lanes};
use super::settle::{is_still_wanted, settle};
use super::{Waiting, WriterContext};
use crate::telemetry;

/// Runs until every sender is gone and everything is answered.
pub(super) async fn run(
    context: WriterContext,
    mut connection: WriterConnection,
    lane_connections: Arc<LaneConnections>,
    mut waiting: mpsc::Receiver<Waiting>,
) {
    let mut taken = Vec::with_capacity(context.pace.max_batch());
    let mut lanes = Lanes::new(context.clone(), lane_connections);
    loop {
        tokio::select! {
            biased;
            Some(()) = lanes.advance() => {}
            count = waiting.recv_many(&mut taken, context.pace.max_batch()) => {
                if count == 0 {
                    break;
                }
                telemetry::record_batch(count);
                taken.retain(is_still_wanted);
                if taken.len() < count {
                    context.pace.fell_behind();
                }
                let batch = lanes.divert(std::mem::take(&mut taken));
                let unwritten = settle(&context, &mut connection, batch, OnLocked::Skip).await;
                lanes.open(unwritten.locked);
                if waiting.is_empty() {
                    context.pace.caught_up();
                }
            }
            never = connection.keep() => match never {},
        }
    }
    while lanes.advance().await.is_some() {}
}

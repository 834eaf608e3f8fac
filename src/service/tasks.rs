//! The tasks that run as long as the service. If one of them dies, nothing else does its work.

use std::collections::HashMap;
use std::future::{Future, pending};

use tokio::task::{AbortHandle, Id, JoinSet};

/// Running tasks, each with a name for the log. They end with this value.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, (&'static str, AbortHandle)>,
}

impl Tasks {
    /// Starts a task that must not end by itself.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = self.running.spawn(task);
        self.names.insert(handle.id(), (name, handle));
    }

    /// Starts a task that may end once its work is done, and must not panic.
    pub(super) fn spawn_finite(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, async move {
            task.await;
            pending::<()>().await;
        });
    }

    /// Waits until one has died, and returns its name.
    pub(super) async fn one_died(&mut self) -> &'static str {
        let id = match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => pending().await,
        };
        self.names.remove(&id).map_or("task", |(name, _)| name)
    }

    /// Aborts the tasks with this name.
    pub(super) fn abort(&self, name: &str) {
        for (_, task) in self.names.values().filter(|(known, _)| *known == name) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_ends_or_is_aborted_has_died_and_one_that_is_done_has_not() {
        let mut tasks = Tasks::default();
        tasks.spawn("aborted", pending());
        tasks.spawn_finite("done", async {});
        let died = timeout(Duration::from_millis(50), tasks.one_died()).await;
        assert!(died.is_err(), "{died:?}");
        tasks.spawn("ended", async {});
        assert_eq!(tasks.one_died().await, "ended");
        tasks.spawn_finite("panicked", async { panic!("on purpose") });
        assert_eq!(tasks.one_died().await, "panicked");
        tasks.abort("aborted");
        assert_eq!(tasks.one_died().await, "aborted");
    }
}

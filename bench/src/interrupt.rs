//! Ctrl-C and SIGTERM: the first stops everything that was started, the second ends the program immediately.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Handles the signals from now on.
///
/// # Errors
/// If the system refuses.
pub fn watch() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
            let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                if INTERRUPTED.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    });
    Ok(())
}

/// Fails after a signal.
///
/// # Errors
/// If there was a signal.
pub fn check() -> anyhow::Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, but not beyond a signal.
///
/// # Errors
/// If there was a signal.
pub fn sleep(time: Duration) -> anyhow::Result<()> {
    let until = std::time::Instant::now() + time;
    while std::time::Instant::now() < until {
        check()?;
        std::thread::sleep(Duration::from_millis(20).min(time));
    }
    check()
}

//! Progress of a whole update out of the progress of its transfers, for the service manager.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::notify::Notifier;
use crate::out::Progress;

/// Passes on what the engine reports and tells the service manager whole percents. Each transfer
/// has an equal share.
pub(super) struct Reporter<'a> {
    inner: &'a dyn Progress,
    notifier: &'a Notifier,
    version: &'a str,
    count: u64,
    done: AtomicU64,
    total: AtomicU64,
    bytes: AtomicU64,
    last_percent: AtomicU64,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(
        inner: &'a dyn Progress,
        notifier: &'a Notifier,
        version: &'a str,
        count: usize,
    ) -> Self {
        Self {
            inner,
            notifier,
            version,
            count: u64::try_from(count).unwrap_or(u64::MAX),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last_percent: AtomicU64::new(u64::MAX),
        }
    }

    /// One transfer is done.
    pub(super) fn next(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.total.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    fn tell(&self) {
        if !self.notifier.is_on() || self.count == 0 {
            return;
        }
        let done = self.done.load(Ordering::Relaxed).min(self.count);
        let total = self.total.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed).min(total);
        // u128: a percent of a disk's bytes does not fit into 64 bits.
        let part = u128::from(bytes) * 100 / u128::from(total.max(1));
        let percent = (u128::from(done) * 100 + part) / u128::from(self.count);
        let percent = u64::try_from(percent).unwrap_or(100).min(100);
        if self.last_percent.swap(percent, Ordering::Relaxed) == percent {
            return;
        }
        let version = self.version;
        self.notifier.send(&[
            ("X_SYSUPDATE_PROGRESS", &percent),
            ("X_SYSUPDATE_TRANSFERS_LEFT", &(self.count - done)),
            ("X_SYSUPDATE_TRANSFERS_DONE", &done),
            ("STATUS", &format_args!("Updating to '{version}' ({percent}% complete).")),
        ]);
    }
}

impl Progress for Reporter<'_> {
    fn phase(&self, name: &str, total: Option<u64>) {
        self.total.store(total.unwrap_or(0), Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.inner.phase(name, total);
        self.tell();
    }

    fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.inner.advance(bytes);
        self.tell();
    }

    fn finish(&self) {
        self.inner.finish();
    }
}

//! When to try again, after how long, and when to stop: one budget for one fetch.
//!
//! Delays are the peer's. What the peer does not do: it listens to `Retry-After`, and it ends at
//! once when the attempts are used up (defects 4 to 6 of the peer).

use std::time::Duration;

use super::{Cancel, Limits};
use crate::ctx::Ctx;
use crate::http::date;
use crate::imds::model::Failure;

/// A step that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// May pass by itself; the service may have said after how long. What is known to take its
    /// time does not use up attempts.
    Transient { what: String, after: Option<Duration>, is_slow: bool },
    /// Will not.
    Final(Failure),
}

impl Trouble {
    pub(super) fn transient(what: impl Into<String>) -> Self {
        Self::Transient { what: what.into(), after: None, is_slow: false }
    }

    /// Talking to the service failed for good.
    pub(super) fn broken(what: impl Into<String>) -> Self {
        Self::Final(Failure::CommunicationFailure(what.into()))
    }

    pub(super) fn cancelled() -> Self {
        Self::broken("cancelled")
    }
}

/// Attempts and time of one fetch.
pub(super) struct Budget<'a> {
    pub(super) ctx: &'a Ctx,
    pub(super) limits: &'a Limits,
    pub(super) cancel: &'a Cancel,
    /// When, by [`Ctx::monotonic`], it began and will end.
    began: Duration,
    deadline: Duration,
    failures: u32,
}

impl<'a> Budget<'a> {
    pub(super) fn new(ctx: &'a Ctx, limits: &'a Limits, cancel: &'a Cancel) -> Self {
        let began = ctx.monotonic();
        let deadline = began.saturating_add(limits.overall);
        Self { ctx, limits, cancel, began, deadline, failures: 0 }
    }

    /// The earlier of `limit` from now and the end of it all.
    pub(super) fn until(&self, limit: Duration) -> Duration {
        self.ctx.monotonic().saturating_add(limit).min(self.deadline)
    }

    /// What is left until then.
    pub(super) fn left(&self, until: Duration) -> Duration {
        until.saturating_sub(self.ctx.monotonic())
    }

    /// What a wait until then has come to: over, and why, or not.
    pub(super) fn check(&self, until: Duration, what: &dyn Fn() -> String) -> Result<(), Trouble> {
        if self.cancel.is_cancelled() {
            return Err(Trouble::cancelled());
        }
        let now = self.ctx.monotonic();
        if now >= self.deadline {
            return Err(Trouble::Final(Failure::Timeout(what())));
        }
        if now >= until { Err(Trouble::transient(what())) } else { Ok(()) }
    }

    /// Since it began.
    pub(super) fn elapsed(&self) -> Duration {
        self.ctx.monotonic().saturating_sub(self.began)
    }

    /// Is there time and an attempt for one more?
    pub(super) fn can_retry(&self) -> bool {
        self.failures < self.limits.retries
            && self.left(self.deadline) > delay(self.failures, self.limits)
    }

    /// Waits before the next attempt, or says why there is none.
    pub(super) fn pause(&mut self, trouble: Trouble) -> Result<(), Failure> {
        let (what, after, is_slow) = match trouble {
            Trouble::Transient { what, after, is_slow } => (what, after, is_slow),
            Trouble::Final(failure) => return Err(failure),
        };
        if self.failures >= self.limits.retries && !is_slow {
            let text = format!("{what} (gave up after {} attempts)", self.failures + 1);
            return Err(Failure::CommunicationFailure(text));
        }
        // "At once" is no invitation to knock eleven times within a millisecond.
        let wait = delay(self.failures, self.limits).max(after.unwrap_or_default());
        if wait >= self.left(self.deadline) {
            // Nothing will be asked any more, so there is nothing to wait for.
            let text = match after {
                Some(after) => {
                    format!("{what} (to be tried again after {}s only)", after.as_secs())
                }
                None => what,
            };
            return Err(Failure::Timeout(text));
        }
        self.failures += 1;
        log::debug!("{what}, trying again in {}ms.", wait.as_millis());
        let until = self.ctx.monotonic().saturating_add(wait);
        loop {
            if self.cancel.is_cancelled() {
                return Err(Failure::CommunicationFailure("cancelled".to_owned()));
            }
            let left = self.left(until);
            if left.is_zero() {
                return Ok(());
            }
            self.cancel
                .wait(&[], left)
                .map_err(|err| Failure::CommunicationFailure(format!("cannot wait: {err}")))?;
        }
    }
}

/// The delay after so many failures: doubles, up to its limit.
fn delay(failures: u32, limits: &Limits) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    limits.backoff_first.saturating_mul(factor).min(limits.backoff_max)
}

/// Statuses that pass by themselves on every cloud.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 410 | 429 | 500 | 502 | 503 | 504)
}

/// What a `Retry-After` header asks for: seconds, or a date.
pub(super) fn retry_after(value: Option<&str>, ctx: &Ctx) -> Option<Duration> {
    let value = value?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    // A date that has passed means now.
    Some(date::parse(value)?.duration_since(ctx.now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::ctx::Clock;

    #[test]
    fn delays_are_the_peers() {
        let limits = Limits::default();
        let series: Vec<u128> =
            (0..limits.retries).map(|n| delay(n, &limits).as_millis()).collect();
        assert_eq!(series, [20, 40, 80, 160, 320, 640, 1280, 2560, 3000, 3000]);
        assert_eq!(delay(99, &limits).as_millis(), 3000);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_defect_6() {
        struct Stopped;
        impl Clock for Stopped {
            fn now(&self) -> SystemTime {
                SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770)
            }
            fn sleep(&self, _: Duration) {}
        }
        let ctx = Ctx::host([]).with_clock(Arc::new(Stopped));
        let seconds = |value| retry_after(Some(value), &ctx).map(|after| after.as_secs());
        assert_eq!(seconds("2"), Some(2));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0));
        assert_eq!(seconds("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(seconds("-1"), None);
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds(""), None);
        assert_eq!(retry_after(None, &ctx), None);
    }

    #[test]
    fn an_empty_budget_fails_at_once_defect_4() {
        let (ctx, cancel) = (Ctx::host([]), Cancel::new());
        let limits = Limits { retries: 0, ..Limits::default() };
        let mut budget = Budget::new(&ctx, &limits, &cancel);
        let failure = budget.pause(Trouble::transient("x")).unwrap_err();
        let expected = "x (gave up after 1 attempts)".to_owned();
        assert_eq!(failure, Failure::CommunicationFailure(expected));
    }

    #[test]
    fn nobody_waits_for_what_comes_after_the_end() {
        let (ctx, cancel, limits) = (Ctx::host([]), Cancel::new(), Limits::default());
        let mut budget = Budget::new(&ctx, &limits, &cancel);
        let after = Some(Duration::MAX);
        let trouble = Trouble::Transient { what: "x".into(), after, is_slow: false };
        let failure = budget.pause(trouble).unwrap_err();
        assert!(matches!(failure, Failure::Timeout(_)), "{failure:?}");
    }
}

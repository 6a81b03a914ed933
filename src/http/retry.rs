//! When to try again, and after how long.
//!
//! Networks and servers fail for moments; a machine that updates itself at night has nobody to
//! press the button again. Only what can pass by itself is repeated: refused and reset
//! connections, time-outs, cut bodies, 408, 429 and 5xx. An answer like 404 stays one.
// DIFFERS: the peer never repeats a request.

use std::time::Duration;

use crate::ctx::Ctx;
use crate::error::Error;

use super::client::Options;

/// A failed exchange.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) kind: Kind,
}

/// What a failure means for the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// May pass; the server may have said how long to wait.
    Transient(Option<Duration>),
    /// Will not pass by itself.
    Permanent,
    /// There is no such file.
    NotFound,
}

impl Failure {
    pub(super) fn permanent(error: Error) -> Self {
        Self { error, kind: Kind::Permanent }
    }

    pub(super) fn transient(error: Error) -> Self {
        Self { error, kind: Kind::Transient(None) }
    }
}

/// Counts attempts and waits between them: exponential with jitter.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something arrived: the next failure is the first one again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt, or gives the failure back where another attempt is
    /// pointless or one too many.
    pub(super) fn pause(
        &mut self,
        failure: Failure,
        ctx: &Ctx,
        options: &Options,
    ) -> Result<(), Error> {
        let Kind::Transient(asked) = failure.kind else {
            return Err(failure.error);
        };
        if self.failures >= options.retries {
            return Err(failure.error);
        }
        let wait = match asked {
            Some(asked) => asked.min(options.retry_after_max),
            None => delay(self.failures, ctx.random::<1>(), options),
        };
        self.failures += 1;
        log::warn!(
            "{}; trying again in {:.1}s ({} of {}).",
            failure.error,
            wait.as_secs_f32(),
            self.failures,
            options.retries
        );
        ctx.sleep(wait);
        Ok(())
    }
}

/// Doubles with every failure up to the limit; the random part, from half to all of it, keeps a
/// fleet that lost the same server from coming back in one instant.
fn delay(failures: u32, [random]: [u8; 1], options: &Options) -> Duration {
    let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
    let full = options.retry_first.saturating_mul(factor).min(options.retry_max);
    let half = full / 2;
    half + half * u32::from(random) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_up_to_its_limit_and_jitters_between_half_and_all() {
        let options = Options {
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(5),
            ..Options::default()
        };
        let range = |n| (delay(n, [0], &options), delay(n, [255], &options));
        assert_eq!(range(0), (Duration::from_millis(500), Duration::from_secs(1)));
        assert_eq!(range(2), (Duration::from_secs(2), Duration::from_secs(4)));
        assert_eq!(range(3), (Duration::from_millis(2500), Duration::from_secs(5)));
        assert_eq!(range(40), range(3));
    }
}

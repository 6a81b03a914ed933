//! Sparing the metadata service: one request for many callers, and no more per second than it
//! allows.
//!
//! Both work within one process, which is the listening service. Processes that a socket unit
//! starts one per connection share the file cache only.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::model::{Failure, Reply};
use crate::ctx::Ctx;

/// LIMIT: connections of one user to the listening service, as the peer's socket unit has it.
pub const CONNECTIONS_PER_UID: usize = 16;

/// What a caller gets.
type Answer = Result<Reply, Failure>;

/// At most so many requests per second; as many at once, where nobody has asked for a while.
pub struct Pace {
    /// Between two requests.
    interval: Duration,
    /// How far ahead of the even pace requests may run.
    burst: Duration,
    /// When the next request would be due at the even pace; monotonic.
    due: Mutex<Duration>,
}

impl Pace {
    /// So many requests per second; 0 is no limit.
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        let burst = interval.saturating_mul(per_second.saturating_sub(1));
        Self { interval, burst, due: Mutex::new(Duration::ZERO) }
    }

    /// Waits for this request's turn, at most until the monotonic time `deadline`.
    ///
    /// # Errors
    /// [`Failure::Timeout`] where the turn comes later; nothing was waited for then.
    pub fn wait(&self, ctx: &Ctx, deadline: Duration) -> Result<(), Failure> {
        let delay = self.take(ctx.monotonic(), deadline)?;
        if !delay.is_zero() {
            ctx.sleep(delay);
        }
        Ok(())
    }

    /// Reserves a turn and says how long to wait for it.
    fn take(&self, now: Duration, deadline: Duration) -> Result<Duration, Failure> {
        let mut due = lock(&self.due);
        let start = (*due).max(now);
        let turn = start.saturating_sub(self.burst).max(now);
        if turn > deadline {
            return Err(Failure::Timeout("too many requests are waiting".to_owned()));
        }
        *due = start.saturating_add(self.interval);
        Ok(turn.saturating_sub(now))
    }
}

/// Requests under way, by what they ask for.
#[derive(Default)]
pub struct Flights(Mutex<HashMap<String, Arc<Flight>>>);

#[derive(Default)]
struct Flight {
    state: Mutex<State>,
    landed: Condvar,
}

#[derive(Default)]
enum State {
    #[default]
    Flying,
    Landed(Answer),
    /// The one who asked gave up; somebody else has to.
    Lost,
}

impl Flights {
    /// Does the work, or waits for somebody who is doing the same work already and shares the
    /// answer. `None` from the work means it was given up: then one of those who wait begins anew.
    pub fn share(&self, what: &str, work: &mut dyn FnMut() -> Option<Answer>) -> Option<Answer> {
        loop {
            let flight = match self.join(what) {
                Ok(pilot) => return pilot.fly(work),
                Err(flight) => flight,
            };
            let mut state = lock(&flight.state);
            while matches!(*state, State::Flying) {
                state = flight.landed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if let State::Landed(answer) = &*state {
                return Some(answer.clone());
            }
        }
    }

    /// Begins a flight, or finds the one under way.
    fn join(&self, what: &str) -> Result<Pilot<'_>, Arc<Flight>> {
        let mut flights = lock(&self.0);
        if let Some(flight) = flights.get(what) {
            return Err(Arc::clone(flight));
        }
        let flight = Arc::new(Flight::default());
        flights.insert(what.to_owned(), Arc::clone(&flight));
        Ok(Pilot { flights: self, what: what.to_owned(), flight })
    }
}

/// Who does the work. The flight ends with it, whatever happens.
struct Pilot<'a> {
    flights: &'a Flights,
    what: String,
    flight: Arc<Flight>,
}

impl Pilot<'_> {
    fn fly(self, work: &mut dyn FnMut() -> Option<Answer>) -> Option<Answer> {
        let answer = work();
        if let Some(answer) = &answer {
            *lock(&self.flight.state) = State::Landed(answer.clone());
        }
        answer
    }
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        lock(&self.flights.0).remove(&self.what);
        let mut state = lock(&self.flight.state);
        if matches!(*state, State::Flying) {
            *state = State::Lost;
        }
        drop(state);
        self.flight.landed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn five_requests_go_at_once_and_the_sixth_waits_its_turn() {
        let pace = Pace::new(5);
        let now = Duration::from_secs(100);
        let far = Duration::from_secs(200);
        for _ in 0..5 {
            assert_eq!(pace.take(now, far), Ok(Duration::ZERO));
        }
        assert_eq!(pace.take(now, far), Ok(Duration::from_millis(200)));
        assert_eq!(pace.take(now, far), Ok(Duration::from_millis(400)));
        // A second later five turns have come back, two of which were taken ahead.
        let later = now + Duration::from_secs(1);
        for _ in 0..3 {
            assert_eq!(pace.take(later, far), Ok(Duration::ZERO));
        }
        assert_eq!(pace.take(later, far), Ok(Duration::from_millis(200)));
        let near = later + Duration::from_millis(100);
        assert!(matches!(pace.take(later, near), Err(Failure::Timeout(_))));
    }

    #[test]
    fn no_limit_never_waits() {
        let pace = Pace::new(0);
        for _ in 0..1000 {
            assert_eq!(pace.take(Duration::ZERO, Duration::ZERO), Ok(Duration::ZERO));
        }
    }

    /// Starts one flight that lands when told, and callers that wait for it.
    fn crowd(outcome: Option<Answer>) -> (usize, Vec<Option<Answer>>) {
        let flights = Flights::default();
        let count = AtomicUsize::new(0);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let answers = std::thread::scope(|scope| {
            let (started, has_started) = std::sync::mpsc::channel();
            let (flights, count) = (&flights, &count);
            let first = scope.spawn(move || {
                flights.share("k", &mut || {
                    count.fetch_add(1, Ordering::SeqCst);
                    started.send(()).unwrap();
                    wait.recv().unwrap();
                    outcome.clone()
                })
            });
            has_started.recv().unwrap();
            let others: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        flights.share("k", &mut || {
                            count.fetch_add(1, Ordering::SeqCst);
                            Some(Err(Failure::KeyNotFound))
                        })
                    })
                })
                .collect();
            // Whether they come before or after the landing, each gets an answer.
            go.send(()).unwrap();
            std::iter::once(first).chain(others).map(|t| t.join().unwrap()).collect()
        });
        (count.into_inner(), answers)
    }

    #[test]
    fn those_who_wait_share_the_answer() {
        let reply = Reply { data: b"x".to_vec(), interface: None };
        let (count, answers) = crowd(Some(Ok(reply.clone())));
        assert!((1..=5).contains(&count));
        assert_eq!(answers.first(), Some(&Some(Ok(reply))));
        assert!(answers.iter().all(Option::is_some));
    }

    #[test]
    fn somebody_else_begins_anew_when_the_first_gave_up() {
        let (count, answers) = crowd(None);
        assert!((2..=5).contains(&count));
        assert_eq!(answers.first(), Some(&None));
        assert!(answers.iter().skip(1).all(|a| *a == Some(Err(Failure::KeyNotFound))));
    }
}

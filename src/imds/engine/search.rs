//! Asking through all interfaces at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::{Inner, Known, Question, Way};
use crate::imds::fetch::Cancel;
use crate::imds::interfaces::{self, Changes, INTERFACES_MAX};
use crate::imds::limit::Pace;
use crate::imds::model::{Failure, Reply};
use crate::net::{Interface, Link};

/// How often somebody who watches for addresses looks whether that is wanted still.
const WATCH_SLICE: Duration = Duration::from_millis(500);

type Answer = Result<Reply, Failure>;

/// What the search hears of its threads.
enum Event {
    /// An interface is through with the question.
    Done(Box<Way>, Option<Answer>),
    /// Addresses have appeared.
    Changed,
}

/// Asks through every interface that has an address until one answers. An answer that no other
/// interface would change (there is no such key, the service is off) ends the search too.
pub(super) fn search(
    inner: &Arc<Inner>,
    known: &Known,
    question: &Question,
    deadline: Duration,
) -> Answer {
    // First, so that no address falls in between.
    let changes = inner.network.watch().ok();
    let links = match inner.network.links() {
        Ok(links) => interfaces::candidates(links),
        Err(err) => {
            // Without a list there is nothing to choose from; the routing table knows the way.
            log::debug!("{err}, asking without choosing an interface.");
            return inner.direct(known, question, None, deadline);
        }
    };
    for link in &links {
        let way = question.way(Some(link.interface.clone()));
        if let Some(Ok(reply)) = inner.remembered(question, &way) {
            return Ok(reply);
        }
    }
    // COMPAT(262): where there is no address at all, the first one is waited for in any case.
    let changes = changes.filter(|_| question.wait || links.is_empty());
    if let ([only], None) = (links.as_slice(), &changes) {
        return inner.direct(known, question, Some(only.interface.clone()), deadline);
    }
    Search::new(inner, known, question, deadline).run(links, changes)
}

/// The interfaces worth asking through when this one has failed; none where it is the only one.
pub(super) fn others(inner: &Inner, failed: &Interface) -> Option<Vec<Link>> {
    let mut links = interfaces::candidates(inner.network.links().ok()?);
    links.retain(|link| link.interface.index != failed.index);
    (!links.is_empty()).then_some(links)
}

/// Asks through these interfaces.
pub(super) fn among(
    inner: &Arc<Inner>,
    known: &Known,
    question: &Question,
    deadline: Duration,
    links: Vec<Link>,
) -> Answer {
    Search::new(inner, known, question, deadline).run(links, None)
}

struct Search<'a> {
    inner: &'a Arc<Inner>,
    known: Known,
    question: &'a Question,
    deadline: Duration,
    sender: Sender<Event>,
    events: Receiver<Event>,
    cancel: Cancel,
    /// Addresses by interface, as far as they have been used.
    seen: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// Interfaces that are being asked through.
    running: BTreeSet<u32>,
    /// Interfaces that will be.
    waiting: Vec<Link>,
    last: Option<Failure>,
}

impl<'a> Search<'a> {
    fn new(
        inner: &'a Arc<Inner>,
        known: &'a Known,
        question: &'a Question,
        deadline: Duration,
    ) -> Self {
        let (sender, events) = mpsc::channel();
        Self {
            inner,
            known: known.clone(),
            question,
            deadline,
            sender,
            events,
            cancel: Cancel::default(),
            seen: BTreeMap::new(),
            running: BTreeSet::new(),
            waiting: Vec::new(),
            last: None,
        }
    }

    /// Begins, and goes on until there is an answer or nothing left to hope for.
    fn run(mut self, links: Vec<Link>, changes: Option<Box<dyn Changes>>) -> Answer {
        // One turn for the question, not one per interface: the service hears of it once as a rule,
        // and a host of containers has dozens of interfaces that lead nowhere.
        self.known.pace.wait(&self.inner.ctx, self.deadline)?;
        self.known.pace = Arc::new(Pace::new(0));
        self.start(links);
        let is_watching = changes.is_some_and(|changes| self.watch(changes));
        let answer = self.wait(is_watching);
        self.cancel.cancel();
        answer
    }

    /// Begins with those interfaces that have an address not used yet.
    fn start(&mut self, links: Vec<Link>) {
        for link in links {
            let index = link.interface.index;
            let seen = self.seen.entry(index).or_default();
            let before = seen.len();
            seen.extend(link.addresses.iter().copied());
            let is_new = seen.len() > before;
            if is_new
                && !self.running.contains(&index)
                && self.waiting.iter().all(|other| other.interface.index != index)
            {
                self.waiting.push(link);
            }
        }
        while self.running.len() < INTERFACES_MAX && !self.waiting.is_empty() {
            let link = self.waiting.remove(0);
            self.spawn(&link);
        }
    }

    fn spawn(&mut self, link: &Link) {
        let index = link.interface.index;
        let way = self.question.way(Some(link.interface.clone()));
        let (inner, known, question) =
            (Arc::clone(self.inner), self.known.clone(), self.question.clone());
        let (cancel, sender, deadline) = (self.cancel.clone(), self.sender.clone(), self.deadline);
        // Not scoped: who is slow to hear that it is over must not keep the answer back.
        let work = move || {
            let answer = inner.request(&known, &question, &way, deadline, &cancel);
            // Nobody listens any more once there is an answer.
            let _ = sender.send(Event::Done(Box::new(way), answer));
        };
        match std::thread::Builder::new().spawn(work) {
            Ok(_) => {
                self.running.insert(index);
            }
            Err(err) => {
                let errno = err.raw_os_error().unwrap_or(nix::libc::EAGAIN);
                self.last = Some(Failure::System(errno, "Failed to start a thread".to_owned()));
            }
        }
    }

    fn wait(&mut self, is_watching: bool) -> Answer {
        loop {
            let is_over = !is_watching || (!self.question.wait && self.last.is_some());
            if self.running.is_empty() && is_over {
                let nothing = || {
                    Failure::CommunicationFailure("no network interface has an address".to_owned())
                };
                return Err(self.last.take().unwrap_or_else(nothing));
            }
            let left = self.deadline.saturating_sub(self.inner.ctx.monotonic());
            match self.events.recv_timeout(left) {
                Ok(Event::Done(way, answer)) => {
                    if let Some(answer) = self.done(&way, answer) {
                        return answer;
                    }
                }
                Ok(Event::Changed) => {
                    if let Ok(links) = self.inner.network.links() {
                        self.start(interfaces::candidates(links));
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(self.timeout());
                }
            }
        }
    }

    fn timeout(&mut self) -> Failure {
        let detail = match self.last.take() {
            Some(Failure::CommunicationFailure(detail) | Failure::Timeout(detail)) => detail,
            Some(Failure::System(_, detail)) => detail,
            _ if self.seen.is_empty() => "no network interface has an address".to_owned(),
            _ => "no interface got an answer".to_owned(),
        };
        Failure::Timeout(detail)
    }

    /// One interface is through. An answer ends the search.
    fn done(&mut self, way: &Way, answer: Option<Answer>) -> Option<Answer> {
        if let Some(interface) = &way.interface {
            self.running.remove(&interface.index);
        }
        match answer {
            Some(answer @ (Ok(_) | Err(Failure::KeyNotFound | Failure::NotAvailable))) => {
                self.inner.pin(way.interface.as_ref());
                return Some(answer);
            }
            Some(Err(failure)) => {
                log::debug!("No answer through {}: {failure:?}", way.place());
                self.last = Some(failure);
            }
            None => {}
        }
        self.start(Vec::new());
        None
    }

    /// Has a thread tell about addresses that appear. False where there can be none.
    fn watch(&self, mut changes: Box<dyn Changes>) -> bool {
        let (sender, cancel) = (self.sender.clone(), self.cancel.clone());
        let work = move || {
            while !cancel.is_cancelled() {
                if changes.wait(WATCH_SLICE) && sender.send(Event::Changed).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().spawn(work).is_ok()
    }
}

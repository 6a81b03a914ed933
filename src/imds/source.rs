//! Where metadata comes from: the service's socket, or the engine in this process.

use std::time::Duration;

use super::model::{Endpoint, Failure, Reply, Request};

/// Answers questions about this instance. One conversation: implementations keep connections,
/// tokens and the chosen interface between calls.
pub trait Source {
    /// The endpoint in use.
    ///
    /// # Errors
    /// [`Failure::NotSupported`] where there is none, and what connecting to a service can end in.
    fn endpoint(&mut self) -> Result<Endpoint, Failure>;

    /// The bytes of one key.
    ///
    /// # Errors
    /// Any [`Failure`].
    fn get(&mut self, request: &Request) -> Result<Reply, Failure>;
}

/// A source that is asked with somebody's wishes: what a request leaves open is taken from here.
pub struct Wishing<'a> {
    /// Who answers.
    pub source: &'a mut dyn Source,
    /// Index of the network interface.
    pub interface: Option<u32>,
    /// Oldest acceptable answer.
    pub refresh: Option<Duration>,
    /// May the cache be used?
    pub cache: Option<bool>,
}

impl Source for Wishing<'_> {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        self.source.endpoint()
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        self.source.get(&Request {
            interface: request.interface.or(self.interface),
            refresh: request.refresh.or(self.refresh),
            cache: request.cache.or(self.cache),
            ..request.clone()
        })
    }
}

/// A source that is not asked again once it has let the time pass twice without ever having
/// answered. One key alone may be what it is slow with.
pub struct GivingUp<'a> {
    source: &'a mut dyn Source,
    has_answered: bool,
    silences: u8,
}

impl<'a> GivingUp<'a> {
    /// Gives up on this one.
    pub fn new(source: &'a mut dyn Source) -> Self {
        Self { source, has_answered: false, silences: 0 }
    }
}

impl Source for GivingUp<'_> {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        self.source.endpoint()
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        if self.silences > 1 && !self.has_answered {
            return Err(Failure::Timeout("not asked any more".to_owned()));
        }
        let answer = self.source.get(request);
        match &answer {
            Ok(_) | Err(Failure::KeyNotFound) => self.has_answered = true,
            Err(Failure::Timeout(_)) => self.silences = self.silences.saturating_add(1),
            Err(_) => {}
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn wishes_fill_what_a_request_leaves_open() {
        let mut fake = Fake::vendor("v");
        let hour = Some(Duration::from_secs(3600));
        let mut source =
            Wishing { source: &mut fake, interface: Some(2), refresh: hour, cache: Some(false) };
        assert_eq!(source.endpoint().unwrap().vendor.as_deref(), Some("v"));
        let own = Request { cache: Some(true), ..Request::key("/x") };
        assert_eq!(source.get(&own), Err(Failure::KeyNotFound));
        let sent = Request { interface: Some(2), refresh: hour, ..own };
        assert_eq!(fake.requests(), [sent]);
    }
}

//! A source for unit tests: answers from a table, remembers what it was asked.

use std::collections::BTreeMap;

use super::model::{Endpoint, Failure, Reply, Request, WellKnown};
use super::source::Source;

type Question = (Option<WellKnown>, Option<String>);

/// Unset keys are absent.
#[derive(Default)]
pub(crate) struct Fake {
    endpoint: Option<Endpoint>,
    answers: BTreeMap<Question, Result<Vec<u8>, Failure>>,
    requests: Vec<Request>,
}

impl Fake {
    /// A cloud of that name.
    pub(crate) fn vendor(name: &str) -> Self {
        let endpoint = Endpoint { vendor: Some(name.to_owned()), ..Endpoint::default() };
        Self { endpoint: Some(endpoint), ..Self::default() }
    }

    /// No cloud.
    pub(crate) fn nowhere() -> Self {
        Self::default()
    }

    pub(crate) fn known(self, name: WellKnown, value: impl AsRef<[u8]>) -> Self {
        self.answer(Some(name), None, Ok(value.as_ref().to_vec()))
    }

    pub(crate) fn fails(self, name: WellKnown, failure: Failure) -> Self {
        self.answer(Some(name), None, Err(failure))
    }

    pub(crate) fn answer(
        mut self,
        name: Option<WellKnown>,
        key: Option<&str>,
        answer: Result<Vec<u8>, Failure>,
    ) -> Self {
        self.answers.insert((name, key.map(str::to_owned)), answer);
        self
    }

    /// What was asked, `userdata-base/systemd-userdata` where a name has a key.
    pub(crate) fn asked(&self) -> Vec<String> {
        let word = |request: &Request| {
            let name = request.well_known.map(WellKnown::name).unwrap_or_default();
            format!("{name}{}", request.key.as_deref().unwrap_or_default())
        };
        self.requests.iter().map(word).collect()
    }

    pub(crate) fn requests(&self) -> &[Request] {
        &self.requests
    }
}

impl Source for Fake {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        self.endpoint.clone().ok_or(Failure::NotSupported)
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        self.requests.push(request.clone());
        if self.endpoint.is_none() {
            return Err(Failure::NotSupported);
        }
        let question = (request.well_known, request.key.clone());
        let absent = || match request.well_known {
            Some(_) => Err(Failure::WellKnownKeyUnset),
            None => Err(Failure::KeyNotFound),
        };
        let answer = self.answers.get(&question).cloned().unwrap_or_else(absent);
        answer.map(|data| Reply { data, interface: None })
    }
}

//! Conversations with a mock whose time limits are short.

use super::*;

/// The same shape as the product's limits, a fiftieth of the time.
pub(super) fn quick() -> Limits {
    Limits {
        connect: Duration::from_millis(500),
        first_byte: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        overall: Duration::from_secs(4),
        head_start: Duration::from_millis(50),
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
        ..Limits::default()
    }
}

/// One conversation with a mock.
pub(super) struct Talk {
    pub(super) mock: Mock,
    pub(super) session: Session,
    pub(super) tokens: Arc<MemoryTokens>,
}

impl Talk {
    pub(super) fn new(cloud: MockCloud) -> Self {
        Self::with(cloud, quick(), |_| {})
    }

    pub(super) fn with(
        cloud: MockCloud,
        limits: Limits,
        change: impl FnOnce(&mut Endpoint),
    ) -> Self {
        let mock = cloud.start();
        let mut endpoint = mock.endpoint();
        providers::add_traits(&mut endpoint);
        change(&mut endpoint);
        Self::at(mock, &endpoint, limits)
    }

    pub(super) fn at(mock: Mock, endpoint: &Endpoint, limits: Limits) -> Self {
        let ctx = Ctx::host([]);
        let tokens = Arc::new(MemoryTokens::new(&ctx));
        let session = Session::new(&ctx, endpoint, Route::default(), tokens.clone(), limits);
        Self { mock, session, tokens }
    }

    pub(super) fn fetch(&self, key: &str) -> Result<Vec<u8>, Failure> {
        self.session.fetch(key, Duration::from_secs(900), &Cancel::new())
    }

    /// The value as text, or the name of the failure.
    pub(super) fn ask(&self, key: &str) -> Result<String, String> {
        match self.fetch(key) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(failure) => Err(failure_name(&failure)),
        }
    }
}

/// A cloud without tokens and headers, and a key of it.
pub(super) fn plain() -> MockCloud {
    MockCloud::fixture("vultr").route(KEY, Answer::ok("value"))
}

pub(super) const KEY: &str = "/target";

/// A cloud with tokens, and a key of it with its target.
pub(super) fn with_tokens() -> MockCloud {
    MockCloud::fixture("amazon-ec2").route("/latest/target", Answer::ok("value"))
}

pub(super) const PUT: &str = "PUT /latest/api/token";
pub(super) const GET: &str = "GET /latest/target";

pub(super) fn value() -> Result<String, String> {
    Ok("value".to_owned())
}

pub(super) fn failed(name: &str) -> Result<String, String> {
    Err(name.to_owned())
}

/// Answers of a plain cloud to one key, and what becomes of them: result and number of requests.
pub(super) fn plainly(
    answers: impl IntoIterator<Item = Answer>,
    expected: Result<String, String>,
    requests: usize,
) {
    let talk = Talk::new(plain().script(KEY, answers));
    assert_eq!(talk.ask(KEY), expected);
    assert_eq!(talk.mock.count(KEY), requests, "{:?}", talk.mock.lines());
}

/// An answer that never changes.
pub(super) fn always(answer: Answer, expected: Result<String, String>, requests: usize) {
    let talk = Talk::new(plain().always(KEY, answer));
    assert_eq!(talk.ask(KEY), expected);
    assert_eq!(talk.mock.count(KEY), requests, "{:?}", talk.mock.lines());
}

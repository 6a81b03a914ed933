//! Tokens: where they are kept, and what the service may call one.

use std::sync::Mutex;
use std::time::Duration;

use crate::ctx::Ctx;

/// LIMIT: bytes of a token.
pub(super) const MAX: usize = 4096;

/// Keeps the token between requests. Shared by threads; the engine's is a file.
pub trait TokenStore: Send + Sync {
    /// The token, as long as it is worth a try.
    fn load(&self) -> Option<String>;
    /// Keeps a token that the service was asked to honour for `refresh`.
    fn store(&self, token: &str, refresh: Duration);
    /// Drops the token if it is still this one: the service refused it.
    fn forget(&self, token: &str);
}

/// Keeps the token in memory, for half of its lifetime as the peer does.
pub struct MemoryTokens {
    ctx: Ctx,
    /// The token, and when [`Ctx::monotonic`] makes it too old.
    token: Mutex<Option<(String, Duration)>>,
}

impl MemoryTokens {
    /// Nothing yet.
    pub fn new(ctx: &Ctx) -> Self {
        Self { ctx: ctx.clone(), token: Mutex::new(None) }
    }

    fn token(&self) -> std::sync::MutexGuard<'_, Option<(String, Duration)>> {
        self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl TokenStore for MemoryTokens {
    fn load(&self) -> Option<String> {
        let now = self.ctx.monotonic();
        self.token().as_ref().filter(|(_, until)| *until > now).map(|(token, _)| token.clone())
    }

    fn store(&self, token: &str, refresh: Duration) {
        let until = self.ctx.monotonic().saturating_add(refresh / 2);
        *self.token() = Some((token.to_owned(), until));
    }

    fn forget(&self, token: &str) {
        let mut kept = self.token();
        if kept.as_ref().is_some_and(|(kept, _)| kept == token) {
            *kept = None;
        }
    }
}

/// Reads the body of the token's answer; the error says what is wrong with it, never what it is.
// DIFFERS: the peer refuses a token that ends in a newline, and sends no header for an empty one.
pub(super) fn parse(body: &[u8]) -> Result<String, &'static str> {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let body = body.strip_suffix(b"\r").unwrap_or(body);
    if body.is_empty() {
        return Err("the token is empty");
    }
    if body.len() > MAX {
        return Err("the token is too long");
    }
    let token = std::str::from_utf8(body).map_err(|_| "the token is not valid UTF-8")?;
    if token.chars().any(char::is_control) {
        return Err("the token has control characters");
    }
    Ok(token.to_owned())
}

/// Seconds of lifetime to ask for: rounded up, at least one, at most what the service accepts.
pub(super) fn lifetime(refresh: Duration, max: Option<Duration>) -> u64 {
    let seconds = refresh.as_secs().saturating_add(u64::from(refresh.subsec_nanos() > 0));
    seconds.min(max.map_or(u64::MAX, |max| max.as_secs())).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_stripped_defect_10_and_empty_tokens_are_failures_defect_11() {
        for (body, token) in [
            (&b"TOK"[..], Ok("TOK")),
            (b"TOK\n", Ok("TOK")),
            (b"TOK\r\n", Ok("TOK")),
            (b"TOK\n\n", Err("the token has control characters")),
            (b"TOK\rX", Err("the token has control characters")),
            (b"A\nB", Err("the token has control characters")),
            (b"A\0", Err("the token has control characters")),
            (b"A\x7f", Err("the token has control characters")),
            (b"A\xc2\x85", Err("the token has control characters")),
            (b"", Err("the token is empty")),
            (b"\n", Err("the token is empty")),
            (b"\r\n", Err("the token is empty")),
            (b"\xff", Err("the token is not valid UTF-8")),
        ] {
            assert_eq!(parse(body), token.map(str::to_owned), "{body:?}");
        }
        assert_eq!(parse(&[b'x'; MAX]).map(|token| token.len()), Ok(MAX));
        assert_eq!(parse(&[b'x'; MAX + 1]), Err("the token is too long"));
    }

    #[test]
    fn lifetimes_are_rounded_up_and_clamped() {
        let max = Some(Duration::from_secs(21600));
        assert_eq!(lifetime(Duration::from_millis(900_001), max), 901);
        assert_eq!(lifetime(Duration::from_secs(900), max), 900);
        assert_eq!(lifetime(Duration::ZERO, max), 1);
        assert_eq!(lifetime(Duration::MAX, max), 21600);
        assert_eq!(lifetime(Duration::from_secs(99_999), None), 99_999);
    }

    #[test]
    fn only_the_token_that_was_refused_is_forgotten() {
        let tokens = MemoryTokens::new(&Ctx::host([]));
        assert_eq!(tokens.load(), None);
        tokens.store("a", Duration::from_secs(600));
        tokens.forget("b");
        assert_eq!(tokens.load().as_deref(), Some("a"));
        tokens.forget("a");
        assert_eq!(tokens.load(), None);
        tokens.store("c", Duration::ZERO);
        assert_eq!(tokens.load(), None, "too old at once");
    }
}

//! One scripted answer, honest or not.

use std::sync::Arc;
use std::time::Duration;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`, pieces of so many bytes.
    Chunked(usize),
    /// The connection closes.
    Close,
    /// `Content-Length` with this number, whatever the body is.
    Claim(u64),
}

/// What goes wrong after some bytes of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Closes the connection in good order.
    Close(usize),
    /// Sends a TCP reset.
    Reset(usize),
    /// Sends nothing more, but keeps the connection.
    Stall(usize),
}

/// What goes wrong before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    None,
    /// Closes the connection in good order.
    HangUp,
    /// Sends a TCP reset.
    Reset,
    /// Keeps the connection and says nothing.
    Stall,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub version: &'static str,
    pub headers: Vec<(String, String)>,
    pub body: Arc<[u8]>,
    pub framing: Framing,
    pub fault: Fault,
    pub silence: Silence,
    /// Bytes before the head, such as an interim answer.
    pub before: Vec<u8>,
    /// Pause before the head.
    pub delay: Duration,
    /// Piece size and pause between pieces of the body (of the chunks, where it has some).
    pub drip: Option<(usize, Duration)>,
    /// Bytes written instead of everything else.
    pub raw: Option<Arc<[u8]>>,
    /// Close after the answer?
    pub is_last: bool,
    /// The answer of the fixture instead; delay and silence still count.
    pub as_usual: bool,
}

impl Answer {
    /// A status with an empty body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: Arc::from([]),
            framing: Framing::Length,
            fault: Fault::None,
            silence: Silence::None,
            before: Vec::new(),
            delay: Duration::ZERO,
            drip: None,
            raw: None,
            is_last: false,
            as_usual: false,
        }
    }

    /// 200 with this body.
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status(200).body(body)
    }

    /// A status with a body that looks like a web page.
    pub fn page(status: u16) -> Self {
        Self::status(status)
            .header("Content-Type", "text/html")
            .body(format!("<html><title>{status}</title></html>\n"))
    }

    /// What the cloud answers by itself.
    pub fn usual() -> Self {
        Self { as_usual: true, ..Self::status(0) }
    }

    /// A redirect.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::status(status).header("Location", location)
    }

    /// These bytes and nothing else; then the connection closes.
    pub fn garbage(bytes: impl AsRef<[u8]>) -> Self {
        Self { raw: Some(Arc::from(bytes.as_ref())), is_last: true, ..Self::status(0) }
    }

    /// Closes the connection without a byte.
    pub fn hang_up() -> Self {
        Self { silence: Silence::HangUp, ..Self::status(0) }
    }

    /// Resets the connection without a byte.
    pub fn reset() -> Self {
        Self { silence: Silence::Reset, ..Self::status(0) }
    }

    /// Says nothing and keeps the connection.
    pub fn stall() -> Self {
        Self { silence: Silence::Stall, ..Self::status(0) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Arc::from(body.as_ref());
        self
    }

    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    /// Waits before the head.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends the body in pieces of this size with a pause before each but the first.
    pub fn drip(mut self, bytes: usize, pause: Duration) -> Self {
        self.drip = Some((bytes, pause));
        self
    }

    /// `100 Continue` first, although nobody asked.
    pub fn after_continue(mut self) -> Self {
        self.before.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        self
    }

    /// In the words of HTTP/1.0.
    pub fn old(mut self) -> Self {
        self.version = "HTTP/1.0";
        self.is_last = true;
        self
    }

    /// Closes the connection after the answer, in good order.
    pub fn last(mut self) -> Self {
        self.is_last = true;
        self
    }

    /// The same answer so many times, as a script.
    pub fn times(self, count: usize) -> Vec<Self> {
        vec![self; count]
    }

    pub(super) fn named(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Status line and headers.
    pub(super) fn head(&self) -> String {
        let mut head = format!("{} {} {}\r\n", self.version, self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.framing {
            // 204 has no length at all.
            Framing::Length if self.status == 204 => {}
            Framing::Length => head.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
            Framing::Claim(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
            Framing::Chunked(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::Close => {}
        }
        if self.is_last || self.framing == Framing::Close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        head
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}

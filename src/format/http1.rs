//! Answers of HTTP/1.0 and HTTP/1.1 servers, fed in pieces of any size: head, body, where it ends.
//!
//! Heads go through `httparse`; the framing of bodies is ours. Only the body of a success is kept.
//! That of anything else is skipped, so that the connection can be used again: the status decides,
//! and an error page is never data.
//!
//! External spec: RFC 9112 sections 4 to 7.

use std::fmt;

/// LIMIT: bytes of one head, with all its headers.
const HEAD_MAX: usize = 64 << 10;
/// LIMIT: headers of one head.
const HEADERS_MAX: usize = 128;
/// LIMIT: bytes of a chunk's size line, and of all trailers.
const LINE_MAX: usize = 4 << 10;
const TRAILERS_MAX: usize = 16 << 10;
/// LIMIT: bytes of an error page that are skipped; a longer one costs the connection.
const SKIP_MAX: usize = 64 << 10;
/// LIMIT: interim answers (100 to 199) before the final one.
const INTERIM_MAX: usize = 8;

/// How every answer begins; what does not is no HTTP.
const PREFIX: &[u8] = b"HTTP/1.";

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not the beginning of an HTTP/1 head, or a line in it that is none.
    NotHttp,
    /// The head passes a limit, or too many interim answers came.
    HeadTooLong,
    /// Several lengths, none that is a number, or a coding that was never asked for.
    BadFraming,
    /// A chunk does not begin or end as it should.
    BadChunk,
    /// The body passes the limit, or says that it will.
    TooLarge,
    /// The connection closed before a byte of the answer.
    Nothing,
    /// The connection closed within the answer.
    Truncated,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotHttp => "answer is not HTTP",
            Self::HeadTooLong => "head of the answer is too long",
            Self::BadFraming => "length of the answer is contradictory",
            Self::BadChunk => "answer is badly chunked",
            Self::TooLarge => "answer is too large",
            Self::Nothing => "connection closed without an answer",
            Self::Truncated => "connection closed within the answer",
        })
    }
}

impl std::error::Error for Malformed {}

/// Status line and headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The three digits.
    pub status: u16,
    /// 0 or 1, of `HTTP/1.x`.
    pub minor: u8,
    /// Names and values in order. Bytes that are no UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// True for 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn values<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// Does a header that is a list of words have this one?
    fn has_word(&self, name: &'static str, word: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim_matches([' ', '\t']).eq_ignore_ascii_case(word))
    }

    /// Does the server keep the connection?
    fn keeps(&self) -> bool {
        let is_closed = self.has_word("Connection", "close");
        !is_closed && (self.minor > 0 || self.has_word("Connection", "keep-alive"))
    }

    fn framing(&self) -> Result<Framing, Malformed> {
        if matches!(self.status, 204 | 304) {
            return Ok(Framing::None);
        }
        let mut codings = self.values("Transfer-Encoding");
        if let Some(coding) = codings.next() {
            // We never say that we understand another one.
            let is_chunked = coding.trim_matches([' ', '\t']).eq_ignore_ascii_case("chunked");
            let is_only = codings.next().is_none() && self.minor > 0;
            return if is_chunked && is_only {
                Ok(Framing::Chunked)
            } else {
                Err(Malformed::BadFraming)
            };
        }
        let mut lengths = self.values("Content-Length");
        match (lengths.next(), lengths.next()) {
            (None, _) => Ok(Framing::Close),
            (Some(length), None) => {
                let is_number = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
                let length = if is_number { length.parse().ok() } else { None };
                length.map(Framing::Length).ok_or(Malformed::BadFraming)
            }
            // Two hops that believe two lengths see different answers; we believe neither.
            (Some(_), Some(_)) => Err(Malformed::BadFraming),
        }
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

/// What the next byte belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// So many more bytes of the body.
    Length(u64),
    Close,
    ChunkSize,
    /// So many more bytes of this chunk.
    Chunk(u64),
    ChunkEnd,
    Trailers(usize),
    Done,
}

/// Reads one answer. Feed it until [`Reader::is_complete`], or [`Reader::end`] it where the
/// connection closes.
#[derive(Clone, Debug)]
pub struct Reader {
    state: State,
    head: Option<Head>,
    /// The head, or the line that is being read.
    pending: Vec<u8>,
    /// Bytes of `pending` in which the end of the head was looked for.
    searched: usize,
    interim: usize,
    body: Vec<u8>,
    skipped: usize,
    limit: usize,
    is_reusable: bool,
}

impl Reader {
    /// For an answer whose body has at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            state: State::Head,
            head: None,
            pending: Vec::new(),
            searched: 0,
            interim: 0,
            body: Vec::new(),
            skipped: 0,
            limit,
            is_reusable: false,
        }
    }

    /// Takes bytes as they arrive and says how many of them belong to this answer; fewer than
    /// given only where the answer is complete. An error page that breaks off takes them all.
    ///
    /// # Errors
    /// What makes the bytes no answer. After that the reader must not be fed again.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut rest = bytes;
        while !rest.is_empty() && self.state != State::Done {
            let used = match self.step(rest) {
                Ok(used) => used,
                // How an error page ends does not matter to anybody but the next answer.
                Err(err) if self.is_skipping() => self.give_up_on_page(err, rest.len()),
                Err(err) => return Err(err),
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(bytes.len() - rest.len())
    }

    /// Says that the connection closed.
    ///
    /// # Errors
    /// [`Malformed::Nothing`] or [`Malformed::Truncated`] where that was too early.
    pub fn end(&mut self) -> Result<(), Malformed> {
        self.is_reusable = false;
        match self.state {
            State::Done | State::Close => {}
            State::Head if self.pending.is_empty() && self.interim == 0 => {
                return Err(Malformed::Nothing);
            }
            _ if self.is_skipping() => {}
            _ => return Err(Malformed::Truncated),
        }
        self.state = State::Done;
        Ok(())
    }

    /// True where the whole answer is there.
    pub fn is_complete(&self) -> bool {
        self.state == State::Done
    }

    /// May the connection carry another request? Asked when the answer is complete.
    pub fn is_reusable(&self) -> bool {
        self.is_complete() && self.is_reusable
    }

    /// Status and headers, once they are there.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Head and body. The body is empty where the status is no success.
    pub fn into_parts(self) -> (Head, Vec<u8>) {
        (self.head.unwrap_or_default(), self.body)
    }

    /// The head is there and the body does not matter.
    fn is_skipping(&self) -> bool {
        self.head.as_ref().is_some_and(|head| !head.is_success())
    }

    fn give_up_on_page(&mut self, _: Malformed, rest: usize) -> usize {
        self.state = State::Done;
        self.is_reusable = false;
        rest
    }

    fn step(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self.state {
            State::Head => self.read_head(bytes),
            State::Length(left) => {
                let used = self.take(left, bytes)?;
                let left = left - used as u64;
                self.state = if left == 0 { State::Done } else { State::Length(left) };
                Ok(used)
            }
            State::Close => self.take(u64::MAX, bytes),
            State::ChunkSize => self.read_line(bytes, Self::begin_chunk),
            State::Chunk(left) => {
                let used = self.take(left, bytes)?;
                let left = left - used as u64;
                self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                Ok(used)
            }
            State::ChunkEnd => self.read_line(bytes, |reader, line| {
                reader.state = State::ChunkSize;
                if line.is_empty() { Ok(()) } else { Err(Malformed::BadChunk) }
            }),
            State::Trailers(seen) => self.read_line(bytes, |reader, line| {
                let seen = seen + line.len() + 2;
                reader.state = if line.is_empty() { State::Done } else { State::Trailers(seen) };
                if seen > TRAILERS_MAX { Err(Malformed::BadChunk) } else { Ok(()) }
            }),
            State::Done => Ok(0),
        }
    }

    fn read_head(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let before = self.pending.len();
        self.pending.extend_from_slice(bytes);
        let checked = self.pending.len().min(PREFIX.len());
        if self.pending.get(..checked) != PREFIX.get(..checked) {
            return Err(Malformed::NotHttp);
        }
        let Some(end) = head_end(&self.pending, self.searched) else {
            if self.pending.len() > HEAD_MAX {
                return Err(Malformed::HeadTooLong);
            }
            // The blank line may be cut after three of its bytes.
            self.searched = self.pending.len().saturating_sub(3);
            return Ok(bytes.len());
        };
        if end > HEAD_MAX {
            return Err(Malformed::HeadTooLong);
        }
        let head = parse_head(self.pending.get(..end).unwrap_or_default())?;
        self.pending = Vec::new();
        self.searched = 0;
        if (100..200).contains(&head.status) {
            self.interim += 1;
            // 101 would begin another protocol, which nobody asked for.
            if self.interim > INTERIM_MAX || head.status == 101 {
                return Err(Malformed::HeadTooLong);
            }
        } else {
            self.begin_body(head)?;
        }
        Ok(end - before)
    }

    fn begin_body(&mut self, head: Head) -> Result<(), Malformed> {
        let framing = head.framing();
        self.is_reusable = head.keeps();
        let has_both =
            head.header("Transfer-Encoding").is_some() && head.header("Content-Length").is_some();
        self.is_reusable &= !has_both;
        let is_success = head.is_success();
        self.head = Some(head);
        self.state = match framing {
            Ok(Framing::None | Framing::Length(0)) => State::Done,
            Ok(Framing::Length(length)) => {
                if is_success && length > self.limit as u64 {
                    return Err(Malformed::TooLarge);
                }
                State::Length(length)
            }
            Ok(Framing::Chunked) => State::ChunkSize,
            Ok(Framing::Close) => {
                self.is_reusable = false;
                State::Close
            }
            Err(err) if is_success => return Err(err),
            Err(_) => {
                self.is_reusable = false;
                State::Done
            }
        };
        Ok(())
    }

    /// Takes at most `left` bytes of the body.
    fn take(&mut self, left: u64, bytes: &[u8]) -> Result<usize, Malformed> {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        if self.is_skipping() {
            self.skipped += count;
            return if self.skipped > SKIP_MAX { Err(Malformed::TooLarge) } else { Ok(count) };
        }
        if count > self.limit.saturating_sub(self.body.len()) {
            return Err(Malformed::TooLarge);
        }
        self.body.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    /// Collects bytes up to a line feed, then hands the line over without its end.
    fn read_line(
        &mut self,
        bytes: &[u8],
        done: impl FnOnce(&mut Self, &[u8]) -> Result<(), Malformed>,
    ) -> Result<usize, Malformed> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(bytes.len(), |at| at + 1);
        self.pending.extend_from_slice(bytes.get(..used).unwrap_or_default());
        if self.pending.len() > LINE_MAX {
            return Err(Malformed::BadChunk);
        }
        if end.is_some() {
            let line = std::mem::take(&mut self.pending);
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            done(self, line.strip_suffix(b"\r").unwrap_or(line))?;
        }
        Ok(used)
    }

    fn begin_chunk(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size).map_err(|_| Malformed::BadChunk)?;
        let size = size.trim_end_matches([' ', '\t']);
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Malformed::BadChunk);
        }
        let size = u64::from_str_radix(size, 16).map_err(|_| Malformed::TooLarge)?;
        let room = self.limit.saturating_sub(self.body.len()) as u64;
        if !self.is_skipping() && size > room {
            return Err(Malformed::TooLarge);
        }
        self.state = if size == 0 { State::Trailers(0) } else { State::Chunk(size) };
        Ok(())
    }
}

/// Where the blank line after a head ends. Lines end in CRLF, or in LF alone.
fn head_end(bytes: &[u8], searched: usize) -> Option<usize> {
    let mut rest = bytes.get(searched..)?;
    let mut at = searched;
    while let Some(found) = rest.iter().position(|byte| *byte == b'\n') {
        at += found + 1;
        rest = rest.get(found + 1..)?;
        let blank = [&b"\r\n"[..], b"\n"].into_iter().find(|blank| rest.starts_with(blank));
        if let Some(blank) = blank {
            return Some(at + blank.len());
        }
    }
    None
}

fn parse_head(bytes: &[u8]) -> Result<Head, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        // Both of us must see the end of the head in the same place.
        Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
        Ok(_) => return Err(Malformed::NotHttp),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::HeadTooLong),
        Err(_) => return Err(Malformed::NotHttp),
    }
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(Malformed::NotHttp);
    };
    let headers = response.headers.iter();
    let headers = headers
        .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()));
    Ok(Head { status, minor, headers: headers.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole, then byte by byte, then every truncation; all of them must agree.
    fn read(bytes: &[u8], is_closed: bool) -> Result<(u16, Vec<u8>, bool, usize), Malformed> {
        let whole = read_in(bytes, bytes.len().max(1), is_closed);
        assert_eq!(read_in(bytes, 1, is_closed), whole, "byte by byte");
        assert_eq!(read_in(bytes, 7, is_closed), whole, "seven at once");
        whole
    }

    fn read_in(
        bytes: &[u8],
        piece: usize,
        is_closed: bool,
    ) -> Result<(u16, Vec<u8>, bool, usize), Malformed> {
        let mut reader = Reader::new(10);
        let mut used = 0;
        for piece in bytes.chunks(piece) {
            used += reader.feed(piece)?;
            if reader.is_complete() {
                break;
            }
        }
        if is_closed && !reader.is_complete() {
            reader.end()?;
        }
        assert!(reader.is_complete());
        let is_reusable = reader.is_reusable();
        let (head, body) = reader.into_parts();
        Ok((head.status, body, is_reusable, used))
    }

    #[track_caller]
    fn good(text: &str, status: u16, body: &str, is_reusable: bool) {
        let is_closed = !is_reusable;
        let expected = Ok((status, body.as_bytes().to_vec(), is_reusable, text.len()));
        assert_eq!(read(text.as_bytes(), is_closed), expected, "{text:?}");
    }

    #[track_caller]
    fn bad(text: &str, why: Malformed) {
        assert_eq!(read(text.as_bytes(), true), Err(why), "{:?}", text.get(..80).unwrap_or(text));
    }

    #[test]
    fn every_way_to_end_a_body_is_understood() {
        good("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true);
        good("HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", 200, "", true);
        good("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", true);
        good("HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", 200, "hi", true);
        good("HTTP/1.1 200 OK\r\n\r\nhello", 200, "hello", false);
        good("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", false);
        good(
            "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi",
            200,
            "hi",
            true,
        );
        good(
            "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n",
            200,
            "",
            false,
        );
        good("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true);
        good("HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", 204, "", true);
        good("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, "", true);
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n";
        good(&format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"), 200, "x", true);
    }

    #[test]
    fn chunks_are_joined_and_trailers_dropped() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        good(&format!("{head}3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), 200, "abcde", true);
        good(&format!("{head}0\r\nX: y\r\nZ: 1\r\n\r\n"), 200, "", true);
        good(&format!("{head}00A \r\n0123456789\r\n0\r\n\r\n"), 200, "0123456789", true);
        good(&format!("{head}1\na\n0\n\n"), 200, "a", true);
        bad(&format!("{head}x\r\n"), Malformed::BadChunk);
        bad(&format!("{head}\r\n"), Malformed::BadChunk);
        bad(&format!("{head}-1\r\n"), Malformed::BadChunk);
        bad(&format!("{head}1\r\nabc\r\n"), Malformed::BadChunk);
        bad(&format!("{head}B\r\n"), Malformed::TooLarge);
        bad(&format!("{head}a\r\n0123456789\r\n1\r\n"), Malformed::TooLarge);
        bad(&format!("{head}ffffffffffffffff\r\n"), Malformed::TooLarge);
        bad(&format!("{head}10000000000000000\r\n"), Malformed::TooLarge);
        bad(&format!("{head}1;{}\r\n", "x".repeat(LINE_MAX)), Malformed::BadChunk);
        bad(
            &format!("{head}0\r\n{}", "X: y\r\n".repeat(TRAILERS_MAX / 6 + 1)),
            Malformed::BadChunk,
        );
    }

    #[test]
    fn what_follows_an_answer_is_left_alone() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 404 X\r\n\r\n";
        assert_eq!(read(bytes, false), Ok((200, b"hi".to_vec(), true, 40)));
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/";
        assert_eq!(read(bytes, false), Ok((200, Vec::new(), true, 52)));
    }

    #[test]
    fn lengths_that_contradict_are_refused() {
        for length in [
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 2\r\ncontent-length: 2",
            "Content-Length: 2, 2",
            "Content-Length: +2",
            "Content-Length: -2",
            "Content-Length:",
            "Content-Length: 0x2",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity",
        ] {
            bad(&format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\nhi"), Malformed::BadFraming);
            let (status, body, is_reusable, _) =
                read(format!("HTTP/1.1 500 Oops\r\n{length}\r\n\r\n").as_bytes(), true).unwrap();
            assert_eq!((status, body.len(), is_reusable), (500, 0, false), "status decides");
        }
        bad(
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Malformed::BadFraming,
        );
        let both = "Content-Length: 9\r\nTransfer-Encoding: chunked";
        good(&format!("HTTP/1.1 200 OK\r\n{both}\r\n\r\n1\r\na\r\n0\r\n\r\n"), 200, "a", false);
    }

    #[test]
    fn bodies_stop_at_their_limit() {
        good("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789", 200, "0123456789", true);
        bad("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n", Malformed::TooLarge);
        bad("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n", Malformed::TooLarge);
        bad("HTTP/1.1 200 OK\r\n\r\n01234567890", Malformed::TooLarge);
    }

    #[test]
    fn error_pages_are_skipped_whatever_they_are() {
        let page = "x".repeat(100);
        good(&format!("HTTP/1.1 404 No\r\nContent-Length: 100\r\n\r\n{page}"), 404, "", true);
        good(
            &format!(
                "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{page}\r\n0\r\n\r\n"
            ),
            404,
            "",
            true,
        );
        let (status, ..) =
            read(b"HTTP/1.1 404 No\r\nContent-Length: 100\r\n\r\nshort", true).unwrap();
        assert_eq!(status, 404);
        let mut reader = Reader::new(10);
        reader.feed(b"HTTP/1.1 500 No\r\n\r\n").unwrap();
        for _ in 0..SKIP_MAX / 1000 + 1 {
            reader.feed(&[b'x'; 1000]).unwrap();
        }
        assert!(reader.is_complete() && !reader.is_reusable());
    }

    #[test]
    fn what_is_no_http_is_told_from_the_first_byte_on() {
        bad("SSH-2.0-OpenSSH\r\n", Malformed::NotHttp);
        bad("S", Malformed::NotHttp);
        bad("HTTP/2 200\r\n\r\n", Malformed::NotHttp);
        bad("HTTP/1.1 20x\r\n\r\n", Malformed::NotHttp);
        bad("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Malformed::NotHttp);
        bad("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", Malformed::NotHttp);
        bad("HTTP/1.1 101 Switch\r\n\r\n", Malformed::HeadTooLong);
        bad(&"HTTP/1.1 100 Go on\r\n\r\n".repeat(INTERIM_MAX + 1), Malformed::HeadTooLong);
        let many = "A: b\r\n".repeat(HEADERS_MAX + 1);
        bad(&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), Malformed::HeadTooLong);
        bad(&format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD_MAX)), Malformed::HeadTooLong);
    }

    #[test]
    fn no_truncation_is_taken_for_the_whole() {
        let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n";
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            format!("HTTP/1.1 200 OK\r\n{chunked}"),
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ] {
            bad("", Malformed::Nothing);
            for end in 1..text.len() {
                assert_eq!(read(&text.as_bytes()[..end], true), Err(Malformed::Truncated), "{end}");
            }
        }
    }
}

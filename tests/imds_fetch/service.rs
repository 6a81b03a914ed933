//! A service on the loopback interface that says what a script says.

use super::*;

/// What the service does with one request.
#[derive(Clone)]
pub(super) enum Act {
    /// Sends these bytes and listens for the next request.
    Send(Vec<u8>),
    /// Sends these bytes and closes.
    Last(Vec<u8>),
    /// Sends these bytes and resets the connection.
    Reset(Vec<u8>),
    /// Sends these bytes, then nothing more for as long as the client stays.
    Hang(Vec<u8>),
    /// Sends these bytes, then the others again and again without a pause.
    Flood(Vec<u8>, Vec<u8>),
}

pub(super) fn ok(body: &str) -> Act {
    Act::Send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into())
}

/// A status with a page and further headers.
pub(super) fn status(status: u16, headers: &str) -> Act {
    let page = "<html>no</html>";
    let length = page.len();
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n");
    Act::Send(format!("{head}{page}").into())
}

#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) connection: usize,
    pub(super) peer: SocketAddr,
    pub(super) text: String,
}

/// Plays its script from one request to the next, whatever the connection; the last act again and
/// again.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
}

impl Service {
    pub(super) fn start(script: impl IntoIterator<Item = Act>) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub(super) fn listen(listener: TcpListener, script: impl IntoIterator<Item = Act>) -> Self {
        let script: Vec<Act> = script.into_iter().collect();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let all = seen.clone();
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (all, script) = (all.clone(), script.clone());
                let Ok(stream) = stream else { return };
                std::thread::spawn(move || serve(stream, connection, &all, &script));
            }
        });
        Self { address, seen }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint {
            data_url: Some(format!("http://{}/latest", self.address)),
            ..Endpoint::default()
        }
    }

    pub(super) fn with_token(&self) -> Endpoint {
        Endpoint {
            token_url: Some(format!("http://{}/latest/api/token", self.address)),
            token_header_name: Some("X-Token".into()),
            refresh_header_name: Some("X-Ttl".into()),
            ..self.endpoint()
        }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The request lines without the version.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |seen: Seen| seen.text.lines().next().unwrap().replace(" HTTP/1.1", "");
        self.seen().into_iter().map(line).collect()
    }
}

pub(super) fn serve(
    mut stream: TcpStream,
    connection: usize,
    all: &Mutex<Vec<Seen>>,
    script: &[Act],
) {
    let peer = stream.peer_addr().unwrap();
    stream.set_nodelay(true).unwrap();
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let act = {
            let mut all = all.lock().unwrap();
            let at = all.len().min(script.len() - 1);
            all.push(Seen { connection, peer, text: String::from_utf8(head).unwrap() });
            script[at].clone()
        };
        match act {
            Act::Send(bytes) => stream.write_all(&bytes).unwrap_or_default(),
            Act::Last(bytes) => {
                let _ = stream.write_all(&bytes);
                return;
            }
            Act::Reset(bytes) => {
                let _ = stream.write_all(&bytes);
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                return;
            }
            Act::Hang(bytes) => {
                let _ = stream.write_all(&bytes);
                let _ = stream.read(&mut [0; 1]);
                return;
            }
            Act::Flood(head, bytes) => {
                let _ = stream.write_all(&head);
                while stream.write_all(&bytes).is_ok() {}
                return;
            }
        }
    }
}

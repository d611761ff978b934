//! The opening handshake of RFC 6455, server side.

use base64::{Engine, engine::general_purpose::STANDARD};
use pushmesh_protocol::frame::Encoding;
use sha1::{Digest, Sha1};

/// Largest request, in bytes.
pub const REQUEST_MAX_BYTES: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a request is held against.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The path that is served.
    pub path: String,
    /// Origins that browsers may come from, as they write them; `*` allows all.
    pub origins: Vec<String>,
    /// Whether a request without Origin (no browser) is welcome.
    pub without_origin: bool,
}

/// A request that may become a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade {
    pub encoding: Encoding,
    pub response: Vec<u8>,
    /// Bytes of the request; what lies behind them is the client's first frame.
    pub taken: usize,
}

/// A request that may not, and the HTTP answer that says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub reason: String,
}

impl Refusal {
    fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }

    /// The whole HTTP response.
    pub fn response(&self) -> Vec<u8> {
        let (phrase, extra) = match self.status {
            403 => ("Forbidden", ""),
            404 => ("Not Found", ""),
            405 => ("Method Not Allowed", "Allow: GET\r\n"),
            426 => ("Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
            431 => ("Request Header Fields Too Large", ""),
            _ => ("Bad Request", ""),
        };
        format!(
            "HTTP/1.1 {} {phrase}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n{extra}\r\n{}\n",
            self.status,
            self.reason.len() + 1,
            self.reason
        )
        .into_bytes()
    }
}

/// Reads a request. `None`: more bytes are needed.
pub fn read(buf: &[u8], policy: &Policy) -> Result<Option<Upgrade>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let too_large = || Refusal::new(431, format!("the request's headers pass the limit of {REQUEST_MAX_BYTES} bytes"));
    let taken = match request.parse(buf) {
        Ok(httparse::Status::Complete(taken)) if taken > REQUEST_MAX_BYTES => return Err(too_large()),
        Ok(httparse::Status::Complete(taken)) => taken,
        Ok(httparse::Status::Partial) if buf.len() >= REQUEST_MAX_BYTES => return Err(too_large()),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, format!("more than {HEADERS_MAX} headers")));
        }
        Err(error) => return Err(Refusal::new(400, format!("malformed request: {error}"))),
    };
    check_target(&request, policy)?;
    check_origin(request.headers, policy)?;
    let key = check_upgrade(request.headers)?;
    let encoding = choose(request.headers)?;
    Ok(Some(Upgrade { encoding, response: switch(key, encoding), taken }))
}

fn check_target(request: &httparse::Request<'_, '_>, policy: &Policy) -> Result<(), Refusal> {
    if request.method != Some("GET") {
        return Err(Refusal::new(405, "a WebSocket begins with GET"));
    }
    if request.version != Some(1) {
        return Err(Refusal::new(400, "a WebSocket begins with HTTP/1.1"));
    }
    let target = request.path.unwrap_or_default();
    // A token in a URL ends in logs and histories. The answer must not repeat it.
    if target.contains('?') {
        return Err(Refusal::new(400, "the URL may have no query: the token belongs into the LOGIN frame"));
    }
    if target != policy.path {
        return Err(Refusal::new(404, format!("the WebSocket is at {}", policy.path)));
    }
    Ok(())
}

fn check_origin(headers: &[httparse::Header<'_>], policy: &Policy) -> Result<(), Refusal> {
    let mut origins = values(headers, "origin");
    let allowed = match (origins.next(), origins.next()) {
        (None, _) if policy.without_origin => return Ok(()),
        (None, _) => return Err(Refusal::new(403, "an Origin header is required")),
        // Compared as browsers write it: lower case, no trailing slash, default port left out.
        (Some(origin), None) => policy.origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin),
        (Some(_), Some(_)) => false,
    };
    if allowed { Ok(()) } else { Err(Refusal::new(403, "this Origin is not in allowed_origins")) }
}

fn check_upgrade<'a>(headers: &'a [httparse::Header<'_>]) -> Result<&'a [u8], Refusal> {
    if !values(headers, "host").any(|host| !host.is_empty()) {
        return Err(Refusal::new(400, "header Host is missing"));
    }
    if !lists(headers, "upgrade", "websocket") || !lists(headers, "connection", "upgrade") {
        return Err(Refusal::new(426, "headers Upgrade: websocket and Connection: Upgrade are required"));
    }
    if !values(headers, "sec-websocket-version").any(|version| version == b"13") {
        return Err(Refusal::new(426, "header Sec-WebSocket-Version must be 13"));
    }
    let key = values(headers, "sec-websocket-key").next().unwrap_or_default();
    match STANDARD.decode(key) {
        Ok(nonce) if nonce.len() == 16 => Ok(key),
        _ => Err(Refusal::new(400, "header Sec-WebSocket-Key must be 16 bytes in base64")),
    }
}

// The client's first choice that we know.
fn choose(headers: &[httparse::Header<'_>]) -> Result<Encoding, Refusal> {
    items(headers, "sec-websocket-protocol")
        .find_map(|name| std::str::from_utf8(name).ok().and_then(Encoding::from_subprotocol))
        .ok_or_else(|| {
            let [pack, json] = [Encoding::MessagePack, Encoding::Json].map(Encoding::subprotocol);
            Refusal::new(400, format!("header Sec-WebSocket-Protocol must offer {pack} or {json}"))
        })
}

fn switch(key: &[u8], encoding: Encoding) -> Vec<u8> {
    let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
        encoding.subprotocol()
    )
    .into_bytes()
}

fn values<'a>(headers: &'a [httparse::Header<'_>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.trim_ascii())
}

fn items<'a>(headers: &'a [httparse::Header<'_>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    values(headers, name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn lists(headers: &[httparse::Header<'_>], name: &'static str, wanted: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: chat, pushmesh.v1.json\r\n\r\n";

    fn policy() -> Policy {
        Policy { path: "/".into(), origins: vec!["https://app.example".into()], without_origin: true }
    }

    fn with(header: &str) -> String {
        REQUEST.replace("Host: a\r\n", &format!("Host: a\r\n{header}\r\n"))
    }

    fn status(request: &str) -> u16 {
        match read(request.as_bytes(), &policy()) {
            Ok(Some(_)) => 101,
            Ok(None) => 0,
            Err(refusal) => refusal.status,
        }
    }

    #[test]
    fn the_rfcs_own_key_has_the_rfcs_own_answer() {
        let upgrade = read(format!("{REQUEST}rest").as_bytes(), &policy()).unwrap().unwrap();
        assert_eq!((upgrade.encoding, upgrade.taken), (Encoding::Json, REQUEST.len()));
        let response = String::from_utf8(upgrade.response).unwrap();
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
        assert!(response.contains("Sec-WebSocket-Protocol: pushmesh.v1.json\r\n"));
    }

    #[test]
    fn a_request_cut_anywhere_waits_for_its_rest() {
        for cut in 0..REQUEST.len() {
            assert_eq!(status(&REQUEST[..cut]), 0, "cut at {cut}");
        }
    }

    #[test]
    fn origins_match_exactly_or_not_at_all() {
        assert_eq!(status(&with("Origin: https://app.example")), 101);
        for origin in [
            "null",
            "https://app.example.evil.test",
            "https://evil.test/https://app.example",
            "http://app.example",
            "https://app.example:8443",
            "https://APP.example",
            "https://app.example/",
            "",
        ] {
            assert_eq!(status(&with(&format!("Origin: {origin}"))), 403, "{origin}");
        }
        assert_eq!(status(&with("Origin: https://app.example\r\nOrigin: null")), 403);
        let browsers_only = Policy { without_origin: false, ..policy() };
        assert_eq!(read(REQUEST.as_bytes(), &browsers_only).unwrap_err().status, 403);
    }

    #[test]
    fn what_is_no_upgrade_is_answered_in_http() {
        for (from, to, expected) in [
            ("GET /", "POST /", 405),
            ("GET / ", "GET /?token=canary ", 400),
            ("GET / ", "GET /other ", 404),
            ("HTTP/1.1", "HTTP/1.0", 400),
            ("Version: 13", "Version: 8", 426),
            ("Upgrade: WebSocket", "Upgrade: h2c", 426),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
            ("pushmesh.v1.json", "pushmesh.v9.json", 400),
            ("Host: a\r\n", "", 400),
            ("Host: a", "Ho st: a", 400),
        ] {
            assert_eq!(status(&REQUEST.replacen(from, to, 1)), expected, "{from} -> {to}");
        }
        assert_eq!(status(&with(&format!("X: {}", "x".repeat(9000)))), 431);
        assert_eq!(status(&with(&"A: b\r\n".repeat(100))[..]), 431);
        let refusal = read(REQUEST.replacen("/ ", "/?token=canary ", 1).as_bytes(), &policy()).unwrap_err();
        assert!(!String::from_utf8(refusal.response()).unwrap().contains("canary"));
    }

    proptest! {
        #[test]
        fn flipped_bytes_never_panic(at in 0..REQUEST.len(), byte: u8) {
            let mut request = REQUEST.as_bytes().to_vec();
            request[at] = byte;
            let _ = read(&request, &policy());
        }
    }
}

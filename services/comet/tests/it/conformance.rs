//! The WebSocket's framing, by hand: what RFC 6455 allows is answered, what it forbids is closed with the code that
//! `docs/protocol.md` names. The cases are those of the usual conformance suites that a server without extensions has.

use std::ops::RangeInclusive;

use pushmesh_protocol::frame::{App, AppBody, ClientFrame, Encoding, Error, ErrorCode, Ping, Pong, ServerFrame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::*;

const BOTH: [Encoding; 2] = [Encoding::MessagePack, Encoding::Json];
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = FIN | 8;
const PING: u8 = FIN | 9;
const PONG: u8 = FIN | 10;

/// One thing that the comet says.
#[derive(Debug, PartialEq)]
enum Said {
    Frame(ServerFrame),
    Pong(Vec<u8>),
    Close(u16),
    End,
}

/// A client that frames by hand.
struct Raw {
    stream: TcpStream,
    encoding: Encoding,
}

impl Raw {
    async fn login(comet: &Comet, encoding: Encoding) -> Self {
        Self::of(Ws::login(comet, encoding, "user:ann").await.0, encoding)
    }

    async fn newcomer(comet: &Comet, encoding: Encoding) -> Self {
        Self::of(Ws::connect(comet, encoding).await, encoding)
    }

    fn of(client: Ws, encoding: Encoding) -> Self {
        let tokio_tungstenite::MaybeTlsStream::Plain(stream) = client.socket.into_inner() else { panic!("plain") };
        stream.set_nodelay(true).unwrap();
        Self { stream, encoding }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// In single bytes; what is long, in larger pieces that meet no boundary.
    async fn write_chopped(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(if bytes.len() > 4096 { 997 } else { 1 }) {
            self.write(piece).await;
            tokio::task::yield_now().await;
        }
    }

    async fn said(&mut self) -> Said {
        let said = async {
            let Ok(first) = self.stream.read_u8().await else { return Said::End };
            assert_eq!(first & 0xf0, FIN, "whole frames without reserved bits");
            let length = match self.stream.read_u8().await.unwrap() {
                126 => usize::from(self.stream.read_u16().await.unwrap()),
                127 => self.stream.read_u64().await.unwrap() as usize,
                short => usize::from(short),
            };
            assert!(length < 1 << 20, "unmasked, and no nonsense");
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await.unwrap();
            match (first, self.encoding) {
                (PONG, _) => Said::Pong(payload),
                (CLOSE, _) => Said::Close(u16::from_be_bytes(*payload.first_chunk().expect("a code"))),
                (0x82, Encoding::MessagePack) | (0x81, Encoding::Json) => {
                    Said::Frame(ServerFrame::decode(self.encoding, &payload).unwrap())
                }
                _ => panic!("{first:x} says nothing to {:?}", self.encoding),
            }
        };
        tokio::time::timeout(SOON, said).await.expect("a word in time")
    }

    /// The comet goes on: it says this, and then answers a PING.
    async fn expect(&mut self, name: &str, expected: Vec<Said>) {
        for said in expected {
            assert_eq!(self.said().await, said, "{name}");
        }
        let ping = message(self.encoding, &ClientFrame::Ping(Ping {}));
        self.write(&ping).await;
        assert_eq!(self.said().await, Said::Frame(ServerFrame::Pong(Pong {})), "{name}: the connection goes on");
    }

    /// The comet says what is wrong, and closes.
    async fn expect_close(&mut self, name: &str, code: u16) {
        let expected = if code == 1009 { ErrorCode::TooLarge } else { ErrorCode::BadFrame };
        match self.said().await {
            Said::Frame(ServerFrame::Error(Error { error, field: Some(_), .. })) if error == expected => {}
            other => panic!("{name}: no {expected:?} but {other:?}"),
        }
        assert_eq!(self.said().await, Said::Close(code), "{name}");
        assert_eq!(self.said().await, Said::End, "{name}");
    }
}

fn opcode(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::MessagePack => BINARY,
        Encoding::Json => TEXT,
    }
}

/// One whole message.
fn message(encoding: Encoding, frame: &ClientFrame) -> Vec<u8> {
    masked(FIN | opcode(encoding), &frame.encode(encoding))
}

/// A message in fragments, with something between each two.
fn fragments(first: u8, pieces: &[&[u8]], between: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let opcode = if number == 0 { first } else { CONTINUATION };
        let fin = if number + 1 == pieces.len() { FIN } else { 0 };
        bytes.extend(masked(fin | opcode, piece));
        if fin == 0 {
            bytes.extend_from_slice(between);
        }
    }
    bytes
}

/// A frame whose length is written in so many bytes, whether it needs them or not.
fn long(first: u8, length_bytes: usize, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_be_bytes();
    let marker = if length_bytes == 2 { 126 } else { 127 };
    // The mask of zeros changes nothing.
    [&[first, FIN | marker], &length[8 - length_bytes..], &[0; 4], payload].concat()
}

/// An application's frame that has exactly so many bytes.
fn app(encoding: Encoding, bytes: usize) -> Vec<u8> {
    let sized = |data: usize| {
        let data = "x".repeat(data).as_str().into();
        ClientFrame::App(App { code: 1000, body: AppBody { re: Some(1), data } }).encode(encoding)
    };
    let data = (0..bytes).rev().find(|data| sized(*data).len() <= bytes).unwrap();
    let frame = sized(data);
    assert_eq!(frame.len(), bytes, "this size can be had");
    frame
}

#[tokio::test]
async fn what_the_rfc_allows_is_answered_whole_and_in_single_bytes() {
    let comet = Comet::start(config());
    let pong = || Said::Frame(ServerFrame::Pong(Pong {}));
    for encoding in BOTH {
        let ping = ClientFrame::Ping(Ping {}).encode(encoding);
        let letters: Vec<_> = ping.iter().map(std::slice::from_ref).collect();
        let spread: Vec<_> = letters.iter().flat_map(|letter| [*letter, &[]]).collect();
        let first = opcode(encoding);
        let now = || Said::Pong(b"now".to_vec());
        let mut zero = long(FIN | first, 2, &ping);
        zero.splice(1..4, [FIN | ping.len() as u8]);
        let cases: Vec<(&str, Vec<u8>, Vec<Said>)> = vec![
            ("an empty ping", masked(PING, b""), vec![Said::Pong(vec![])]),
            ("a ping", masked(PING, b"now"), vec![now()]),
            ("the longest ping", masked(PING, &[0xfe; 125]), vec![Said::Pong(vec![0xfe; 125])]),
            (
                "ten pings at once",
                (0..10).flat_map(|number| masked(PING, &[number])).collect(),
                (0..10).map(|number| Said::Pong(vec![number])).collect(),
            ),
            ("pongs that nobody asked for", [masked(PONG, b""), masked(PONG, &[1; 125])].concat(), vec![]),
            ("a message", masked(FIN | first, &ping), vec![pong()]),
            ("a mask of zeros", zero, vec![pong()]),
            ("two messages at once", masked(FIN | first, &ping).repeat(2), vec![pong(), pong()]),
            ("two fragments", fragments(first, &[&ping[..2], &ping[2..]], b""), vec![pong()]),
            ("a fragment a byte", fragments(first, &letters, b""), vec![pong()]),
            ("empty fragments", fragments(first, &spread, b""), vec![pong()]),
            ("an empty first fragment", fragments(first, &[b"", &ping], b""), vec![pong()]),
            (
                "pings between fragments",
                fragments(first, &[&ping[..1], &ping[1..2], &ping[2..]], &masked(PING, b"now")),
                vec![now(), now(), pong()],
            ),
            (
                "pongs between fragments",
                fragments(first, &[&ping[..1], &ping[1..]], &masked(PONG, b"now")),
                vec![pong()],
            ),
        ];
        let mut client = Raw::login(&comet, encoding).await;
        for (name, bytes, said) in cases {
            client.write(&bytes).await;
            client.expect(name, said).await;
        }
        // The same in single bytes.
        let chopped = [masked(PING, &[7; 125]), fragments(first, &letters, &masked(PING, b"now"))].concat();
        client.write_chopped(&chopped).await;
        let pings = std::iter::repeat_with(now).take(letters.len() - 1);
        client
            .expect("in single bytes", [Said::Pong(vec![7; 125])].into_iter().chain(pings).chain([pong()]).collect())
            .await;
    }
}

#[tokio::test]
async fn lengths_are_read_in_all_three_forms_up_to_the_limit() {
    let comet = Comet::start(config());
    for encoding in BOTH {
        let first = FIN | opcode(encoding);
        for size in [125, 126, 127, 128, 65_535, 65_536] {
            let mut client = Raw::login(&comet, encoding).await;
            client.write(&masked(first, &app(encoding, size))).await;
            comet.until(&format!("{size} bytes at once"), |seen| seen.questions.pop()).await;
            client.write_chopped(&masked(first, &app(encoding, size))).await;
            comet.until(&format!("{size} bytes in pieces"), |seen| seen.questions.pop()).await;
            let whole = app(encoding, size);
            let (begin, end) = whole.split_at(size / 2);
            client.write(&fragments(opcode(encoding), &[begin, end], b"")).await;
            comet.until(&format!("{size} bytes in fragments"), |seen| seen.questions.pop()).await;
            client.expect("all of them", vec![]).await;
        }
    }
}

#[tokio::test]
async fn an_empty_message_is_no_frame_and_no_breach_of_the_framing() {
    let comet = Comet::start(config());
    for encoding in BOTH {
        let mut client = Raw::login(&comet, encoding).await;
        let first = opcode(encoding);
        for bytes in [masked(FIN | first, b""), fragments(first, &[b"", b"", b""], b"")] {
            client.write(&bytes).await;
            match client.said().await {
                Said::Frame(ServerFrame::Error(error)) => assert_eq!(error.error, ErrorCode::BadFrame),
                other => panic!("no ERROR but {other:?}"),
            }
            client.expect("an empty message", vec![]).await;
        }
    }
}

#[tokio::test]
async fn what_breaks_the_framing_is_told_and_closed_with_its_code() {
    let comet = Comet::start(config());
    for encoding in BOTH {
        let first = opcode(encoding);
        let ping = ClientFrame::Ping(Ping {}).encode(encoding);
        let begun = masked(first, &ping[..1]);
        let other = if first == TEXT { BINARY } else { TEXT };
        let mut cases: Vec<(String, Vec<u8>, u16)> = Vec::new();
        for bit in [0x40, 0x20, 0x10] {
            for frame in [FIN | first, PING, PONG, CLOSE] {
                cases.push((format!("reserved bit {bit:x} of {frame:x}"), masked(frame | bit, &ping), 1002));
            }
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            cases.push((format!("opcode {opcode}"), masked(FIN | opcode, b""), 1002));
            let within = [&begun[..], &masked(FIN | opcode, b"x")].concat();
            cases.push((format!("opcode {opcode} between fragments"), within, 1002));
        }
        for frame in [FIN | first, PING, CLOSE] {
            cases.push((format!("{frame:x} without mask"), vec![frame, 1, b'x'], 1002));
        }
        for frame in [PING, PONG, CLOSE] {
            cases.push((format!("{frame:x} in fragments"), masked(frame & !FIN, b""), 1002));
            cases.push((format!("{frame:x} of 126 bytes"), masked(frame, &[0; 126]), 1002));
            cases.push((format!("{frame:x} of 65,536 bytes"), masked(frame, &[0; 65_536]), 1002));
            cases.push((format!("{frame:x} with its length in 2 bytes"), long(frame, 2, &[3, 232]), 1002));
        }
        for (size, length_bytes) in [(0, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65_535, 8)] {
            let bytes = long(FIN | first, length_bytes, &vec![b' '; size]);
            cases.push((format!("{size} in {length_bytes} bytes"), bytes, 1002));
        }
        let whole = masked(FIN | first, &ping);
        for (name, bytes, code) in [
            ("a last fragment without a first", masked(FIN, &ping), 1002),
            ("a fragment without a first", masked(CONTINUATION, &ping), 1002),
            ("a fragment after a whole message", [&masked(FIN | PONG, b""), &masked(FIN, b"")[..]].concat(), 1002),
            ("a message between fragments", [&begun[..], &whole].concat(), 1002),
            ("a beginning between fragments", [&begun[..], &begun].concat(), 1002),
            ("the other kind of message", masked(FIN | other, &ping), 1003),
            ("a fragment of the other kind", masked(other, &ping), 1003),
            ("one byte too many", masked(FIN | first, &vec![b' '; 65_537]), 1009),
            ("one fragment too many", fragments(first, &[&[b' '; 40_000], &[b' '; 25_537]], b""), 1009),
            ("2^62 bytes", vec![FIN | first, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
            ("2^63 bytes", vec![FIN | first, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
            ("a close of one byte", masked(CLOSE, &[3]), 1002),
            ("a close whose reason is no text", masked(CLOSE, &[3, 232, 0xff]), 1007),
            ("a close whose reason ends early", masked(CLOSE, b"\x03\xe8gr\xc3"), 1007),
        ] {
            cases.push((name.to_owned(), bytes, code));
        }
        for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
            cases.push((format!("close code {code}"), masked(CLOSE, &code.to_be_bytes()), 1002));
        }
        for (name, bytes, code) in cases {
            let mut client = Raw::login(&comet, encoding).await;
            // What comes behind is not looked at any more.
            client.write(&[&bytes[..], &masked(PING, b"late")].concat()).await;
            client.expect_close(&name, code).await;
        }
    }
}

#[tokio::test]
async fn text_is_utf_8_wherever_it_is_cut() {
    let comet = Comet::start(config());
    // Whole, and then with each of these where the letters were.
    let text = |letters: &[u8]| [&b"[\"CALLS\",{\"re\":1,\"x\":\""[..], letters, b"\"}]"].concat();
    let good = "κόσμε \u{10ffff}\u{d7ff}\u{e000}\u{fffd}".as_bytes();
    for step in [1, 2, 3, 7] {
        let whole = text(good);
        let pieces: Vec<_> = whole.chunks(step).collect();
        let mut client = Raw::login(&comet, Encoding::Json).await;
        client.write(&fragments(TEXT, &pieces, &masked(PING, b"?"))).await;
        client.expect("cut text", (1..pieces.len()).map(|_| Said::Pong(b"?".to_vec())).collect()).await;
        comet.until("the question", |seen| seen.questions.pop()).await;
    }
    let bad: [&[u8]; 11] = [
        b"\x80",
        b"\xbf",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80",
        b"\xf0\x80\x80\xaf",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xff",
        "κόσμ\u{3b5}".as_bytes().split_last().unwrap().1,
    ];
    for letters in bad {
        let whole = text(letters);
        let (begin, end) = whole.split_at(24);
        for bytes in [masked(FIN | TEXT, &whole), fragments(TEXT, &[begin, end], &masked(PONG, b""))] {
            let mut client = Raw::login(&comet, Encoding::Json).await;
            client.write(&bytes).await;
            client.expect_close(&format!("{letters:x?}"), 1007).await;
        }
    }
}

#[tokio::test]
async fn a_close_is_answered_with_its_code_and_nothing_after_it_is() {
    const SENDABLE: [RangeInclusive<u16>; 3] = [1000..=1003, 1007..=1014, 3000..=3001];
    let comet = Comet::start(config());
    for encoding in BOTH {
        let late = message(encoding, &ClientFrame::Ping(Ping {}));
        let codes = SENDABLE.into_iter().flatten().chain([3999, 4000, 4999]);
        let mut cases: Vec<_> = codes.map(|code| (code.to_be_bytes().to_vec(), code)).collect();
        cases.push((vec![], 1000));
        cases.push(([&[3, 232][..], "ü".repeat(61).as_bytes()].concat(), 1000));
        for (payload, code) in cases {
            let mut client = Raw::login(&comet, encoding).await;
            client.write(&[&masked(CLOSE, &payload)[..], &masked(PING, b""), &late].concat()).await;
            assert_eq!(client.said().await, Said::Close(code), "{payload:x?}");
            assert_eq!(client.said().await, Said::End, "{payload:x?}");
        }
        // Between fragments it closes too.
        let mut client = Raw::login(&comet, encoding).await;
        client.write(&[masked(opcode(encoding), b"["), masked(CLOSE, &[3, 232])].concat()).await;
        assert_eq!((client.said().await, client.said().await), (Said::Close(1000), Said::End));
    }
}

#[tokio::test]
async fn the_same_holds_before_a_login() {
    let comet = Comet::start(config());
    let cases = [
        ("a reserved bit", masked(0xc1, b"x"), 1002),
        ("no mask", vec![0x81, 1, b'x'], 1002),
        ("a fragment without a first", masked(FIN, b"x"), 1002),
        ("the other kind of message", masked(FIN | BINARY, b"x"), 1003),
        ("no text", masked(FIN | TEXT, b"\xff"), 1007),
        ("one byte too many", masked(FIN | TEXT, &[b' '; 4097]), 1009),
        ("one fragment too many", fragments(TEXT, &[&[b' '; 4096], b" "], b""), 1009),
    ];
    for (name, bytes, code) in cases {
        let mut client = Raw::newcomer(&comet, Encoding::Json).await;
        client.write(&bytes).await;
        client.expect_close(name, code).await;
    }
    let mut client = Raw::newcomer(&comet, Encoding::Json).await;
    client.write(&masked(PING, b"now")).await;
    assert_eq!(client.said().await, Said::Pong(b"now".to_vec()));
    client.write(&masked(FIN | TEXT, b"")).await;
    assert!(matches!(client.said().await, Said::Frame(ServerFrame::Error(_))));
    assert_eq!((client.said().await, client.said().await), (Said::Close(4009), Said::End));
    let mut client = Raw::newcomer(&comet, Encoding::Json).await;
    client.write(&masked(CLOSE, &[0x0f, 0xa0])).await;
    assert_eq!((client.said().await, client.said().await), (Said::Close(4000), Said::End));
}

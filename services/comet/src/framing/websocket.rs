//! The server's side of RFC 6455 framing, without extensions.

use std::borrow::Cow;

use super::{Input, Violation};

/// Longest payload of a control frame, in bytes.
const CONTROL_MAX: usize = 125;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => return Err(Violation::Opcode(other)),
        })
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binary => "binary",
            _ => "control",
        }
    }
}

/// A message whose last fragment has not come yet.
#[derive(Debug, Default)]
pub struct Assembly {
    data: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct Header {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    /// Bytes before the payload.
    size: usize,
    payload: usize,
}

/// Frames one unfragmented, unmasked message.
pub fn write(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + payload.len());
    out.push(0x80 | opcode as u8);
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

/// A close frame; a reason that doesn't fit is cut at a character.
pub fn write_close(code: u16, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(CONTROL_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    write(Opcode::Close, &payload)
}

/// Reads the first frame of `buf`. `kind` is the only kind of data message that the subprotocol has.
pub fn read<'a>(
    buf: &'a mut [u8],
    assembly: &mut Option<Box<Assembly>>,
    max: usize,
    kind: Opcode,
) -> Result<Option<(usize, Input<'a>)>, Violation> {
    let Some(header) = header(buf)? else { return Ok(None) };
    if header.opcode.is_control() {
        return whole(buf, &header)
            .map(|payload| control(header.opcode, payload))
            .transpose()
            .map(|input| input.map(|input| (header.size + header.payload, input)));
    }
    let begun = assembly.as_ref().map_or(0, |assembly| assembly.data.len());
    match (header.opcode, assembly.is_some()) {
        (Opcode::Continuation, false) => return Err(Violation::StrayContinuation),
        (Opcode::Continuation, true) => {}
        (_, true) => return Err(Violation::Interleaved),
        (opcode, false) if opcode != kind => return Err(Violation::WrongKind(opcode.name())),
        (_, false) => {}
    }
    if begun + header.payload > max {
        return Err(Violation::TooLarge((begun + header.payload) as u64, max));
    }
    let taken = header.size + header.payload;
    let Some(payload) = whole(buf, &header) else { return Ok(None) };
    if !header.fin {
        assembly.get_or_insert_default().data.extend_from_slice(payload);
        return Ok(Some((taken, Input::Fragment)));
    }
    let message = match assembly.take() {
        None => Cow::Borrowed(payload),
        Some(mut assembly) => {
            assembly.data.extend_from_slice(payload);
            Cow::Owned(assembly.data)
        }
    };
    if kind == Opcode::Text && std::str::from_utf8(&message).is_err() {
        return Err(Violation::Utf8);
    }
    Ok(Some((taken, Input::Message(message))))
}

// Checks all that can be known from the header, before its payload is waited for.
fn header(buf: &[u8]) -> Result<Option<Header>, Violation> {
    let [first, second, rest @ ..] = buf else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Violation::ReservedBits);
    }
    let (fin, opcode) = (first & 0x80 != 0, Opcode::from_bits(first & 0x0f)?);
    if second & 0x80 == 0 {
        return Err(Violation::Unmasked);
    }
    if opcode.is_control() && !fin {
        return Err(Violation::FragmentedControl);
    }
    let (extended, payload) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            None => return Ok(None),
            Some(bytes) => (2, u64::from(u16::from_be_bytes(*bytes))),
        },
        127 => match rest.first_chunk::<8>() {
            None => return Ok(None),
            Some(bytes) => (8, u64::from_be_bytes(*bytes)),
        },
        short => (0, u64::from(short)),
    };
    if opcode.is_control() && payload > CONTROL_MAX as u64 {
        return Err(Violation::LongControl(payload));
    }
    if (extended == 2 && payload < 126) || (extended == 8 && payload <= 0xffff) {
        return Err(Violation::LongLength);
    }
    // No message this mesh carries comes near: the sum of lengths can't overflow below it.
    let Ok(payload) = usize::try_from(payload.min(u64::from(u32::MAX))) else {
        return Err(Violation::TooLarge(payload, u32::MAX as usize));
    };
    let Some(mask) = rest.get(extended..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
    Ok(Some(Header { fin, opcode, mask: *mask, size: 2 + extended + 4, payload }))
}

fn whole<'a>(buf: &'a mut [u8], header: &Header) -> Option<&'a mut [u8]> {
    let payload = buf.get_mut(header.size..)?.get_mut(..header.payload)?;
    unmask(payload, header.mask);
    Some(payload)
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes((&*chunk).try_into().expect("a chunk of 8"));
        chunk.copy_from_slice(&(word ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn control(opcode: Opcode, payload: &mut [u8]) -> Result<Input<'_>, Violation> {
    match opcode {
        Opcode::Ping => Ok(Input::Ping(payload)),
        Opcode::Pong => Ok(Input::Pong),
        _ => close(payload).map(Input::Close),
    }
}

fn close(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::BadClose) };
    };
    let code = u16::from_be_bytes(*code);
    let sendable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !sendable {
        return Err(Violation::BadClose);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation::Utf8);
    }
    Ok(Some(code))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut out = write(Opcode::Binary, payload);
        let size = out.len() - payload.len();
        out[0] = first;
        out[1] |= 0x80;
        out.splice(size..size, mask);
        unmask(&mut out[size + 4..], mask);
        out
    }

    fn one(bytes: &[u8]) -> Result<Option<(usize, String)>, Violation> {
        let mut bytes = bytes.to_vec();
        let found = read(&mut bytes, &mut None, 1000, Opcode::Binary)?;
        Ok(found.map(|(taken, input)| (taken, format!("{input:?}"))))
    }

    #[test]
    fn headers_that_break_the_rfc_are_refused_before_their_payload_comes() {
        let cases: [(&[u8], Violation); 11] = [
            (&[0xc2, 0x80], Violation::ReservedBits),
            (&[0x83, 0x80], Violation::Opcode(3)),
            (&[0x82, 0x00], Violation::Unmasked),
            (&[0x09, 0x80], Violation::FragmentedControl),
            (&[0x89, 0xfe, 0, 126], Violation::LongControl(126)),
            (&[0x82, 0xfe, 0, 125], Violation::LongLength),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Violation::LongLength),
            (&[0x80, 0x81, 0, 0, 0, 0], Violation::StrayContinuation),
            (&[0x81, 0x81, 0, 0, 0, 0], Violation::WrongKind("text")),
            (&[0x82, 0xfe, 0x03, 0xe9, 0, 0, 0, 0], Violation::TooLarge(1001, 1000)),
            (&[0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Violation::TooLarge(u64::from(u32::MAX), 1000)),
        ];
        for (bytes, violation) in cases {
            assert_eq!(one(bytes), Err(violation), "{bytes:x?}");
        }
    }

    #[test]
    fn close_codes_are_checked() {
        for (payload, good) in [
            (&[][..], true),
            (&[0x03], false),
            (&[0x03, 0xe8], true),
            (&[0x03, 0xed], false),
            (&[0x0f, 0xa0, b'x'], true),
            (&[0x13, 0x88], false),
            (&[0x03, 0xe8, 0xff], false),
        ] {
            assert_eq!(one(&masked(0x88, payload, [1, 2, 3, 4])).is_ok(), good, "{payload:x?}");
        }
    }

    #[test]
    fn fragments_with_a_ping_between_make_one_message() {
        let mut bytes = [
            masked(0x01, "gr\u{fc}".as_bytes().split_at(3).0, [9, 8, 7, 6]),
            masked(0x89, b"now", [1, 1, 1, 1]),
            masked(0x00, "gr\u{fc}".as_bytes().split_at(3).1, [5, 5, 5, 5]),
            masked(0x80, b"n", [0, 0, 0, 1]),
        ]
        .concat();
        let (mut at, mut assembly, mut seen) = (0, None, Vec::new());
        while let Some((taken, input)) = read(&mut bytes[at..], &mut assembly, 100, Opcode::Text).unwrap() {
            seen.push(match input {
                Input::Message(text) => String::from_utf8(text.into_owned()).unwrap(),
                other => format!("{other:?}"),
            });
            at += taken;
        }
        assert_eq!(seen, ["Fragment", "Ping([110, 111, 119])", "Fragment", "gr\u{fc}n"]);
        assert!(assembly.is_none());
    }

    #[test]
    fn a_bomb_of_fragments_stops_at_the_limit_of_one_message() {
        let (mut assembly, chunk) = (None, masked(0x00, &[7; 90], [1, 2, 3, 4]));
        let mut first = masked(0x02, &[7; 90], [1, 2, 3, 4]);
        read(&mut first, &mut assembly, 100, Opcode::Binary).unwrap();
        assert_eq!(read(&mut chunk.clone(), &mut assembly, 100, Opcode::Binary), Err(Violation::TooLarge(180, 100)));
    }

    proptest! {
        #[test]
        fn what_arrives_in_pieces_reads_as_what_arrives_at_once(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..5),
            mask: [u8; 4], cuts in prop::collection::vec(1usize..40, 1..60),
        ) {
            let stream: Vec<u8> = payloads.iter().flat_map(|payload| masked(0x82, payload, mask)).collect();
            let (mut buf, mut assembly, mut seen, mut cuts) = (Vec::new(), None, Vec::new(), cuts.into_iter().cycle());
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                buf.extend_from_slice(piece);
                rest = later;
                while let Some((taken, input)) = read(&mut buf, &mut assembly, 1000, Opcode::Binary).unwrap() {
                    let Input::Message(message) = input else { panic!("a message") };
                    seen.push(message.into_owned());
                    buf.drain(..taken);
                }
            }
            prop_assert_eq!(seen, payloads);
        }

        #[test]
        fn no_bytes_panic_and_none_are_read_beyond_the_end(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (mut assembly, mut at) = (None, 0);
            while let Ok(Some((taken, _))) = read(&mut bytes[at..], &mut assembly, 150, Opcode::Text) {
                at += taken;
                prop_assert!(at <= bytes.len());
            }
        }
    }
}

//! Plain TCP: each MessagePack frame is preceded by its length as a big-endian `u32`.

use std::borrow::Cow;

use super::{Input, Violation};

const HEADER: usize = 4;

/// Frames one message.
pub fn write(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Reads the first message of `buf`; a declared length allocates nothing.
pub fn read(buf: &mut [u8], max: usize) -> Result<Option<(usize, Input<'_>)>, Violation> {
    let Some(header) = buf.first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes(*header) as usize;
    match length {
        0 => Err(Violation::Empty),
        _ if length > max => Err(Violation::TooLarge(length as u64, max)),
        _ if buf.len() < HEADER + length => Ok(None),
        _ => Ok(Some((HEADER + length, Input::Message(Cow::Borrowed(&buf[HEADER..HEADER + length]))))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_once_it_is_whole() {
        let mut bytes = write(b"hello");
        let total = bytes.len();
        for cut in 0..total {
            assert_eq!(read(&mut bytes[..cut], 100), Ok(None), "cut at {cut}");
        }
        bytes.extend_from_slice(b"next");
        assert_eq!(read(&mut bytes, 100), Ok(Some((total, Input::Message(b"hello"[..].into())))));
    }

    #[test]
    fn lengths_have_limits() {
        assert_eq!(read(&mut [0, 0, 0, 0], 100), Err(Violation::Empty));
        assert_eq!(read(&mut [0xff; 4], 100), Err(Violation::TooLarge(0xffff_ffff, 100)));
        assert_eq!(read(&mut [0, 0, 0, 101], 100), Err(Violation::TooLarge(101, 100)));
    }
}

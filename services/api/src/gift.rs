//! What a gift is, and how old its key may be. Pure.

use pushmesh_protocol::{GiftKey, message::Millis, room::Gift, topology::GIFT_WINDOW};
use sha2::{Digest, Sha256};

use crate::refusal::{Code, Refusal};

/// How far ahead of our clock a key may be made.
const AHEAD_MAX_MS: Millis = 60_000;

/// What the gift is, without its time and whence it came: two gifts of one key are the same if this is.
pub fn content(gift: &Gift) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // Every part behind its length, so that no two lists of parts hash alike.
        digest.update((bytes.len() as u32).to_be_bytes());
        digest.update(bytes);
    };
    // Pinned: a content that changes between versions would refuse a gift that is said again during an upgrade.
    part(b"gift.1");
    part(gift.room.as_str().as_bytes());
    part(gift.from.as_str().as_bytes());
    optional(&mut part, gift.to.as_ref().map(|to| to.as_str()));
    part(gift.gift.as_str().as_bytes());
    part(&gift.count.to_be_bytes());
    part(&gift.value.to_be_bytes());
    optional(&mut part, gift.note.as_deref());
    digest.finalize().into()
}

fn optional(part: &mut impl FnMut(&[u8]), text: Option<&str>) {
    part(&[u8::from(text.is_some())]);
    part(text.unwrap_or_default().as_bytes());
}

/// That a key is neither so old that its marker may be gone, nor made in the future.
pub fn check_key(key: &GiftKey, now: Millis) -> Result<(), Refusal> {
    let window = GIFT_WINDOW.as_millis() as Millis;
    if key.at() + window < now {
        let reason = format!("was made {} s ago; the limit is {} s", (now - key.at()) / 1000, window / 1000);
        return Err(Refusal { code: Code::KeyTooOld, ..Refusal::beyond("key", "gift_key_age", reason) });
    }
    if key.at() > now + AHEAD_MAX_MS {
        let ahead = (key.at() - now) / 1000;
        let reason = format!("is made {ahead} s in the future; the limit is {} s", AHEAD_MAX_MS / 1000);
        return Err(Refusal::beyond("key", "gift_key_ahead", reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const NOW: Millis = 1_704_067_200_000;

    fn key(at: Millis) -> GiftKey {
        let hex = format!("{at:012x}");
        GiftKey::new(&format!("{}-{}-7000-8000-000000000001", &hex[..8], &hex[8..])).unwrap()
    }

    fn gift() -> Gift {
        Gift {
            key: key(NOW),
            room: "stage".parse().unwrap(),
            from: "alice".parse().unwrap(),
            to: None,
            gift: "rose".parse().unwrap(),
            count: 1,
            value: 100,
            note: None,
            at: NOW,
            trace: None,
        }
    }

    #[test]
    fn a_key_is_good_for_an_hour_and_a_minute_ahead() {
        let hour = 3_600_000;
        for (at, code) in [
            (NOW, None),
            (NOW - hour, None),
            (NOW - hour - 1, Some(Code::KeyTooOld)),
            (NOW + 60_000, None),
            (NOW + 60_001, Some(Code::Invalid)),
            (0, Some(Code::KeyTooOld)),
            (0xffff_ffff_ffff, Some(Code::Invalid)),
        ] {
            assert_eq!(check_key(&key(at), NOW).err().map(|refusal| refusal.code), code, "{at}");
        }
    }

    #[test]
    fn every_part_but_the_time_is_content() {
        let other = |change: fn(&mut Gift)| {
            let mut gift = gift();
            change(&mut gift);
            content(&gift)
        };
        assert_eq!(content(&gift()), other(|gift| gift.at += 5));
        let all = [
            content(&gift()),
            other(|gift| gift.room = "stage2".parse().unwrap()),
            other(|gift| gift.from = "bob".parse().unwrap()),
            other(|gift| gift.to = Some("bob".parse().unwrap())),
            other(|gift| gift.gift = "rocket".parse().unwrap()),
            other(|gift| gift.count = 2),
            other(|gift| gift.value = 101),
            other(|gift| gift.note = Some(String::new())),
            other(|gift| gift.note = Some("x".into())),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        let text: String = content(&gift())[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "616c0107", "of this very gift, in every version");
    }
}

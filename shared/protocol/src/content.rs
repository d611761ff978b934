//! [`Content`]: what a stream holds of a room, as clients are told it.

use std::sync::LazyLock;

use crate::{
    frame::{Chain, RoomItem, item},
    id::{Token, UserId},
    message::Millis,
    payload::Payload,
    room::{Gift, Note, RoomEvent, RoomHappening, RoomMessage},
};

/// An item without its place: who reads the stream later makes the same of it as who told it.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    pub kind: Token,
    pub from: Option<UserId>,
    pub at: Millis,
    pub data: Payload,
}

impl Content {
    /// The item in its place.
    pub fn at(self, chain: Chain, offset: u64, prev: u64) -> RoomItem {
        let Self { kind, from, at, data } = self;
        RoomItem { chain, offset, prev, kind, from, at, data }
    }
}

impl From<&Gift> for Content {
    fn from(gift: &Gift) -> Self {
        let data = item::Gift {
            key: gift.key.as_str().to_owned(),
            gift: gift.gift.clone(),
            count: gift.count,
            value: gift.value,
            to: gift.to.clone(),
            note: gift.note.clone(),
        };
        Self { kind: GIFT.clone(), from: Some(gift.from.clone()), at: gift.at, data: item::write(&data) }
    }
}

impl From<&RoomMessage> for Content {
    fn from(RoomMessage { kind, from, at, data, .. }: &RoomMessage) -> Self {
        Self { kind: kind.clone(), from: from.clone(), at: *at, data: data.clone() }
    }
}

impl From<&RoomEvent> for Content {
    fn from(event: &RoomEvent) -> Self {
        let (kind, data) = match &event.what {
            RoomHappening::State(state) => (&*STATE, item::write(state)),
            RoomHappening::Mute { user, until, everywhere } => {
                (&*MUTE, item::write(&item::Mute { user: user.clone(), until: *until, everywhere: *everywhere }))
            }
            RoomHappening::Role { user, role } => {
                (&*ROLE, item::write(&item::RoleChange { user: user.clone(), role: *role }))
            }
            RoomHappening::Kick { user } => (&*KICK, item::write(&item::Kick { user: user.clone() })),
            RoomHappening::Message { kind, data } => (kind, data.clone()),
        };
        Self { kind: kind.clone(), from: event.by.clone(), at: event.at, data }
    }
}

impl From<&Note> for Content {
    fn from(Note { kind, from, at, data, .. }: &Note) -> Self {
        Self { kind: kind.clone(), from: from.clone(), at: *at, data: data.clone() }
    }
}

// Made once: an item is made for every gift.
static GIFT: LazyLock<Token> = LazyLock::new(|| own(item::GIFT));
static STATE: LazyLock<Token> = LazyLock::new(|| own(item::STATE));
static MUTE: LazyLock<Token> = LazyLock::new(|| own(item::MUTE));
static ROLE: LazyLock<Token> = LazyLock::new(|| own(item::ROLE));
static KICK: LazyLock<Token> = LazyLock::new(|| own(item::KICK));

fn own(kind: &str) -> Token {
    Token::new(kind).expect("the mesh's own types are tokens")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Role;

    fn text(content: &Content) -> String {
        String::from_utf8(content.data.0.to_vec()).unwrap()
    }

    #[test]
    fn a_gift_says_what_it_is_and_stands_in_its_place() {
        let gift = Gift {
            key: "018cc251-f400-7000-8000-000000000001".parse().unwrap(),
            room: "stage".parse().unwrap(),
            from: "alice".parse().unwrap(),
            to: None,
            gift: "rose".parse().unwrap(),
            count: 2,
            value: 200,
            note: Some("for you".into()),
            at: 5,
            trace: None,
        };
        let content = Content::from(&gift);
        assert_eq!(
            text(&content),
            r#"{"key":"018cc251-f400-7000-8000-000000000001","gift":"rose","count":2,"value":200,"note":"for you"}"#
        );
        let item = content.clone().at(Chain::Gifts, 9, 7);
        assert_eq!((item.chain, item.offset, item.prev, item.kind.as_str()), (Chain::Gifts, 9, 7, item::GIFT));
        assert_eq!((item.from, item.at, item.data), (content.from, 5, content.data));
    }

    #[test]
    fn an_event_says_who_did_what() {
        let user = || "bob".parse().unwrap();
        let told = |what| {
            let by = Some("hana".parse().unwrap());
            let event = RoomEvent { room: "stage".parse().unwrap(), by, at: 5, what, trace: None };
            let content = Content::from(&event);
            assert_eq!(content.from.as_ref().map(UserId::as_str), Some("hana"));
            (content.kind.to_string(), text(&content))
        };
        for (what, kind, data) in [
            (RoomHappening::State(Default::default()), "state", r#"{"open":true,"playable":true,"banned":false}"#),
            (
                RoomHappening::Mute { user: user(), until: 0, everywhere: true },
                "mute",
                r#"{"user":"bob","until":0,"everywhere":true}"#,
            ),
            (RoomHappening::Role { user: user(), role: Some(Role::Host) }, "role", r#"{"user":"bob","role":"host"}"#),
            (RoomHappening::Kick { user: user() }, "kick", r#"{"user":"bob"}"#),
            (RoomHappening::Message { kind: "wave".parse().unwrap(), data: "hi".into() }, "wave", "hi"),
        ] {
            assert_eq!(told(what), (kind.to_owned(), data.to_owned()));
        }
    }
}

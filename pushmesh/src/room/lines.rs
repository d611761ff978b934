//! What happens in rooms, as lines.

use std::io;

use pushmesh_client::{Event, Joined, LeftReason, item};
use pushmesh_protocol::Payload;
use serde_json::json;

use super::keep;
use crate::output::{Output, clock};

/// Prints what a client tells of a room; nothing for anything else.
pub fn told(output: Output, event: &Event) -> io::Result<()> {
    match event {
        Event::Joined(told) => {
            let object = json!({ "event": "joined", "joined": told });
            if output.json {
                output.line("", &object)?;
            } else {
                eprintln!("{}", joined(told));
            }
        }
        Event::Room { room, item } => {
            let (time, from) = (clock(item.at), item.from.as_ref().map_or("-", |from| from.as_str()));
            let text = format!(
                "{time}  {room}  {:<8} {from}  {}",
                item.kind.as_str(),
                describe(item.kind.as_str(), &item.data)
            );
            output.line(text, &json!({ "event": "room", "room": room, "item": item }))?;
        }
        Event::RoomGap { room, from, to } => {
            let text = format!("-- {room}: what lies between can't be had any more --");
            output.line(text, &json!({ "event": "room_gap", "room": room, "from": from, "to": to }))?;
        }
        Event::Left(left) => {
            let how = if left.reason == LeftReason::Kicked { "sent away from" } else { "left" };
            output.line(format!("-- {how} {} --", left.room), &json!({ "event": "left", "left": left }))?;
        }
        Event::RoomUnavailable { room, reason, again_in } => {
            eprintln!("{room}: {reason}; again in {again_in:.1?}");
        }
        _ => {}
    }
    Ok(())
}

fn joined(told: &Joined) -> String {
    let mut text = format!("in room {}: {} present, gifts {}", told.room, told.present, told.gifts_total);
    text += &format!(", likes {}", told.likes_total);
    if !told.state.open {
        text += ", closed";
    }
    if told.state.banned {
        text += ", banned";
    }
    if let Some(role) = told.role {
        text += &format!(", you are {}", format!("{role:?}").to_lowercase());
    }
    if let Some(until) = told.muted_until {
        text += &format!(", you are muted until {}", clock(until));
    }
    text
}

/// An item's data, as a person reads it.
pub fn describe(kind: &str, data: &Payload) -> String {
    readable(kind, data).unwrap_or_else(|| String::from_utf8_lossy(&data.0).into_owned())
}

fn readable(kind: &str, data: &Payload) -> Option<String> {
    Some(match kind {
        item::GIFT => {
            let gift: item::Gift = item::read(data)?;
            let to = gift.to.map_or(String::new(), |to| format!(" to {to}"));
            let note = gift.note.map_or(String::new(), |note| format!("  {note}"));
            format!("{} × {}{to}, worth {}{note}", gift.count, gift.gift, gift.value)
        }
        item::LIKE => {
            let like: item::Like = item::read(data)?;
            format!("+{}, {} in all", like.count, like.total)
        }
        item::MUTE => {
            let mute: item::Mute = item::read(data)?;
            let place = if mute.everywhere { " everywhere" } else { "" };
            match mute.until {
                0 => format!("{} may speak again{place}", mute.user),
                until => format!("{} is muted{place} until {}", mute.user, clock(until)),
            }
        }
        item::ROLE => {
            let change: item::RoleChange = item::read(data)?;
            match change.role {
                Some(role) => format!("{} is {}", change.user, format!("{role:?}").to_lowercase()),
                None => format!("{} has no role any more", change.user),
            }
        }
        item::STATE => keep::in_words(&serde_json::from_slice(&data.0).ok()?),
        item::KICK => format!("{} was sent away", item::read::<item::Kick>(data)?.user),
        item::RANKING => {
            let ranking: item::Ranking = item::read(data)?;
            let top: Vec<_> = ranking.top.iter().map(|place| format!("{} {}", place.user, place.total)).collect();
            format!("{} in all: {}", ranking.gifts_total, top.join(", "))
        }
        item::LEVEL => {
            let level: item::Level = item::read(data)?;
            format!("{} reached level {} with {}", level.user, level.level, level.total)
        }
        item::PRESENCE => format!("{} present", item::read::<item::Presence>(data)?.present),
        item::PARTS => format!("cut into {}", item::read::<item::Parts>(data)?.parts),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn items_read_well_whatever_their_data() {
        let gift = r#"{"key":"k","gift":"rose","count":3,"value":30,"to":"bob","note":"hi"}"#;
        assert_eq!(describe("gift", &gift.into()), "3 × rose to bob, worth 30  hi");
        let ended = r#"{"user":"eve","until":0,"everywhere":true}"#;
        assert_eq!(describe("mute", &ended.into()), "eve may speak again everywhere");
        assert_eq!(describe("chat", &"hello".into()), "hello");
        assert_eq!(describe("like", &"no JSON".into()), "no JSON");
    }
}

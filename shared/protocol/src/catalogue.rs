//! Who says what to whom. The table in ARCHITECTURE.md and the NATS permissions are made from this.

/// One name on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub template: &'static str,
    pub shape: Shape,
    /// Type in [`crate::message`], or `raw`.
    pub payload: &'static str,
    pub producers: &'static [&'static str],
    pub consumers: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Core,
    Request,
    Stream(&'static str),
    Bucket(&'static str),
}

/// A push kind's service, whatever the kind.
pub const ANY_PUSH: &str = "<kind>-push";
const EVERY: &[&str] = &["every service"];

/// All of them, in the order a message meets them.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        template: "pm.v1.login.report",
        shape: Shape::Request,
        payload: "LoginReports",
        producers: &["comet", "ack-retry"],
        consumers: &["login-ingest"],
    },
    Entry {
        template: "pm.v1.login.record.<p>.<user>",
        shape: Shape::Stream("LOGIN"),
        payload: "LoginRecord",
        producers: &["login-ingest"],
        consumers: &["distributor"],
    },
    Entry {
        template: "pm.v1.online.<kind>.<instance>",
        shape: Shape::Request,
        payload: "OnlineBatch",
        producers: &["distributor"],
        consumers: &[ANY_PUSH],
    },
    Entry {
        template: "pm.v1.late.<kind>.<p>.<user>",
        shape: Shape::Stream("LATE_<kind>"),
        payload: "LateRecord",
        producers: &["distributor"],
        consumers: &["distributor"],
    },
    Entry {
        template: "pm.v1.dir.<kind>.<p>.<user>.<unit…>",
        shape: Shape::Stream("DIR_<kind>"),
        payload: "Membership",
        producers: &[ANY_PUSH],
        consumers: &[ANY_PUSH],
    },
    Entry {
        template: "<call>",
        shape: Shape::Bucket("call_<kind>"),
        payload: "CallRecord",
        producers: &[ANY_PUSH],
        consumers: &[ANY_PUSH],
    },
    Entry {
        template: "pm.v1.calls.<kind>.<p>",
        shape: Shape::Request,
        payload: "CallsRequest",
        producers: &["comet", "api"],
        consumers: &[ANY_PUSH],
    },
    Entry {
        template: "pm.v1.push.order.<p>.<user>",
        shape: Shape::Stream("PUSH"),
        payload: "PushOrder",
        producers: &[ANY_PUSH, "ack-retry", "api"],
        consumers: &["ack-retry"],
    },
    Entry {
        template: "<p>.<user>.<push>",
        shape: Shape::Bucket("pending"),
        payload: "Pending",
        producers: &["ack-retry"],
        consumers: &["ack-retry"],
    },
    Entry {
        template: "handover.<p>",
        shape: Shape::Bucket("pending"),
        payload: "HandOver",
        producers: &["ack-retry"],
        consumers: &["ack-retry"],
    },
    Entry {
        template: "pm.v1.comet.batch.<comet>",
        shape: Shape::Core,
        payload: "CometBatch",
        producers: &["ack-retry"],
        consumers: &["comet"],
    },
    Entry {
        template: "pm.v1.ack.client.<p>",
        shape: Shape::Core,
        payload: "AckBatch",
        producers: &["comet"],
        consumers: &["ack-retry"],
    },
    Entry {
        template: "<p>.<user>.<conn>",
        shape: Shape::Bucket("sess"),
        payload: "Session",
        producers: &["comet", "ack-retry"],
        consumers: &["ack-retry", "comet", ANY_PUSH, "api"],
    },
    Entry {
        template: "<p>.<user>.<conn>.login",
        shape: Shape::Bucket("sess"),
        payload: "SessionLogin",
        producers: &["ack-retry"],
        consumers: &["ack-retry", ANY_PUSH],
    },
    Entry {
        template: "used.<p>.<user>.<sid>",
        shape: Shape::Bucket("sess"),
        payload: "raw",
        producers: &["comet"],
        consumers: &["comet"],
    },
    Entry {
        template: "pm.v1.room.high.gift.<p>.<room>",
        shape: Shape::Stream("ROOM_HIGH"),
        payload: "Gift",
        producers: &["api"],
        consumers: &["room-fanout", "any team"],
    },
    Entry {
        template: "pm.v1.room.high.key.<p>.<key>",
        shape: Shape::Stream("ROOM_HIGH"),
        payload: "GiftMarker",
        producers: &["api"],
        consumers: &["api"],
    },
    Entry {
        template: "pm.v1.room.high.chat.<p>.<room>",
        shape: Shape::Stream("ROOM_HIGH"),
        payload: "RoomMessage",
        producers: &["api"],
        consumers: &["room-fanout", "any team"],
    },
    Entry {
        template: "pm.v1.room.normal.event.<p>.<room>",
        shape: Shape::Stream("ROOM_NORMAL"),
        payload: "RoomEvent",
        producers: &["api"],
        consumers: &["room-fanout", "any team"],
    },
    Entry {
        template: "pm.v1.room.normal.ranking.<p>.<room>",
        shape: Shape::Stream("ROOM_NORMAL"),
        payload: "Ranking",
        producers: &["room-fanout"],
        consumers: &["any team"],
    },
    Entry {
        template: "pm.v1.room.low.likes.<p>.<room>.<api>.<life>",
        shape: Shape::Stream("ROOM_LOW"),
        payload: "LikesTotal",
        producers: &["api"],
        consumers: &["room-fanout", "any team"],
    },
    Entry {
        template: "pm.v1.room.low.note.<p>.<room>.<id>",
        shape: Shape::Stream("ROOM_LOW"),
        payload: "Note",
        producers: &["api", "room-fanout"],
        consumers: &["room-fanout", "any team"],
    },
    Entry {
        template: "state.<room>",
        shape: Shape::Bucket("rooms"),
        payload: "StateRecord",
        producers: &["api"],
        consumers: &["api", "room-fanout"],
    },
    Entry {
        template: "role.<room>.<user>",
        shape: Shape::Bucket("rooms"),
        payload: "RoleRecord",
        producers: &["api"],
        consumers: &["api", "room-fanout"],
    },
    Entry {
        template: "all.<user>, in.<room>.<user>",
        shape: Shape::Bucket("mutes"),
        payload: "MuteRecord",
        producers: &["api"],
        consumers: &["api", "room-fanout"],
    },
    Entry {
        template: "r.<p>.<room>, u.<p>.<room>.<user>, p.<p>",
        shape: Shape::Bucket("ledger"),
        payload: "room-fanout's own",
        producers: &["room-fanout"],
        consumers: &["room-fanout"],
    },
    Entry {
        template: "pm.v1.room.ask.<p>",
        shape: Shape::Request,
        payload: "RoomAsk",
        producers: &["comet", "api"],
        consumers: &["room-fanout"],
    },
    Entry {
        template: "pm.v1.room.presence.<p>",
        shape: Shape::Core,
        payload: "RoomPresence",
        producers: &["comet"],
        consumers: &["room-fanout"],
    },
    Entry {
        template: "pm.v1.room.frame.<p>.<room>",
        shape: Shape::Core,
        payload: "RoomBatch",
        producers: &["room-fanout"],
        consumers: &["comet"],
    },
    Entry {
        template: "pm.v1.comet.status.<comet>",
        shape: Shape::Core,
        payload: "CometStatus",
        producers: &["comet"],
        consumers: &["api", "comet"],
    },
    Entry {
        template: "pm.v1.comet.rooms.<comet>",
        shape: Shape::Request,
        payload: "CometRoomsAsk",
        producers: &["api"],
        consumers: &["comet"],
    },
    Entry {
        template: "pm.v1.app.<name>",
        shape: Shape::Request,
        payload: "AppRequest",
        producers: &["comet"],
        consumers: &["a backend"],
    },
    Entry {
        template: "pm.v1.dead.<reason>.<p>.<id>",
        shape: Shape::Stream("DEAD"),
        payload: "DeadLetter",
        producers: EVERY,
        consumers: &["people"],
    },
    Entry {
        template: "pm.v1.hb.<service>.<instance>",
        shape: Shape::Core,
        payload: "Heartbeat",
        producers: EVERY,
        consumers: EVERY,
    },
    Entry {
        template: "m.<service>.<instance>",
        shape: Shape::Bucket("mesh"),
        payload: "MemberRecord",
        producers: EVERY,
        consumers: EVERY,
    },
    Entry {
        template: "o.<service>.<p>",
        shape: Shape::Bucket("mesh"),
        payload: "LeaseRecord",
        producers: &["distributor", ANY_PUSH, "ack-retry", "room-fanout"],
        consumers: EVERY,
    },
    Entry {
        template: "info",
        shape: Shape::Bucket("mesh"),
        payload: "MeshInfo",
        producers: &["provisioning"],
        consumers: EVERY,
    },
];

/// The catalogue as a Markdown table.
pub fn markdown() -> String {
    let mut table = String::from("| name | kind | payload | from | to |\n|---|---|---|---|---|\n");
    for entry in CATALOGUE {
        let shape = match entry.shape {
            Shape::Core => "core".to_owned(),
            Shape::Request => "request".to_owned(),
            Shape::Stream(stream) => format!("stream `{stream}`"),
            Shape::Bucket(bucket) => format!("bucket `{bucket}`"),
        };
        table += &format!(
            "| `{}` | {shape} | `{}` | {} | {} |\n",
            entry.template,
            entry.payload,
            entry.producers.join(", "),
            entry.consumers.join(", ")
        );
    }
    table
}

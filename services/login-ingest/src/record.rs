//! What a door was told, checked and made a record of: the one validation for all doors.

use std::{fmt, time::Duration};

use pushmesh_protocol::{
    DeviceId, LoginId, Partition, Partitions, UserId,
    id::TokenError,
    message::{LoginEvent, LoginRecord, LoginReport, Millis, OfflineCause, ReportedEvent},
    name::{MessageId, Subject},
};

/// How far ahead of our clock a record's time may be.
pub const AHEAD_MAX: Duration = Duration::from_secs(60);
/// How far back a record's time may be.
pub const BACK_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The device of an `online` that names none.
pub const DEFAULT_DEVICE: &str = "default";

/// A record as the outside tells it: texts that nobody has looked at.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    pub user: &'a str,
    /// Empty: `default` for `online`, every device for `offline`.
    pub device: &'a str,
    /// Empty: minted for `online`; `offline` then ends all of the user's logins begun before `at`.
    pub login_id: &'a str,
    /// `None`: neither of the two that there are.
    pub event: Option<ReportedEvent>,
    /// 0: now.
    pub at: Millis,
}

/// Why a record is not taken, and never will be as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub field: Field,
    /// What is wrong, and the limit.
    pub reason: String,
}

/// The part of a record that is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    User,
    Device,
    LoginId,
    Event,
    At,
    /// A line of NDJSON, as a whole.
    Line,
    /// A request of a comet, as a whole.
    Request,
}

impl Field {
    pub const ALL: [Field; 7] =
        [Self::User, Self::Device, Self::LoginId, Self::Event, Self::At, Self::Line, Self::Request];

    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Device => "device",
            Self::LoginId => "login_id",
            Self::Event => "event",
            Self::At => "at_ms",
            Self::Line => "line",
            Self::Request => "request",
        }
    }

    /// The field of that name, a line's otherwise.
    pub fn of_line(name: &str) -> Self {
        Self::ALL.into_iter().find(|field| field.name() == name).unwrap_or(Self::Line)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A record that may be stored, and what is known by it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Without a trace: that is its door's.
    pub record: LoginRecord,
    /// What dedupes it in LOGIN.
    pub id: MessageId,
}

impl Checked {
    /// An `online`'s login.
    pub fn login_id(&self) -> Option<&LoginId> {
        match &self.record.event {
            LoginEvent::Online { login_id, .. } => Some(login_id),
            LoginEvent::Offline { .. } => None,
        }
    }

    pub fn partition(&self, partitions: Partitions) -> Partition {
        partitions.of_user(&self.record.user)
    }

    pub fn subject(&self, partitions: Partitions) -> Subject {
        Subject::login_record(self.partition(partitions), &self.record.user)
    }
}

/// Checks what the outside told. `mint` makes a login id where an `online` has none.
pub fn check(told: &Told<'_>, now: Millis, mint: impl FnOnce() -> LoginId) -> Result<Checked, Refused> {
    let user: UserId = told.user.parse().map_err(|error| token(Field::User, error))?;
    let device = optional(told.device, Field::Device)?.map(DeviceId);
    let login_id = optional(told.login_id, Field::LoginId)?.map(LoginId);
    let event =
        told.event.ok_or_else(|| Refused { field: Field::Event, reason: "is neither online nor offline".into() })?;
    check_report(LoginReport { user, device, login_id, event, at: told.at, trace: None }, now, mint)
}

/// Checks a report of our own services, whose ids are tokens already.
pub fn check_report(report: LoginReport, now: Millis, mint: impl FnOnce() -> LoginId) -> Result<Checked, Refused> {
    let at = check_time(report.at, now)?;
    let LoginReport { user, device, login_id, event, .. } = report;
    let (id, event) = match event {
        ReportedEvent::Online => {
            let login_id = login_id.unwrap_or_else(mint);
            let device = device.unwrap_or_else(|| DeviceId::new(DEFAULT_DEVICE).expect("a token"));
            (MessageId::online(&user, &login_id), LoginEvent::Online { login_id, device })
        }
        ReportedEvent::Offline(cause) => {
            let id = match &login_id {
                Some(login_id) if cause == OfflineCause::Timeout => MessageId::timeout(&user, login_id, at),
                Some(login_id) => MessageId::offline(&user, login_id),
                None => MessageId::offline_all(&user, device.as_ref(), at),
            };
            (id, LoginEvent::Offline { login_id, device, cause })
        }
    };
    Ok(Checked { record: LoginRecord { user, event, at, trace: None }, id })
}

/// The event that people write.
pub fn event_named(name: &str) -> Option<ReportedEvent> {
    match name {
        "online" => Some(ReportedEvent::Online),
        "offline" => Some(ReportedEvent::Offline(OfflineCause::Reported)),
        _ => None,
    }
}

fn check_time(at: Millis, now: Millis) -> Result<Millis, Refused> {
    let refused = |reason| Err(Refused { field: Field::At, reason });
    let (ahead, back) = (AHEAD_MAX.as_millis() as Millis, BACK_MAX.as_millis() as Millis);
    match at {
        0 => Ok(now),
        _ if at > now.saturating_add(ahead) => {
            let seconds = (at - now) / 1000;
            refused(format!("is {seconds} s ahead; the limit is {} s", AHEAD_MAX.as_secs()))
        }
        _ if at < now.saturating_sub(back) => {
            let seconds = (now - at) / 1000;
            refused(format!("is {seconds} s back; the limit is {} s (7 days)", BACK_MAX.as_secs()))
        }
        _ => Ok(at),
    }
}

fn optional(text: &str, field: Field) -> Result<Option<pushmesh_protocol::Token>, Refused> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|error| token(field, error)) }
}

fn token(field: Field, error: TokenError) -> Refused {
    Refused { field, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Millis = 1_700_000_000_000;
    const ONLINE: Told<'_> =
        Told { user: "alice", device: "", login_id: "", event: Some(ReportedEvent::Online), at: 0 };

    fn minted() -> LoginId {
        LoginId::new("minted").unwrap()
    }

    #[test]
    fn an_online_gets_what_it_lacks() {
        let checked = check(&ONLINE, NOW, minted).unwrap();
        let event = LoginEvent::Online { login_id: minted(), device: DeviceId::new("default").unwrap() };
        assert_eq!(checked.record.event, event);
        assert_eq!(checked.record.at, NOW);
        assert_eq!(checked.id.as_str(), "alice.minted.on");
        assert_eq!(checked.login_id(), Some(&minted()));
    }

    #[test]
    fn an_offline_keeps_what_it_lacks() {
        let event = Some(ReportedEvent::Offline(OfflineCause::Reported));
        let all = check(&Told { event, ..ONLINE }, NOW, || panic!("an offline mints nothing")).unwrap();
        assert_eq!(all.id.as_str(), format!("alice..{NOW}.all-off"));
        assert_eq!(all.login_id(), None);
        let one = check(&Told { event, login_id: "l1", device: "phone", ..ONLINE }, NOW, minted).unwrap();
        assert_eq!(one.id.as_str(), "alice.l1.off");
        // A timeout may end nothing: it has an id of its own, and hides no later end.
        let event = Some(ReportedEvent::Offline(OfflineCause::Timeout));
        let timeout = check(&Told { event, login_id: "l1", ..ONLINE }, NOW, minted).unwrap();
        assert_eq!(timeout.id.as_str(), format!("alice.l1.{NOW}.timeout"));
    }

    #[test]
    fn what_is_wrong_is_said_by_field_and_limit() {
        let long = "a".repeat(5000);
        let cases: &[(Told<'_>, Field, &str)] = &[
            (Told { user: "", ..ONLINE }, Field::User, "is empty"),
            (Told { user: "a.b", ..ONLINE }, Field::User, "'.' at byte 1"),
            (Told { user: "*", ..ONLINE }, Field::User, "'*'"),
            (Told { user: ">", ..ONLINE }, Field::User, "'>'"),
            (Told { user: "a\r\nb", ..ONLINE }, Field::User, "'\\r'"),
            (Told { user: &long, ..ONLINE }, Field::User, "5000 bytes; the limit is 64"),
            (Told { device: "my phone", ..ONLINE }, Field::Device, "' '"),
            (Told { login_id: "$JS", ..ONLINE }, Field::LoginId, "'$'"),
            (Told { event: None, ..ONLINE }, Field::Event, "neither online nor offline"),
            (Told { at: NOW + 61_000, ..ONLINE }, Field::At, "61 s ahead; the limit is 60 s"),
            (Told { at: 1, ..ONLINE }, Field::At, "the limit is 604800 s (7 days)"),
        ];
        for (told, field, reason) in cases {
            let refused = check(told, NOW, minted).unwrap_err();
            assert_eq!(refused.field, *field, "{told:?}");
            assert!(refused.reason.contains(reason), "{refused:?} should say {reason}");
        }
    }

    #[test]
    fn the_limits_of_time_are_inclusive() {
        for at in [NOW + 60_000, NOW - 7 * 24 * 3_600_000] {
            assert_eq!(check(&Told { at, ..ONLINE }, NOW, minted).unwrap().record.at, at);
        }
    }

    proptest! {
        // Whatever text comes in: refused, or a subject of exactly six tokens that ends in the user.
        #[test]
        fn no_text_escapes_into_a_subject(user in ".{0,80}", device in ".{0,80}", login in ".{0,80}", at: u64) {
            let told = Told { user: &user, device: &device, login_id: &login, at, ..ONLINE };
            if let Ok(checked) = check(&told, NOW, minted) {
                let subject = checked.subject(Partitions::default());
                prop_assert_eq!(subject.as_str().split('.').count(), 6);
                let last = subject.as_str().rsplit('.').next();
                prop_assert_eq!(last, Some(user.as_str()));
            }
        }
    }
}

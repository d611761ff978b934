//! Whatever bytes arrive, decoding answers; whatever is encoded, decodes to itself.

use proptest::prelude::*;
use pushmesh_protocol::{
    PushId, Token, Unit,
    frame::{Ack, App, AppBody, ClientFrame, Encoding, ServerFrame},
    message::*,
    room, wire,
};

use crate::samples;

const ENCODINGS: [Encoding; 2] = [Encoding::MessagePack, Encoding::Json];

fn token() -> impl Strategy<Value = Token> {
    "[A-Za-z0-9_-]{1,64}".prop_map(|text| Token::new(&text).unwrap())
}

fn push_id() -> impl Strategy<Value = PushId> {
    any::<[u8; 16]>().prop_map(PushId::from_bytes)
}

fn record() -> impl Strategy<Value = LoginRecord> {
    let event = prop_oneof![
        (token(), token())
            .prop_map(|(login, device)| LoginEvent::Online { login_id: login.into(), device: device.into() }),
        (proptest::option::of(token()), proptest::option::of(token())).prop_map(|(login, device)| {
            LoginEvent::Offline {
                login_id: login.map(Into::into),
                device: device.map(Into::into),
                cause: OfflineCause::Timeout,
            }
        }),
    ];
    (token(), event, any::<u64>(), any::<bool>()).prop_map(|(user, event, at, traced)| LoginRecord {
        user: user.into(),
        event,
        at,
        trace: traced.then_some(pushmesh_protocol::TraceContext { trace_id: 1 << 100, span_id: 7 }),
    })
}

/// Each is read as it was written; a part of it is nothing; with a bit flipped it is refused, or another message of its kind.
fn holds<T>(samples: Vec<T>, cut: prop::sample::Index, at: prop::sample::Index, bit: u8) -> Result<(), TestCaseError>
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    for sample in samples {
        let mut bytes = wire::encode(&sample);
        prop_assert!(wire::decode::<T>(&bytes[..cut.index(bytes.len())]).is_err(), "a part of {:?}", sample);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(other) = wire::decode::<T>(&bytes) {
            prop_assert_eq!(wire::decode::<T>(&wire::encode(&other)).unwrap(), other);
        }
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(wire::decode::<T>(&bytes).unwrap(), sample);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acks_and_app_frames_round_trip(
        ids in proptest::collection::vec(push_id(), 1..=256),
        code in 1000u16..,
        re in any::<Option<u32>>(),
        data in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        for frame in [
            ClientFrame::Ack(Ack { ids: ids.clone() }),
            ClientFrame::App(App { code, body: AppBody { re, data: data.clone().into() } }),
        ] {
            for encoding in ENCODINGS {
                prop_assert_eq!(ClientFrame::decode(encoding, &frame.encode(encoding)), Ok(frame.clone()));
            }
        }
    }

    #[test]
    fn messages_round_trip(record in record(), epoch in any::<u64>()) {
        let batch = OnlineBatch {
            from: "d1".parse().unwrap(),
            entries: vec![OnlineEntry {
                partition: pushmesh_protocol::Partition(3), epoch, sequence: 9, record: record.clone(),
            }],
        };
        prop_assert_eq!(wire::decode::<OnlineBatch>(&wire::encode(&batch)).unwrap(), batch);
        prop_assert_eq!(wire::decode::<LoginRecord>(&wire::encode(&record)).unwrap(), record);
    }

    #[test]
    fn truncated_frames_and_messages_are_refused(record in record(), cut in any::<prop::sample::Index>()) {
        let bytes = wire::encode(&record);
        prop_assert!(wire::decode::<LoginRecord>(&bytes[..cut.index(bytes.len())]).is_err());
        for (_, frame) in samples::client() {
            for encoding in ENCODINGS {
                let bytes = frame.encode(encoding);
                prop_assert!(ClientFrame::decode(encoding, &bytes[..cut.index(bytes.len())]).is_err());
            }
        }
    }

    #[test]
    fn flipped_bits_never_panic(at in any::<prop::sample::Index>(), bit in 0u8..8, sample in any::<prop::sample::Index>()) {
        let samples = samples::server();
        let frame = &samples[sample.index(samples.len())].1;
        for encoding in ENCODINGS {
            let mut bytes = frame.encode(encoding);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = ServerFrame::decode(encoding, &bytes);
            let _ = ClientFrame::decode(encoding, &bytes);
        }
    }

    #[test]
    fn messages_between_services_round_trip_whole_or_not_at_all(
        cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        holds(samples::orders(), cut, at, bit)?;
        holds(samples::comet_batches(), cut, at, bit)?;
        holds(samples::ack_batches(), cut, at, bit)?;
        holds(samples::pendings(), cut, at, bit)?;
        holds(samples::sessions(), cut, at, bit)?;
        holds(samples::call_records(), cut, at, bit)?;
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        for encoding in ENCODINGS {
            let _ = ClientFrame::decode(encoding, &bytes);
            let _ = ServerFrame::decode(encoding, &bytes);
        }
        let _ = wire::decode::<PushOrder>(&bytes);
        let _ = wire::decode::<CometBatch>(&bytes);
        let _ = wire::decode::<AckBatch>(&bytes);
        let _ = wire::decode::<Pending>(&bytes);
        let _ = wire::decode::<room::Gift>(&bytes);
        let _ = wire::decode::<room::RoomBatch>(&bytes);
        let _ = wire::decode::<room::RoomAsk>(&bytes);
        let _ = wire::decode::<room::RoomAnswer>(&bytes);
        let _ = wire::decode::<room::RoomPresence>(&bytes);
    }

    #[test]
    fn trailing_bytes_are_refused(record in record(), extra in proptest::collection::vec(any::<u8>(), 1..8)) {
        let mut bytes = wire::encode(&record);
        bytes.extend(&extra);
        prop_assert!(matches!(wire::decode::<LoginRecord>(&bytes), Err(wire::WireError::Trailing(n)) if n == extra.len()));
    }

    #[test]
    fn any_text_is_a_token_or_says_why(text in any::<String>()) {
        let ok = !text.is_empty() && text.len() <= 64
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        prop_assert_eq!(Token::new(&text).is_ok(), ok);
    }

    #[test]
    fn units_round_trip_in_both_spellings(levels in proptest::collection::vec("[A-Za-z0-9_-]{1,20}", 1..=16)) {
        let unit = Unit::from_levels(levels.iter().map(String::as_str)).unwrap();
        prop_assert_eq!(&Unit::new(&unit.to_string()).unwrap(), &unit);
        prop_assert_eq!(&Unit::from_levels(unit.dotted().split('.')).unwrap(), &unit);
        prop_assert_eq!(unit.ancestry().count(), levels.len());
        prop_assert!(unit.ancestry().all(|above| above.covers(&unit)));
    }
}

/// New fields go last: what the version before wrote is read.
#[test]
fn an_end_of_a_login_of_the_version_before_is_read() {
    let (user, login_id, kind) = ("alice".parse().unwrap(), "l1".parse().unwrap(), "group".parse().unwrap());
    let ended = LoginEnded { user, login_id, kind, at: 7, by: None };
    assert_eq!(wire::decode::<LoginEnded>(&wire::encode(&("alice", "l1", "group", 7_u64))).unwrap(), ended);
    let by = EndedBy { sequence: 9, successor: Some(Successor { login_id: "l2".parse().unwrap(), at: 8 }) };
    let ended = LoginEnded { by: Some(by), ..ended };
    assert_eq!(wire::decode::<LoginEnded>(&wire::encode(&ended)).unwrap(), ended);
}

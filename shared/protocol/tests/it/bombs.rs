//! Small inputs that would like to be large, or deep. Run in debug and in release.

use pushmesh_protocol::{
    frame::{ACK_MAX_IDS, ClientFrame, Encoding, FrameError},
    message::{CometBatch, LoginReports, OnlineBatch},
    wire,
};

/// `[code, body]` in MessagePack.
fn frame(code: u8, body: &[u8]) -> Vec<u8> {
    [&[0x92, code], body].concat()
}

fn refused(bytes: &[u8]) -> FrameError {
    ClientFrame::decode(Encoding::MessagePack, bytes).expect_err("refused")
}

#[test]
fn depth_is_bounded_in_both_encodings() {
    // A PING whose unknown field nests arrays 100,000 deep: ignored fields count too.
    let mut pack = frame(4, &[0x81, 0xa1, b'x']);
    pack.extend(std::iter::repeat_n(0x91, 100_000));
    pack.push(0xc0);
    assert!(matches!(refused(&pack), FrameError::Field { .. }));

    let json = format!(r#"["PING",{{"x":{}{}}}]"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(ClientFrame::decode(Encoding::Json, json.as_bytes()).is_err());

    let nested = vec![0x91u8; 100_000];
    assert!(wire::decode::<OnlineBatch>(&nested).is_err());
}

#[test]
fn declared_lengths_allocate_nothing() {
    let lengths: [&[u8]; 4] = [
        &[0xdd, 0xff, 0xff, 0xff, 0xff], // array of 2^32-1
        &[0xdf, 0xff, 0xff, 0xff, 0xff], // map
        &[0xdb, 0xff, 0xff, 0xff, 0xff], // string
        &[0xc6, 0xff, 0xff, 0xff, 0xff], // bytes
    ];
    for length in lengths {
        refused(&frame(10, length));
        refused(&frame(10, &[&[0x81, 0xa3, b'i', b'd', b's'], length].concat()));
        refused(&[&[0x92], length].concat());
        assert!(wire::decode::<CometBatch>(length).is_err());
        assert!(wire::decode::<LoginReports>(&[&[0x91], length].concat()).is_err());
    }
}

#[test]
fn an_ack_takes_256_ids_and_no_more() {
    let ack = |count: u16| {
        let mut body = vec![0x81, 0xa3, b'i', b'd', b's', 0xdc];
        body.extend(count.to_be_bytes());
        for _ in 0..count {
            body.extend([0xc4, 16]);
            body.extend([7u8; 16]);
        }
        frame(10, &body)
    };
    assert!(ClientFrame::decode(Encoding::MessagePack, &ack(ACK_MAX_IDS as u16)).is_ok());
    let error = refused(&ack(ACK_MAX_IDS as u16 + 1)).to_string();
    assert!(error.contains("ACK") && error.contains("ids") && error.contains("256"), "{error}");
    assert!(refused(&ack(0)).to_string().contains("empty"));
}

/// The body as JSON and as MessagePack, each with the frame's code.
fn both(name: &str, code: u8, body: &serde_json::Value) -> [FrameError; 2] {
    let json = serde_json::to_vec(&(name, body)).unwrap();
    let json = ClientFrame::decode(Encoding::Json, &json).expect_err(name);
    [json, refused(&frame(code, &rmp_serde::to_vec_named(body).unwrap()))]
}

#[test]
fn the_field_that_is_wrong_or_missing_is_named_whole() {
    use serde_json::json;
    for (name, code, body, field) in [
        ("LOGIN", 1, json!({}), "LOGIN.token"),
        ("LOGIN", 1, json!({"token": "t"}), "LOGIN.device"),
        ("LOGIN", 1, json!({"token": "t", "device": "a.b"}), "LOGIN.device"),
        ("LOGIN", 1, json!({"token": "t", "device": 7}), "LOGIN.device"),
        ("LOGIN", 1, json!({"token": "t", "device": "d", "resume": {"login_id": "l"}}), "LOGIN.resume.conn_id"),
        ("LOGIN", 1, json!({"token": "t", "device": "d", "heartbeat": "hectic"}), "LOGIN.heartbeat"),
        ("LOGIN", 1, json!("t"), "LOGIN"),
        ("LOGIN", 1, json!(null), "LOGIN"),
        ("ACK", 10, json!({}), "ACK.ids"),
        ("ACK", 10, json!({"ids": []}), "ACK.ids"),
        ("ACK", 10, json!({"ids": ["short"]}), "ACK.ids[0]"),
        ("JOIN", 6, json!({}), "JOIN.room"),
        ("JOIN", 6, json!({"room": "r", "resume": {"epoch": 1}}), "JOIN.resume.gifts"),
        ("LEAVE", 7, json!({}), "LEAVE.room"),
        ("PUSH", 8, json!({}), "code"),
    ] {
        for error in both(name, code, &body) {
            assert_eq!(error.field(), field, "{name} {body}: {error}");
            assert!(!error.to_string().contains("field :") && !error.to_string().contains(".."), "{error}");
        }
    }
    let twice = br#"["LOGIN",{"device":"a","device":"b","token":"t"}]"#;
    assert_eq!(ClientFrame::decode(Encoding::Json, twice).unwrap_err().field(), "LOGIN.device");
    let own = format!(r#"["PING",{{"{}":{}0{}}}]"#, "k".repeat(4000), "[".repeat(30), "]".repeat(30));
    assert!(ClientFrame::decode(Encoding::Json, own.as_bytes()).is_ok(), "unknown keys are ignored");
    let unknown = ClientFrame::decode(Encoding::Json, br#"[19,{}]"#).unwrap_err();
    assert_eq!(unknown.field(), "code");
    assert!(unknown.to_string().contains("the protocol's are 1 to 18,"), "{unknown}");
    assert_eq!(ClientFrame::decode(Encoding::Json, b"{").unwrap_err().field(), "frame");
}

#[test]
fn errors_name_the_field_and_the_limit() {
    let json = |text: &str| ClientFrame::decode(Encoding::Json, text.as_bytes()).expect_err(text).to_string();
    let cases = [
        (r#"["LOGIN",{"token":"t","device":"a.b"}]"#, "LOGIN frame: field device: has '.' at byte 1"),
        (r#"["LOGIN",{"token":"","device":"a"}]"#, "field token: is empty"),
        (r#"["LOGIN",{"token":"t"}]"#, "device"),
        (r#"["LOGIN",{"token":"t","device":"a","resume":{"login_id":">","conn_id":"c"}}]"#, "field resume.login_id"),
        (r#"["JOIN",{"room":"*"}]"#, "field room"),
        (r#"["ACK",{"ids":["short"]}]"#, "field ids[0]: must be 16 bytes"),
        (r#"["PUSH",{}]"#, "may not come from this side"),
        (r#"["NONSENSE",{}]"#, "unknown frame code \"NONSENSE\""),
        (r#"[999,{}]"#, "unknown frame code 999"),
        (r#"[70000,{}]"#, "not a frame"),
        (r#"{"code":"PING"}"#, "a frame is an array of two"),
        (r#"["PING",{}] "#, ""),
    ];
    for (text, expected) in cases.iter().filter(|(_, expected)| !expected.is_empty()) {
        let error = json(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let long = format!(r#"["LOGIN",{{"token":"t","device":"{}"}}]"#, "a".repeat(5000));
    assert!(json(&long).contains("has 5000 bytes; the limit is 64"));
    let token = format!(r#"["LOGIN",{{"token":"{}","device":"d"}}]"#, "a".repeat(4000));
    assert!(json(&token).contains("has 4000 bytes; the limit is 3072"));
    assert!(refused(&[]).to_string().contains("not a frame"));
    assert!(refused(&frame(4, &[0x80, 0x00])).to_string().contains("1 bytes after the end"));
}

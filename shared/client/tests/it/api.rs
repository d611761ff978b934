//! What is said over HTTP, to an api that fails in every way.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use pushmesh_client::{Api, ApiError, ApiOptions, Client, Event, Gift, TokenSource};
use pushmesh_protocol::RoomId;
use serde_json::json;

use crate::{
    PATIENCE,
    door::{Answer, Door, millis},
    logged_in, next,
    peer::{Peer, options},
};

fn room() -> RoomId {
    RoomId::new("live").unwrap()
}

fn rose() -> Gift {
    Gift { count: 3, ..Gift::new("rose".parse().unwrap(), 30) }
}

#[tokio::test]
async fn a_gift_is_said_again_under_its_key_until_it_is_answered() {
    let door = Door::open(|number, asked| match number {
        0 => Answer::NotNow,
        1 => Answer::Silence,
        2 => Answer::Json(502, json!("a gateway")),
        _ => Answer::Json(200, json!({ "key": asked.body["key"], "sequence": 7, "repeated": true })),
    });
    let door = door.await;
    let gift = rose();
    let given = door.api().gift(&room(), &gift).await.unwrap();
    assert_eq!((given.sequence, given.repeated, given.key.as_str()), (7, true, gift.key.as_str()));
    let asked = door.asked();
    assert_eq!(asked.len(), 4);
    for asked in asked {
        assert_eq!(asked.path, "/v1/rooms/live/gifts");
        assert_eq!(asked.body, json!({ "key": gift.key, "gift": "rose", "count": 3, "value": 30 }));
    }
}

#[tokio::test]
async fn a_refusal_is_told_as_it_was_said_and_not_repeated() {
    let said = json!({ "error": "too_many", "field": "count", "limit": "chat_per_second", "message": "one a second" });
    let door = Door::open(move |_, _| Answer::Json(429, said.clone())).await;
    let refused = door.api().chat(&room(), "hello").await.unwrap_err();
    let ApiError::Refused(refusal) = &refused else { panic!("{refused:?}") };
    assert_eq!((refusal.status, refusal.code.as_str()), (429, "too_many"));
    assert_eq!((refusal.field.as_deref(), refusal.limit.as_deref()), (Some("count"), Some("chat_per_second")));
    assert_eq!(refused.to_string(), "one a second (too_many, field count, limit chat_per_second)");
    assert_eq!(door.asked().len(), 1);
    assert_eq!(door.asked()[0].body["data"], "hello");
}

#[tokio::test]
async fn a_message_is_given_up_after_a_while() {
    let door = Door::open(|_, _| Answer::NotNow).await;
    let api = Api::new(ApiOptions { message_patience: millis(2000), ..door.options() }).unwrap();
    let refused = api.danmaku(&room(), "hello").await.unwrap_err();
    assert_eq!((refused.may_pass(), refused.retry_after()), (true, Some(Duration::ZERO)));
    let asked = door.asked();
    assert!(asked.len() > 1);
    assert!(asked.iter().all(|again| again.body == asked[0].body), "one id, whatever happens");
}

#[tokio::test]
async fn a_refused_token_is_asked_for_again_once() {
    let door = Door::open(|_, asked| match asked.token.as_str() {
        "token-1" => Answer::Json(200, json!({ "sequence": 1 })),
        _ => Answer::Json(401, json!({ "error": "unauthorized", "message": "expired" })),
    });
    let door = door.await;
    let number = AtomicU32::new(0);
    let api = door.api_with(TokenSource::asked(move || {
        let n = number.fetch_add(1, Relaxed);
        async move { Ok(format!("token-{n}")) }
    }));
    let alice = api.in_the_name_of("alice".parse().unwrap());
    assert_eq!(alice.chat(&room(), "hello").await.unwrap().sequence, 1);
    assert_eq!(door.asked()[1].body["from"], "alice");
    let refused = door.api().chat(&room(), "hello").await.unwrap_err();
    assert!(matches!(refused, ApiError::Refused(refusal) if refusal.status == 401));
    assert_eq!(door.asked().len(), 3, "a fixed token has no other");
}

#[tokio::test]
async fn likes_are_sent_in_sums_and_none_twice() {
    let door = Door::open(|number, asked| match number {
        0 => Answer::NotNow,
        1 => Answer::Json(202, json!({ "accepted": asked.body["count"].as_u64().unwrap().min(30) })),
        _ => Answer::Silence,
    });
    let door = door.await;
    let api = door.api();
    (0..40).for_each(|_| api.like(&room(), 1));
    let settled = async |sum: u64| {
        pushmesh_testkit::wait_for("the likes to be answered", PATIENCE, async || {
            let stats = api.like_stats();
            if stats.accepted + stats.refused + stats.unknown == sum { Ok(stats) } else { Err(format!("{stats:?}")) }
        })
        .await
    };
    let stats = settled(40).await;
    assert_eq!((stats.accepted, stats.refused), (30, 10));
    api.like(&room(), 2);
    assert_eq!(settled(42).await.unknown, 2);
    let counts: Vec<_> = door.asked().iter().map(|asked| asked.body["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [40, 40, 2]);
}

#[tokio::test]
async fn likes_are_sent_once_a_second() {
    let door = Door::open(|_, asked| match asked.path.ends_with("/likes") {
        true => Answer::Json(202, json!({ "accepted": asked.body["count"] })),
        false => Answer::Json(200, json!({ "sequence": 1 })),
    });
    let door = door.await;
    let api = door.api();
    let sent = || -> Vec<u64> {
        let likes = door.asked().into_iter().filter(|asked| asked.path.ends_with("/likes"));
        likes.map(|asked| asked.body["count"].as_u64().unwrap()).collect()
    };
    let sum_is = async |sum: u64| {
        pushmesh_testkit::wait_for("the likes to be sent", PATIENCE, async || match sent() {
            likes if likes.iter().sum::<u64>() == sum => Ok(()),
            likes => Err(format!("{likes:?}")),
        })
        .await;
    };
    let begun = Instant::now();
    api.like(&room(), 1);
    sum_is(1).await;
    for _ in 0..5 {
        api.like(&room(), 1);
        // There and back: whatever does not wait is sent meanwhile.
        api.chat(&room(), "hello").await.unwrap();
    }
    sum_is(6).await;
    // On a machine that takes less than a second for five lines: one, and five.
    let (likes, seconds) = (sent(), begun.elapsed().as_secs() as usize);
    assert!(likes.len() <= 1 + seconds, "{likes:?} within {seconds} s");
}

#[tokio::test]
async fn connects_where_api_says_and_else_where_it_was_told() {
    let (usual, better) = (Peer::tcp().await, Peer::tcp().await);
    let nobody = pushmesh_testkit::Port::take();
    let gone = format!("127.0.0.1:{}", nobody.number());
    let candidates = json!({ "candidates": [
        { "comet": "c1", "address": gone },
        { "comet": "c2", "address": better.address().to_string() },
    ] });
    let door = Door::open(move |number, _| match number {
        0 => Answer::Json(200, candidates.clone()),
        _ => Answer::NotNow,
    });
    let door = door.await;
    let mut options = options(&usual);
    options.api = Some(door.api());
    let (_client, mut events) = Client::connect(options);
    let socket = logged_in(&better, &mut events).await;
    assert_eq!((door.asked()[0].path.as_str(), door.asked().len()), ("/v1/connect?transport=tcp", 1));
    drop(socket);
    assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    logged_in(&usual, &mut events).await;
}

#[test]
fn what_is_no_address_is_refused() {
    for bad in ["", "127.0.0.1:7480", "https://a:1", "ws://a:1", "http://", "http://a:1/?x"] {
        assert!(matches!(Api::new(ApiOptions::new(bad, "t")), Err(ApiError::Url(_))), "{bad:?}");
    }
}

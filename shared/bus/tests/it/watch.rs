use std::{collections::HashMap, time::Duration};

use pushmesh_bus::{Outgoing, StreamEvent, StreamWatch};
use pushmesh_protocol::{
    Kind, Partition, Unit,
    name::{Filter, MessageId, Stream, Subject},
};

use pushmesh_testkit::wait_for;

use super::*;

fn kind() -> Kind {
    Kind::new("group").unwrap()
}

fn membership(number: usize, payload: &'static str) -> Outgoing {
    Outgoing {
        subject: Subject::directory(&kind(), Partition(2), &user(number), &Unit::new("g1").unwrap()),
        payload: payload.into(),
        id: MessageId::late(number as u64 * 10 + payload.len() as u64),
        trace: None,
    }
}

async fn snapshot(watch: &mut StreamWatch) -> HashMap<String, (u64, bytes::Bytes)> {
    let mut all = HashMap::new();
    loop {
        match tokio::time::timeout(SOON, watch.next()).await.expect("an event in time").expect("an open watch") {
            StreamEvent::Message { subject, payload, sequence } => {
                all.insert(subject, (sequence, payload));
            }
            StreamEvent::CaughtUp => return all,
            StreamEvent::Restarted => all.clear(),
        }
    }
}

#[tokio::test]
async fn a_watch_tells_the_last_of_each_subject_then_what_comes_also_after_a_restart() {
    let (mut nats, bus) = mesh().await;
    let stream = Stream::directory(&kind());
    let mut empty = bus.watch_stream(&stream, Filter::directory_of(&kind(), Partition(7))).await.unwrap();
    assert!(snapshot(&mut empty).await.is_empty());

    for outcome in bus.store_all(&stream, (0..2000).map(|number| membership(number, "in")).collect()).await {
        outcome.unwrap();
    }
    bus.store(membership(7, "")).await.unwrap();
    let mut watch = bus.watch_stream(&stream, Filter::directory_of(&kind(), Partition(2))).await.unwrap();
    let all = snapshot(&mut watch).await;
    assert_eq!(all.len(), 2000);
    assert_eq!(all[membership(7, "").subject.as_str()].1, "");

    let live = bus.store(membership(3000, "in")).await.unwrap();
    match watch.next().await.unwrap() {
        StreamEvent::Message { sequence, .. } => assert_eq!(sequence, live.sequence),
        other => panic!("{other:?}"),
    }
    nats.kill();
    nats.restart().await;
    assert_eq!(tokio::time::timeout(SOON, watch.next()).await.unwrap().unwrap(), StreamEvent::Restarted);
    assert_eq!(snapshot(&mut watch).await.len(), 2001);
}

#[tokio::test]
async fn a_message_stored_for_a_time_goes_by_itself() {
    let (_nats, bus) = mesh().await;
    let stream = Stream::directory(&kind());
    bus.store(membership(1, "in")).await.unwrap();
    let gone = bus.store_all_for(&stream, vec![membership(1, ""), membership(2, "")], Duration::from_secs(1)).await;
    assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    wait_for("the removals to go", SOON, async || {
        let watch = bus.watch_stream(&stream, Filter::directory(&kind())).await;
        match snapshot(&mut watch.map_err(|error| error.to_string())?).await.len() {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    })
    .await;
}

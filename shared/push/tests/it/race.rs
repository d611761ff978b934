//! Logins and call starts at the same moment.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use pushmesh_protocol::message::PushOrder;

use crate::mesh::{Mesh, TestKind, offline, online};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_racing_logins_and_call_starts_are_each_told_once() {
    const PAIRS: usize = 1000;
    let mesh = Mesh::start(TestKind::group()).await;
    let push = mesh.engine("group-1").await;
    // Each pair has a group of its own; joined beforehand, and known once a later record is answered.
    stream::iter(0..PAIRS)
        .for_each_concurrent(16, |pair| {
            let push = &push;
            async move { push.join(&format!("g{pair}"), &[&format!("u{pair}")]).await }
        })
        .await;
    let mut tap = mesh.tap().await;
    stream::iter(0..PAIRS)
        .for_each_concurrent(32, |pair| {
            let (mesh, push) = (&mesh, &push);
            async move {
                let (user, login) = (format!("u{pair}"), format!("l{pair}"));
                let (call, unit) = (format!("c{pair}"), format!("g{pair}"));
                // Polled in turn: sometimes the one is ahead, sometimes the other.
                let record = mesh.record(&push.instance, &user, online(&login));
                let start = push.start(&call, &unit);
                if pair % 2 == 0 {
                    tokio::join!(record, start);
                } else {
                    tokio::join!(start, record);
                }
            }
        })
        .await;
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    while told.len() < PAIRS {
        match tap.next_order().await {
            PushOrder::Deliver(delivery) => *told.entry(delivery.id.to_string()).or_default() += 1,
            other => panic!("nothing ended: {other:?}"),
        }
    }
    // Of one partition all is stored in order: when every login's end is there, so is all that came before.
    let end_all = stream::iter(0..PAIRS).for_each_concurrent(32, |pair| {
        let (mesh, push) = (&mesh, &push);
        async move { mesh.record(&push.instance, &format!("u{pair}"), offline(&format!("l{pair}"))).await }
    });
    let collect = async {
        let mut ended = 0;
        while ended < PAIRS {
            match tap.next_order().await {
                PushOrder::Deliver(delivery) => *told.entry(delivery.id.to_string()).or_default() += 1,
                PushOrder::LoginEnded(_) => ended += 1,
                PushOrder::Withdraw(withdrawal) => panic!("no call ended: {withdrawal:?}"),
            }
        }
    };
    tokio::join!(collect, end_all);
    assert_eq!(told.len(), PAIRS, "each login was told of its call");
    assert!(told.values().all(|times| *times == 1), "each was stored once");
    push.engine.drain().await;
}

//! Named so that it starts first: it takes longest.

use std::time::Duration;

use pushmesh_protocol::name::Stream;

use super::{store::all_stored, *};

#[tokio::test]
async fn a_message_is_held_over_an_outage_of_15_seconds() {
    let (mut nats, bus) = mesh().await;
    nats.kill();
    tokio::time::timeout(SOON, bus.health().wait_for(|health| !health.connected)).await.unwrap().unwrap();
    let mut one = Box::pin(bus.store(numbered(1)));
    let mut batch = Box::pin(bus.store_all(&Stream::LOGIN, (10..20).map(numbered).collect()));
    let outage = tokio::time::timeout(Duration::from_secs(15), async { tokio::join!(&mut one, &mut batch) });
    assert!(outage.await.is_err(), "neither gives up");
    nats.restart().await;
    let (one, batch) = tokio::join!(one, batch);
    one.unwrap();
    assert!(batch.iter().all(Result::is_ok), "{batch:?}");
    assert_eq!(all_stored(&bus).await, [1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
}

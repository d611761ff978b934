//! Named so that it starts first: it takes longest.

use std::time::Duration;

use pushmesh_bus::{KvEvent, TakeOver, provision};
use pushmesh_protocol::{
    Kind,
    name::{Bucket, Key, KeyFilter, Stream},
};
use pushmesh_testkit::Cluster;

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

/// The node that leads the stream LOGIN.
async fn leader(url: &str) -> usize {
    let client = async_nats::connect(url.split(',').collect::<Vec<_>>()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("LOGIN").await.unwrap();
    let leader = stream.cached_info().cluster.clone().unwrap().leader.unwrap();
    leader.strip_prefix("node-").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_a_streams_leader_costs_no_message_and_no_order() {
    const COUNT: usize = 400;
    let mut cluster = Cluster::start(3).await;
    let mut config = Config::to(cluster.url());
    (config.outage_hold, config.kv_timeout) = (SOON, SOON);
    let bus = Bus::connect(&config, &token("tester"), &"t1".parse().unwrap()).await.unwrap();
    let topology = topology(&TopologyConfig {
        partitions: Partitions::new(2).unwrap(),
        kinds: vec![Kind::new("group").unwrap()],
        replicas: 3,
        ..TopologyConfig::default()
    });
    provision(&bus, &topology).await.unwrap();
    let kv = bus.bucket(&Bucket::SESSIONS).await.unwrap();
    let mut watch = kv.watch(KeyFilter::all()).await.unwrap();
    let revision = kv.create(&Key::mesh_info(), "before".into()).await.unwrap();
    let mut consumer = bus.take_partition(&Stream::LOGIN, Partition(1), TakeOver::Fresh).await.unwrap();

    let storing = tokio::spawn({
        let bus = bus.clone();
        async move {
            for number in 0..COUNT {
                bus.store(in_partition(Partition(1), number)).await.unwrap();
            }
        }
    });
    for expected in 0..COUNT {
        let delivered = tokio::time::timeout(SOON, consumer.next()).await.unwrap().unwrap();
        assert_eq!(number(&delivered.payload), expected);
        delivered.into_parts().1.ack();
        if expected == COUNT / 4 {
            let leader = leader(&cluster.url()).await;
            cluster.node(leader).kill();
        }
    }
    storing.await.unwrap();
    let updated = kv.update(&Key::mesh_info(), "after".into(), revision).await.unwrap();
    let told =
        async { while !matches!(watch.next().await.unwrap(), KvEvent::Put(entry) if entry.revision == updated) {} };
    tokio::time::timeout(SOON, told).await.unwrap();
}

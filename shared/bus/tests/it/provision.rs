use pushmesh_bus::{MeshInfoError, ProvisionError, mesh_info, provision};
use pushmesh_protocol::{
    Kind, Partitions,
    name::{Filter, Stream},
    topology::{RoomStream, Storage, TopologyConfig, topology},
};
use pushmesh_testkit::{Cluster, Nats};

use super::*;

#[tokio::test]
async fn provisioning_creates_once_and_tells_what_differs() {
    let nats = Nats::start().await;
    let bus = connect(&nats).await;
    assert_eq!(mesh_info(&bus).await, Err(MeshInfoError::NotProvisioned));

    let whole = topology(&TopologyConfig::default());
    let created = provision(&bus, &whole).await.unwrap();
    assert_eq!(created.created.len(), whole.streams.len() + whole.buckets.len() + whole.consumers.len() + 1);
    assert_eq!(mesh_info(&bus).await.unwrap().partitions.count(), 64);

    let again = provision(&bus, &whole).await.unwrap();
    assert_eq!((again.created.len(), &again.differs[..]), (0, &[][..]));
    assert_eq!(again.unchanged.len(), created.created.len());

    let bigger = topology(&TopologyConfig { stream_max_bytes: 1 << 20, ..TopologyConfig::default() });
    let differs = provision(&bus, &bigger).await.unwrap().differs;
    assert!(differs.iter().all(|difference| difference.field == "max_bytes"));
    let login = differs.iter().find(|difference| difference.what == "stream LOGIN").unwrap();
    assert_eq!((&*login.wanted, &*login.found), ("1048576", "1073741824"));
    assert_eq!(provision(&bus, &whole).await.unwrap().differs, [], "nothing was changed");

    let fewer = topology(&TopologyConfig { partitions: Partitions::new(8).unwrap(), ..TopologyConfig::default() });
    assert_eq!(provision(&bus, &fewer).await, Err(ProvisionError::Partitions { wanted: 8, found: 64 }));
}

#[tokio::test]
async fn streams_of_rooms_are_as_big_and_as_old_as_each_may_be() {
    let nats = Nats::start().await;
    let bus = connect(&nats).await;
    let of = |kib: u64, minutes: u64| RoomStream {
        max_bytes: Some(kib << 10),
        max_age: Some(Duration::from_secs(minutes * 60)),
    };
    let config = TopologyConfig {
        partitions: Partitions::new(1).unwrap(),
        kinds: vec![],
        room_high: of(100, 62),
        room_normal: of(200, 60),
        room_low: of(300, 2),
        ..TopologyConfig::default()
    };
    let small = topology(&config);
    assert_eq!(provision(&bus, &small).await.unwrap().differs, [], "the server takes the youngest there may be");
    let default = TopologyConfig { room_high: RoomStream::default(), ..config };
    let differs = provision(&bus, &topology(&default)).await.unwrap().differs;
    let told: Vec<_> = differs.iter().map(|found| (&*found.what, &*found.field, &*found.found)).collect();
    let age = (62u64 * 60 * 1_000_000_000).to_string();
    assert_eq!(told, [("stream ROOM_HIGH", "max_age", &*age), ("stream ROOM_HIGH", "max_bytes", "102400")]);
}

#[tokio::test]
async fn a_server_without_room_is_told_how_much_a_mesh_may_take() {
    let whole = topology(&TopologyConfig::default());
    let needed = whole.bounds(Storage::File);
    let nats = Nats::start_with(|options| options.max_file_store = needed / 2).await;
    let refused = provision(&connect(&nats).await, &whole).await.unwrap_err();
    let ProvisionError::NoRoom { file, memory, .. } = refused else { panic!("{refused}") };
    assert_eq!((file, memory), (needed, 0));

    let nats = Nats::start_with(|options| options.max_file_store = needed).await;
    provision(&connect(&nats).await, &whole).await.unwrap();
}

#[tokio::test]
async fn a_fourth_kind_is_added_and_a_missing_one_told() {
    let (_nats, bus) = mesh().await;
    let mut config = small_topology().config;
    config.kinds.push(Kind::new("squad").unwrap());
    let report = provision(&bus, &topology(&config)).await.unwrap();
    assert!(report.created.contains(&"kind squad".to_owned()), "{:?}", report.created);
    assert!(report.created.contains(&"stream DIR_squad".to_owned()));
    assert_eq!(mesh_info(&bus).await.unwrap().kinds.len(), 4);

    let without = provision(&bus, &small_topology()).await.unwrap();
    assert_eq!(without.differs.iter().map(|difference| &*difference.field).collect::<Vec<_>>(), ["kinds"]);
    assert_eq!(mesh_info(&bus).await.unwrap().kinds.len(), 4);
}

#[tokio::test]
async fn work_queues_have_a_live_tap() {
    let (_nats, bus) = mesh().await;
    let mut tap = bus.subscribe(Filter::tap(&Stream::LOGIN)).await.unwrap();
    bus.store(numbered(3)).await.unwrap();
    let message = tokio::time::timeout(SOON, tap.next()).await.unwrap().unwrap();
    assert_eq!(message.subject, "pm.v1.tap.login.pm.v1.login.record.3.u3");
    assert_eq!(message.payload, "3");
}

#[tokio::test]
async fn two_at_once_and_a_cluster_are_provisioned_too() {
    let cluster = Cluster::start(3).await;
    let config = pushmesh_bus::Config::to(cluster.url());
    let one = pushmesh_bus::Bus::connect(&config, &token("one"), &"t1".parse().unwrap()).await.unwrap();
    let two = pushmesh_bus::Bus::connect(&config, &token("two"), &"t1".parse().unwrap()).await.unwrap();
    let small = topology(&TopologyConfig {
        partitions: Partitions::new(2).unwrap(),
        kinds: vec![Kind::new("group").unwrap()],
        replicas: 3,
        ..TopologyConfig::default()
    });
    let (first, second) = tokio::join!(provision(&one, &small), provision(&two, &small));
    assert_eq!((first.unwrap().differs, second.unwrap().differs), (vec![], vec![]));
    let outcomes = one.store_all(&Stream::LOGIN, (0..100).map(|n| in_partition(Partition(1), n)).collect()).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

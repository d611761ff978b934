//! Messages of rooms that nobody can read: dead letters with their reason, once, and nobody else is disturbed.

use e2e::{Mesh, PATIENCE, Shape, Viewer, gift_key};
use pushmesh_bus::Outgoing;
use pushmesh_protocol::{
    Partition, Partitions, RoomId,
    frame::item,
    message::{DeadLetter, DeadReason},
    name::{MessageId, Subject},
    room::RoomMessage,
    wire,
};
use pushmesh_testkit::wait_for;

fn room(name: &str) -> RoomId {
    RoomId::new(name).expect("a room of a story")
}

/// The room's partition, and another room of it.
fn neighbours(mesh: &Mesh, name: &str) -> (Partition, String) {
    let partitions = Partitions::new(mesh.shape.partitions).expect("some");
    let here = partitions.of_room(&room(name));
    let other = (0..).map(|n| format!("next-door-{n}")).find(|other| partitions.of_room(&room(other)) == here);
    (here, other.expect("there is no end of names"))
}

/// As nobody of the mesh would.
async fn store(mesh: &Mesh, number: usize, subject: Subject, payload: Vec<u8>) {
    let id = MessageId::room(&room("nowhere"), None, &format!("strange-{number}").parse().expect("a token"));
    let outgoing = Outgoing { subject, payload: payload.into(), id, trace: None };
    mesh.bus().store(outgoing).await.expect("it is stored");
}

async fn dead_count(mesh: &Mesh, instances: usize) -> f64 {
    let mut sum = 0.0;
    for index in 0..instances {
        sum += mesh.metric("room-fanout", index, "pushmesh_room_fanout_dead_total").await;
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_is_a_dead_letter_once_and_disturbs_no_other_room_of_its_partition() {
    let mut mesh = Mesh::start(Shape::rooms()).await;
    let (partition, next_door) = neighbours(&mesh, "stage");
    let mut viewers = [Viewer::enter(&mesh, "ann", 0).await, Viewer::enter(&mesh, "bob", 1).await];
    viewers[0].join("stage").await;
    viewers[1].join(&next_door).await;
    let door = mesh.front(0);
    let (mut given, mut said) = (0, 0);
    let of = room("stage");
    // Another room than the subject says.
    let chat = RoomMessage {
        room: room("elsewhere"),
        kind: "chat".parse().expect("a token"),
        from: None,
        at: 0,
        data: "astray".into(),
        trace: None,
    };
    let strange = [
        (Subject::gift(partition, &of), b"garbage".to_vec()),
        (Subject::room_chat(partition, &of), wire::encode(&chat)),
        (Subject::room_event(partition, &of), b"".to_vec()),
    ];
    for (subject, payload) in strange.clone() {
        store(&mesh, said, subject, payload).await;
        for name in ["stage", &next_door] {
            assert!(door.gift(name, &gift_key(), "gil", 5).await.status.is_success());
            door.chat(name, &format!("s{said}"), "hello").await;
        }
        (given, said) = (given + 1, said + 1);
    }
    for (viewer, name) in viewers.iter_mut().zip(["stage", &next_door]) {
        viewer.expect_items(name, item::GIFT, given).await;
        viewer.expect_items(name, item::CHAT, said).await;
    }
    let letters = mesh.dead_letters(strange.len()).await;
    assert_eq!(letters.len(), strange.len(), "{letters:?}");
    for (subject, payload) in &strange {
        let is_its = |letter: &&DeadLetter| letter.subject == subject.to_string();
        let letter = letters.iter().find(is_its).unwrap_or_else(|| panic!("no letter of {subject}: {letters:?}"));
        assert_eq!((letter.reason, letter.service.as_str()), (DeadReason::Malformed, "room-fanout"));
        assert_eq!(letter.payload[..], payload[..]);
        assert!(!letter.detail.is_empty());
    }
    wait_for("the alarm", PATIENCE, async || match dead_count(&mesh, 2).await {
        3.0 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
    // Whoever owns the room next, killed or told to leave: it does not come again.
    mesh.kill("room-fanout", 0);
    mesh.add("room-fanout").await;
    for round in 0..2 {
        for name in ["stage", &next_door] {
            wait_for("a gift to be stored", PATIENCE, async || {
                let stored = door.gift(name, &gift_key(), "gil", 5).await;
                if stored.status.is_success() { Ok(()) } else { Err(format!("{stored:?}")) }
            })
            .await;
        }
        given += 1;
        for (viewer, name) in viewers.iter_mut().zip(["stage", &next_door]) {
            viewer.expect_items(name, item::GIFT, given).await;
        }
        if round == 0 {
            mesh.leave("room-fanout", 0).await;
        }
    }
    for (viewer, name) in viewers.iter().zip(["stage", &next_door]) {
        viewer.assert_in_order();
        assert!(viewer.gaps.is_empty(), "{:?}", viewer.gaps);
        assert_eq!(door.room(name).await["gifts_total"], serde_json::json!(5 * given));
    }
    assert_eq!(mesh.all_dead_letters().await.len(), strange.len());
    mesh.stop().await;
}

//! Rooms with many in them: who doesn't read, who comes and goes, and what the others notice of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pushmesh_protocol::{
    frame::{Chain, ClientFrame, Encoding, Leave, LeftReason, ServerFrame, item},
    room::{Audience, RoomClass, RoomFrame},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    sync::Barrier,
    task::JoinSet,
};

use crate::{harness::*, rooms::*};

const ROOM: &str = "crowded";

/// A client that the kernel holds little for.
async fn narrow(comet: &Comet, user: &str) -> Tcp {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = Tcp { stream: socket.connect(comet.tcp).await.unwrap() };
    client.send(&login(&format!("user:{user}"))).await;
    assert!(matches!(client.next().await, Some(ServerFrame::LoginOk(_))));
    client
}

/// Offsets of a chain, as they come, until the last one; and what a GAP said was missed of class normal.
async fn offsets(client: &mut Tcp, chain: Chain, last: u64) -> (Vec<u64>, u32) {
    let (mut offsets, mut missed) = (Vec::new(), 0);
    while offsets.last() != Some(&last) {
        match client.next().await {
            Some(ServerFrame::Room(room)) => {
                offsets.extend(room.items.iter().filter(|item| item.chain == chain).map(|item| item.offset));
            }
            Some(ServerFrame::Gap(gap)) => {
                assert_eq!(gap.room, Some(room_id(ROOM)));
                missed += gap.normal;
            }
            other => panic!("no ROOM but {other:?} after {:?}", offsets.last()),
        }
    }
    (offsets, missed)
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_who_do_not_read_are_no_harm_to_five_hundred_who_do() {
    let comet = Arc::new(Comet::start(config()));
    let (mut readers, mut stalled) = (Vec::new(), Vec::new());
    for number in 0..500 {
        readers.push(member(&comet, &format!("reader-{number}"), ROOM).await);
        let mut client = narrow(&comet, &format!("stalled-{number}")).await;
        enter(&comet, &mut client, ROOM).await;
        stalled.push(client);
    }
    comet.until_present(ROOM, (1000, 1000)).await;
    // What the kernel takes, what may wait, and more.
    let normal: Vec<_> = (1..=300).map(|offset| said(ROOM, Chain::Normal, item::STATE, offset, 2000)).collect();
    // As fast as those who read can.
    let all_have_it = Arc::new(Barrier::new(501));
    let mut reading = JoinSet::new();
    for mut client in readers {
        let all_have_it = all_have_it.clone();
        reading.spawn(async move {
            for step in 1..=6 {
                let (got, missed) = offsets(&mut client, Chain::Normal, 50 * step).await;
                assert_eq!((got, missed), ((50 * step - 49..=50 * step).collect(), 0));
                all_have_it.wait().await;
            }
            client
        });
    }
    for frames in normal.chunks(50) {
        for frame in frames {
            comet.broadcast(ROOM, RoomClass::Normal, vec![to_all(frame)], vec![]).await;
        }
        all_have_it.wait().await;
    }
    let mut readers = reading.join_all().await;
    // Who reads again learns exactly how much it missed, once it has caught up.
    for client in &mut stalled[..20] {
        let (mut got, mut missed) = (Vec::new(), 0);
        while missed == 0 {
            match client.next().await {
                Some(ServerFrame::Room(room)) => got.push(room.items[0].offset),
                Some(ServerFrame::Gap(gap)) => {
                    assert_eq!((gap.room, gap.high, gap.low), (Some(room_id(ROOM)), 0, 0));
                    missed += u64::from(gap.normal);
                }
                other => panic!("no ROOM but {other:?}"),
            }
        }
        assert!(got.is_sorted_by(|a, b| a < b), "{got:?}");
        assert_eq!(got.len() as u64 + missed, 300);
        assert_eq!(got.last(), Some(&300), "the oldest are dropped");
    }
    // What is worth too much to be dropped costs those who take nothing their connection.
    let mut caught_up: Vec<Tcp> = stalled.drain(..20).collect();
    let all_have_it = Arc::new(Barrier::new(521));
    let mut reading = JoinSet::new();
    for mut client in readers.drain(..).chain(caught_up.drain(..)) {
        let all_have_it = all_have_it.clone();
        reading.spawn(async move {
            for step in 1..=6 {
                let got = offsets(&mut client, Chain::High, 50 * step).await.0;
                assert_eq!(got, (50 * step - 49..=50 * step).collect::<Vec<_>>());
                all_have_it.wait().await;
            }
        });
    }
    for step in 0..6 {
        for offset in 1..=50 {
            comet.high(ROOM, &[said(ROOM, Chain::High, item::CHAT, 50 * step + offset, 100)]).await;
        }
        all_have_it.wait().await;
    }
    reading.join_all().await;
    let ended = |seen: &mut Seen| (seen.endings.len() >= 480).then_some(());
    comet.until("the end of those who read nothing", ended).await;
    drop(stalled);
}

#[tokio::test]
async fn who_reads_slowly_gets_the_newest_likes_and_no_old_ones() {
    let mut config = config();
    config.rooms.low_for = 5 * SOON;
    let comet = Comet::start(config);
    let mut slow = narrow(&comet, "slow").await;
    enter(&comet, &mut slow, ROOM).await;
    let mut quick = member(&comet, "quick", ROOM).await;
    let likes = |number: u64| RoomFrame {
        conflate: Some("likes".parse().unwrap()),
        ..to_all(&said(ROOM, Chain::Loose, item::LIKE, number, 4000))
    };
    for number in 1..=1000 {
        comet.broadcast(ROOM, RoomClass::Low, vec![likes(number)], vec![]).await;
        // Somebody who reads, so that none is merged before it gets to the sockets.
        if number % 10 == 0 {
            while !matches!(quick.next().await, Some(ServerFrame::Room(room)) if room.items[0].offset == number) {}
        }
    }
    let (mut got, mut last) = (0, 0);
    while last != 1000 {
        match slow.next().await {
            Some(ServerFrame::Room(room)) => {
                assert!(room.items[0].offset > last, "{} after {last}", room.items[0].offset);
                (got, last) = (got + 1, room.items[0].offset);
            }
            other => panic!("no ROOM but {other:?}"),
        }
    }
    assert!(got < 500, "{got} of 1000 got through");
    slow.send(&ClientFrame::Leave(Leave { room: room_id(ROOM) })).await;
    assert_eq!(slow.next().await, Some(left(ROOM, LeftReason::Left)), "what was merged is no gap");
}

#[tokio::test]
async fn what_is_old_and_of_class_low_is_not_sent_to_the_slow_and_they_are_told() {
    let mut config = config();
    config.shards = 1;
    config.rooms.low_for = Duration::from_millis(50);
    config.limits.backlog_bytes = 1 << 20;
    config.limits.backlog_messages = 1000;
    let comet = Comet::start(config);
    let mut slow = narrow(&comet, "slow").await;
    enter(&comet, &mut slow, ROOM).await;
    let mut quick = member(&comet, "quick", ROOM).await;
    // More than the kernel takes.
    let normal: Vec<_> =
        (1..=100).map(|offset| to_all(&said(ROOM, Chain::Normal, item::STATE, offset, 2000))).collect();
    comet.broadcast(ROOM, RoomClass::Normal, normal, vec![]).await;
    assert_eq!(offsets(&mut quick, Chain::Normal, 100).await.0.len(), 100);
    let low = (1..=10).map(|number| to_all(&said(ROOM, Chain::Loose, item::NOTE, number, 10))).collect();
    comet.broadcast(ROOM, RoomClass::Low, low, vec![]).await;
    assert_eq!(offsets(&mut quick, Chain::Loose, 10).await.0.len(), 10);
    let sent = Instant::now();
    pushmesh_testkit::wait_for("the low ones to grow old", SOON, || async {
        if sent.elapsed() > Duration::from_millis(200) { Ok(()) } else { Err("young") }
    })
    .await;
    let (mut normal, mut gap) = (0, None);
    while gap.is_none() {
        match slow.next().await {
            Some(ServerFrame::Room(room)) if room.items[0].chain == Chain::Normal => normal += 1,
            Some(ServerFrame::Gap(found)) => gap = Some(found),
            other => panic!("no ROOM but {other:?}"),
        }
    }
    let gap = gap.unwrap();
    assert_eq!((normal, gap.high, gap.normal, gap.low), (100, 0, 0, 10));
}

#[tokio::test]
async fn what_was_missed_waits_beside_the_backlog_and_what_is_too_much_is_said_to_be_lost() {
    let comet = Comet::start(config());
    let mut slow = narrow(&comet, "slow").await;
    let missed: Vec<_> = (1..=170).map(|offset| said("r", Chain::High, item::CHAT, offset, 1300)).collect();
    // Each answer is a quarter of a megabyte; the allowance is two of them.
    let rooms = ["a", "b", "c", "d"];
    for room in rooms {
        slow.send(&join(room)).await;
        let request = comet.asked().await;
        comet.answer(&request, false, 200, &missed).await;
    }
    comet.until_present("d", (1, 1)).await;
    for room in rooms {
        comet.high(room, &[chat(room, 201)]).await;
    }
    let (mut frames, mut whole, mut lost, mut live) = (0, 0, 0, 0);
    while live < 4 {
        match slow.next().await {
            Some(ServerFrame::Joined(joined)) if joined.recovered => whole += 1,
            Some(ServerFrame::Joined(_)) => lost += 1,
            Some(ServerFrame::Room(room)) if room.items[0].offset == 201 => live += 1,
            Some(ServerFrame::Room(_)) => frames += 1,
            other => panic!("no ROOM but {other:?}"),
        }
    }
    assert_eq!((frames, whole + lost), (170 * whole, 4));
    assert!(whole >= 2 && lost >= 1, "{whole} whole, {lost} lost");
}

/// A client by the protocol's rule: nothing twice, and no gap.
struct Reader {
    stream: TcpStream,
    last: u64,
}

impl Reader {
    async fn next(&mut self) -> ServerFrame {
        let length = self.stream.read_u32().await.unwrap();
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body).await.unwrap();
        ServerFrame::decode(Encoding::MessagePack, &body).unwrap()
    }

    fn take(&mut self, frame: &ServerFrame) {
        let ServerFrame::Room(room) = frame else { panic!("no ROOM but {frame:?}") };
        for item in &room.items {
            assert!(item.prev <= self.last, "a gap: {} after {}", item.offset, self.last);
            self.last = self.last.max(item.offset);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_anything_while_others_come_and_go() {
    let mut config = config();
    config.limits.joins_per_second = 1000;
    // The test's owner answers slowly.
    config.limits.backlog_messages = 10_000;
    config.limits.backlog_bytes = 4 << 20;
    let comet = Arc::new(Comet::start(config));
    let position = Arc::new(AtomicU64::new(0));
    // The room's owner.
    let (owner, at) = (comet.clone(), position.clone());
    let answering = tokio::spawn(async move {
        loop {
            let request = owner.asked().await;
            owner.answer(&request, request.user.as_str().ends_with("-0"), at.load(Ordering::SeqCst), &[]).await;
        }
    });
    let mut clients = JoinSet::new();
    for number in 0..60 {
        let (comet, position) = (comet.clone(), position.clone());
        clients.spawn(async move {
            let (client, _) = Tcp::login(&*comet, &format!("user:user-{number}")).await;
            let mut reader = Reader { stream: client.stream, last: 0 };
            // Some stay, some come and go every now and then.
            let stay = if number % 3 == 0 { 3000 } else { 20 + 7 * (number % 10) };
            while position.load(Ordering::SeqCst) < 3000 {
                let mut me = Tcp { stream: reader.stream };
                me.send(&join(ROOM)).await;
                reader = Reader { stream: me.stream, last: 0 };
                reader.last = loop {
                    match reader.next().await {
                        ServerFrame::Joined(joined) => break joined.position.high,
                        // Of the time before: it is behind LEFT.
                        ServerFrame::Room(_) => {}
                        other => panic!("no JOINED but {other:?}"),
                    }
                };
                let until = (reader.last + stay).min(3000);
                while reader.last < until {
                    let frame = reader.next().await;
                    reader.take(&frame);
                }
                let mut me = Tcp { stream: reader.stream };
                me.send(&ClientFrame::Leave(Leave { room: room_id(ROOM) })).await;
                reader = Reader { stream: me.stream, last: reader.last };
                loop {
                    match reader.next().await {
                        ServerFrame::Left(left) => break assert_eq!(left.reason, LeftReason::Left),
                        frame => reader.take(&frame),
                    }
                }
            }
        });
    }
    for offset in 1..=3000 {
        position.store(offset, Ordering::SeqCst);
        let frame = chat(ROOM, offset);
        let frames = match offset % 50 {
            // A frame for a part by itself: the others have it as well, by another one.
            0 => vec![
                to(Audience::Part { part: 0, of: 2 }, &frame),
                to(Audience::Part { part: 1, of: 2 }, &frame),
                to(Audience::Overseers, &frame),
            ],
            _ => vec![to_all(&frame)],
        };
        comet.broadcast(ROOM, RoomClass::High, frames, vec![]).await;
        if offset % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let all = tokio::time::timeout(5 * SOON, clients.join_all());
    all.await.expect("everybody gets everything in time");
    answering.abort();
    comet.until_present(ROOM, (0, 0)).await;
}

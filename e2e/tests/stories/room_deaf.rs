//! Members of a room who never read: what it costs them, and that it costs nobody else anything.

use e2e::{Front, Mesh, PATIENCE, Shape, Viewer, gift_key};
use futures_util::future::join_all;
use pushmesh_protocol::{Payload, frame::item};
use pushmesh_testkit::wait_for;
use serde_json::json;

const EACH: usize = 500;
const AT_ONCE: usize = 50;
/// Each by itself fills a frame of some 4 KB.
const NOTES: usize = 16;
const BOARDS: usize = 16;
const LIKES: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn those_who_do_not_read_lose_what_is_worth_least_first_and_harm_nobody_who_does() {
    // Only a full backlog drops anything or ends a connection here, however slow the machine is.
    let shape = Shape::rooms()
        .set("comet", "service.limits.per_address=20000")
        .set("comet", "service.limits.blocked_for=1h")
        .set("comet", "service.heartbeat.normal=1h")
        .set("comet", "service.rooms.low_for=1h")
        .set("room-fanout", "service.parts.max=1");
    let mesh = Mesh::start(shape).await;
    let (readers, deaf) = enter(&mesh).await;
    let mut stage = Stage { door: mesh.front(0), mesh: &mesh, readers, lines: 0, gifts: 0 };

    // More than the kernel takes, and what is worth less on top: it all waits.
    stage.say(30).await;
    stage.tell_what_is_worth_less().await;
    wait_for("likes to be merged for those who do not read", PATIENCE, async || {
        let merged = stage.dropped("low", "merged").await;
        if merged >= EACH as f64 { Ok(()) } else { Err(format!("{merged}")) }
    })
    .await;
    wait_for("what was told to be counted", PATIENCE, async || {
        let told = stage.delivered("normal").await;
        if told >= (EACH * BOARDS) as f64 { Ok(()) } else { Err(format!("{told}")) }
    })
    .await;
    assert_eq!([stage.dropped("low", "full").await, stage.dropped("normal", "full").await], [0.0, 0.0]);
    // From here on only those who read take anything of class high.
    let base = stage.delivered("high").await - (EACH * (stage.lines + stage.gifts)) as f64;

    // Until it is too much: first the low goes, …
    let mut low_went = false;
    loop {
        stage.say(4).await;
        stage.give().await;
        stage.counted(base).await;
        // In this order: what is counted later is seen later.
        let normal = stage.dropped("normal", "full").await;
        let low = stage.dropped("low", "full").await;
        let closed = stage.closed().await;
        assert!(low_went || low == 0.0 || normal == 0.0, "{normal} normal ones went as soon as {low} low ones did");
        low_went |= low > 0.0;
        assert!(normal == 0.0 || low >= NOTES as f64, "normal before low: {normal} and {low}");
        assert!(closed == 0.0 || low.min(normal) > 0.0, "{closed} closed with {low} low and {normal} normal dropped");
        if closed > 0.0 {
            break;
        }
        assert!(
            stage.lines < 400,
            "{} lines, {low} low and {normal} normal dropped, and nobody is too slow",
            stage.lines
        );
        assert_eq!(stage.dropped("high", "full").await, 0.0, "nothing high is dropped while a connection lasts");
    }
    // … then the normal, and then, with nothing but high left, the connection.
    while stage.closed().await < EACH as f64 {
        assert!(stage.lines < 400, "{} lines, and {} of {EACH} closed", stage.lines, stage.closed().await);
        stage.say(4).await;
        stage.give().await;
        stage.counted(base).await;
    }
    assert_eq!(stage.closed().await, EACH as f64, "and of those who read none");
    for (class, count) in [("low", NOTES), ("normal", BOARDS)] {
        let (full, closed) = (stage.dropped(class, "full").await, stage.dropped(class, "closed").await);
        assert!(full >= (EACH * count) as f64, "{full} {class} ones made room");
        assert!(closed <= EACH as f64, "{closed} {class} ones were left when the connections were given up");
    }
    assert!(stage.dropped("high", "closed").await > 0.0, "what waited is lost with its connection, and counted");

    let (lines, gifts) = (stage.lines, stage.gifts);
    println!("{lines} lines and {gifts} gifts until {EACH} were too slow");
    for viewer in &mut stage.readers {
        viewer.expect_items("stage", item::GIFT, gifts).await;
        viewer.expect_items("stage", item::CHAT, lines).await;
        viewer.assert_in_order();
        assert!(viewer.gaps.is_empty() && viewer.joined.len() == 1, "{} had no gap", viewer.name);
    }
    drop(deaf);
    mesh.stop().await;
}

async fn enter(mesh: &Mesh) -> (Vec<Viewer>, Vec<tokio::net::TcpStream>) {
    let (mut readers, mut deaf) = (Vec::new(), Vec::new());
    for first in (0..EACH).step_by(AT_ONCE) {
        let entering = (first..first + AT_ONCE).map(|number| async move {
            let mut viewer = Viewer::enter(mesh, &format!("reader-{number}"), 0).await;
            viewer.join("stage").await;
            (viewer, mute_socket(mesh, &format!("deaf-{number}"), "stage").await)
        });
        for (viewer, socket) in join_all(entering).await {
            readers.push(viewer);
            deaf.push(socket);
        }
    }
    (readers, deaf)
}

struct Stage<'a> {
    door: Front,
    mesh: &'a Mesh,
    readers: Vec<Viewer>,
    lines: usize,
    gifts: usize,
}

impl Stage<'_> {
    /// Says so many lines, and waits until everybody who reads has them.
    async fn say(&mut self, lines: usize) {
        let filling = "x".repeat(4000);
        for _ in 0..lines {
            self.door.chat("stage", &format!("s{}", self.lines), &format!("{} {filling}", self.lines)).await;
            self.lines += 1;
        }
        self.seen(item::CHAT, self.lines).await;
    }

    async fn give(&mut self) {
        assert!(self.door.gift("stage", &gift_key(), "gil", 1).await.status.is_success());
        self.gifts += 1;
        self.seen(item::GIFT, self.gifts).await;
    }

    async fn tell_what_is_worth_less(&mut self) {
        let data = "y".repeat(4000);
        for _ in 0..NOTES {
            let said = self.door.post("/v1/rooms/stage/notes", &json!({ "data": data })).await;
            assert!(said.status.is_success(), "{said:?}");
        }
        for _ in 0..BOARDS {
            let board = json!({ "type": "board", "data": data });
            let said = self.door.post("/v1/rooms/stage/messages", &board).await;
            assert!(said.status.is_success(), "{said:?}");
        }
        self.seen(item::NOTE, NOTES).await;
        self.seen("board", BOARDS).await;
        for likes in 1..=LIKES {
            assert_eq!(self.door.like("stage", "fan", 1).await, 1);
            self.seen(item::LIKE, likes).await;
        }
    }

    /// Everybody who reads has so many of this type; what they said is forgotten.
    async fn seen(&mut self, kind: &str, count: usize) {
        for viewer in &mut self.readers {
            viewer.expect_items("stage", kind, count).await;
            viewer.items.values_mut().flatten().for_each(|item| item.data = Payload::default());
        }
    }

    /// The comet has counted all that was said and given.
    async fn counted(&self, base: f64) {
        let all = base + (EACH * (self.lines + self.gifts)) as f64;
        wait_for("all of it to be counted", PATIENCE, async || {
            let told = self.delivered("high").await;
            if told >= all { Ok(()) } else { Err(format!("{told} of {all}")) }
        })
        .await;
    }

    async fn delivered(&self, class: &str) -> f64 {
        self.metric(&format!("pushmesh_comet_room_deliveries_total{{class=\"{class}\"}}")).await
    }

    async fn dropped(&self, class: &str, reason: &str) -> f64 {
        self.metric(&format!("pushmesh_comet_dropped_total{{class=\"{class}\",reason=\"{reason}\"}}")).await
    }

    async fn closed(&self) -> f64 {
        self.metric("pushmesh_comet_closed_total{reason=\"too_slow\"}").await
    }

    async fn metric(&self, name: &str) -> f64 {
        self.mesh.metric("comet", 0, name).await
    }
}

/// A connection over TCP that logs in, joins, and never reads again.
async fn mute_socket(mesh: &Mesh, user: &str, room: &str) -> tokio::net::TcpStream {
    use pushmesh_protocol::frame::{ClientFrame, Encoding, Join, Login, ServerFrame};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = mesh.door("comet", 0, "tcp");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(address.parse().expect("an address")).await.expect("the comet listens");
    let login = ClientFrame::Login(Login {
        token: mesh.client_token(user, None),
        device: "screen".parse().expect("a device"),
        resume: None,
        heartbeat: Default::default(),
    });
    let join = ClientFrame::Join(Join { room: room.parse().expect("a room"), resume: None });
    for frame in [login, join] {
        let bytes = frame.encode(Encoding::MessagePack);
        stream.write_all(&(bytes.len() as u32).to_be_bytes()).await.expect("written");
        stream.write_all(&bytes).await.expect("written");
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).await.expect("an answer");
        let answer = ServerFrame::decode(Encoding::MessagePack, &answer).expect("a frame");
        assert!(matches!(answer, ServerFrame::LoginOk(_) | ServerFrame::Joined(_)), "{answer:?}");
    }
    stream
}

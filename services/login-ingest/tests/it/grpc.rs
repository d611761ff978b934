use pushmesh_proto::v1::{LoginEvent, ReportRequest, report_response::Answer};
use pushmesh_protocol::message::{LoginEvent as Stored, OfflineCause};

use crate::ingest::{Ingest, online};

#[tokio::test(flavor = "multi_thread")]
async fn records_are_answered_and_stored_in_their_order() {
    let ingest = Ingest::start().await;
    let reports = (0..3000).map(|n| online(n, &format!("u{}", n % 50), &format!("l{n}")));
    let answers = ingest.report(reports.collect()).await.unwrap();
    for (n, answer) in answers.iter().enumerate() {
        let Answer::Accepted(accepted) = answer else { panic!("{n}: {answer:?}") };
        assert_eq!(accepted.login_id, format!("l{n}"));
    }
    assert_eq!(answers.len(), 3000);
    let mut last = std::collections::HashMap::new();
    for record in ingest.stored(3000).await {
        let Stored::Online { login_id, device } = record.event else { panic!("{record:?}") };
        assert_eq!(device.as_str(), "phone");
        let n: u64 = login_id.as_str()[1..].parse().unwrap();
        let before = last.insert(record.user, n);
        assert!(before.is_none_or(|before| before < n), "{n} came after {before:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_minted_and_repeats_are_stored_once() {
    let ingest = Ingest::start().await;
    let offline =
        |n, login_id: &str| ReportRequest { event: LoginEvent::Offline.into(), ..online(n, "alice", login_id) };
    let answers = ingest.report(vec![online(1, "alice", ""), online(2, "alice", ""), offline(3, "")]).await.unwrap();
    let [Answer::Accepted(first), Answer::Accepted(second), Answer::Accepted(third)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_ne!(first.login_id, second.login_id);
    assert_eq!(first.login_id.len(), 32);
    assert_eq!(third.login_id, "");
    // Said again, it is accepted again and stored once.
    let again = ingest.report(vec![online(4, "alice", &first.login_id), offline(5, "mine")]).await.unwrap();
    assert!(again.iter().all(|answer| matches!(answer, Answer::Accepted(_))), "{again:?}");
    let stored = ingest.stored(4).await;
    let Stored::Offline { login_id: None, device: Some(_), cause: OfflineCause::Reported } = &stored[2].event else {
        panic!("{stored:?}")
    };
    assert!(matches!(&stored[3].event, Stored::Offline { login_id: Some(id), .. } if id.as_str() == "mine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_is_refused_alone() {
    let ingest = Ingest::start().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let good = online(0, "alice", "");
    let user = |user: &str| ReportRequest { user: user.into(), ..good.clone() };
    let cases = [
        (user(""), "user", "is empty"),
        (user("a.b"), "user", "'.'"),
        (user("*"), "user", "'*'"),
        (user(">"), "user", "'>'"),
        (user("a b"), "user", "' '"),
        (user("a\r\nb"), "user", "'\\r'"),
        (user("$JS"), "user", "'$'"),
        (user(&"x".repeat(5000)), "user", "5000 bytes; the limit is 64"),
        (ReportRequest { device: "a.b".into(), ..good.clone() }, "device", "'.'"),
        (ReportRequest { login_id: ">".into(), ..good.clone() }, "login_id", "'>'"),
        (ReportRequest { event: 0, ..good.clone() }, "event", "neither online nor offline"),
        (ReportRequest { event: 99, ..good.clone() }, "event", "neither online nor offline"),
        (ReportRequest { at_ms: now + 120_000, ..good.clone() }, "at_ms", "the limit is 60 s"),
        (ReportRequest { at_ms: 1, ..good.clone() }, "at_ms", "7 days"),
    ];
    // Between any two bad ones a good one.
    let mut reports = vec![];
    for (n, (bad, ..)) in cases.iter().enumerate() {
        reports.push(ReportRequest { r#ref: 2 * n as u64, ..bad.clone() });
        reports.push(online(2 * n as u64 + 1, "alice", ""));
    }
    let answers = ingest.report(reports).await.unwrap();
    for (n, (bad, field, reason)) in cases.iter().enumerate() {
        let Answer::Refused(refused) = &answers[2 * n] else { panic!("{bad:?}: {:?}", answers[2 * n]) };
        assert_eq!(refused.field, *field);
        assert!(refused.reason.contains(reason), "{refused:?} should say {reason}");
        assert!(matches!(answers[2 * n + 1], Answer::Accepted(_)), "{:?}", answers[2 * n + 1]);
    }
    ingest.stored(cases.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_ends_its_stream_and_nothing_else() {
    let ingest = Ingest::start().await;
    let status = ingest.report(vec![online(0, "alice", ""), online(1, &"x".repeat(100_000), "")]).await.unwrap_err();
    assert!(status.message().contains("65536"), "{status:?}");
    assert!(ingest.report(vec![online(0, "alice", "")]).await.is_ok());
    ingest.stored(2).await;
}

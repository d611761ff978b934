use bytes::Bytes;
use pushmesh_protocol::{
    DeviceId, LoginId, UserId,
    message::{LoginAnswer, LoginAnswers, LoginEvent, LoginReport, LoginReports, OfflineCause, ReportedEvent},
    name::Subject,
    wire,
};

use crate::ingest::{Ingest, LONG};

fn report(user: &str, login_id: Option<&str>, event: ReportedEvent) -> LoginReport {
    LoginReport {
        user: UserId::new(user).unwrap(),
        device: Some(DeviceId::new("phone").unwrap()),
        login_id: login_id.map(|id| LoginId::new(id).unwrap()),
        event,
        at: 0,
        trace: None,
    }
}

async fn ask(ingest: &Ingest, request: Bytes) -> Vec<LoginAnswer> {
    let answer = ingest.bus.request(Subject::login_report(), request, LONG).await.unwrap();
    let LoginAnswers(answers) = wire::decode(&answer).unwrap();
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comets_reports_are_answered_in_their_order() {
    let ingest = Ingest::start().await;
    let reports = LoginReports(vec![
        report("alice", Some("l1"), ReportedEvent::Online),
        LoginReport { at: 1, ..report("alice", Some("l1"), ReportedEvent::Online) },
        report("alice", Some("l1"), ReportedEvent::Offline(OfflineCause::Timeout)),
        report("bob", None, ReportedEvent::Online),
    ]);
    let answers = ask(&ingest, wire::encode(&reports).into()).await;
    let accepted = |login_id: &str| LoginAnswer::Accepted { login_id: Some(LoginId::new(login_id).unwrap()) };
    assert_eq!(answers[0], accepted("l1"));
    assert!(matches!(&answers[1], LoginAnswer::Refused { field, .. } if field == "at_ms"), "{:?}", answers[1]);
    assert_eq!(answers[2], LoginAnswer::Accepted { login_id: None });
    assert!(matches!(&answers[3], LoginAnswer::Accepted { login_id: Some(id) } if id.as_str().len() == 32));
    let stored = ingest.stored(3).await;
    let causes = stored.iter().filter_map(|record| match record.event {
        LoginEvent::Offline { cause, .. } => Some(cause),
        LoginEvent::Online { .. } => None,
    });
    assert_eq!(causes.collect::<Vec<_>>(), [OfflineCause::Timeout]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_as_a_whole() {
    let ingest = Ingest::start().await;
    let good = wire::encode(&LoginReports(vec![report("alice", None, ReportedEvent::Online)]));
    let bombs: [&[u8]; 6] = [
        b"",
        b"\xc1",
        &good[..good.len() - 1],
        &[&good[..], b"\x00"].concat(),
        &[0x91; 5000],
        &[0xdd, 255, 255, 255, 255],
    ];
    for bomb in bombs {
        let answers = ask(&ingest, Bytes::copy_from_slice(bomb)).await;
        let [LoginAnswer::Refused { field, .. }] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(field, "request");
    }
    let many = LoginReports(vec![report("alice", None, ReportedEvent::Online); 5000]);
    let answers = ask(&ingest, wire::encode(&many).into()).await;
    let [LoginAnswer::Refused { reason, .. }] = &answers[..] else { panic!("{} answers", answers.len()) };
    assert!(reason.contains("5000 reports; the limit is 4096"), "{reason}");
    let answers = ask(&ingest, good.into()).await;
    assert!(matches!(answers[..], [LoginAnswer::Accepted { .. }]));
    assert_eq!(ask(&ingest, wire::encode(&LoginReports(vec![])).into()).await, []);
}

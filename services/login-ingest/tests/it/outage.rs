use pushmesh_proto::v1::report_response::Answer;
use pushmesh_testkit::wait_for;

use crate::ingest::{Ingest, LONG, online};

#[tokio::test(flavor = "multi_thread")]
async fn over_an_outage_a_record_is_unknown_and_said_again_it_is_stored_once() {
    let mut ingest = Ingest::start_with(&["nats.outage_hold=2s"], |_| {}).await;
    ingest.nats.kill();
    let answers = ingest.report(vec![online(0, "alice", "l0"), online(1, "alice", "")]).await.unwrap();
    for answer in &answers {
        let Answer::Unknown(unknown) = answer else { panic!("{answer:?}") };
        assert_eq!(unknown.retry_after_ms, 2000);
        assert!(unknown.reason.contains("away"), "{unknown:?}");
        assert!(!unknown.login_id.is_empty());
    }
    let Answer::Unknown(second) = &answers[1] else { unreachable!() };
    let response = ingest.post(r#"{"user":"alice","event":"online","login_id":"l2"}"#).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "2");
    ingest.nats.restart().await;
    let again = || vec![online(0, "alice", "l0"), online(1, "alice", &second.login_id), online(2, "alice", "l2")];
    wait_for("the broker to be back", LONG, || async {
        let answers = ingest.report(again()).await.map_err(|status| status.to_string())?;
        let accepted = answers.iter().all(|answer| matches!(answer, Answer::Accepted(_)));
        if accepted { Ok(()) } else { Err(format!("{answers:?}")) }
    })
    .await;
    ingest.report(vec![online(3, "alice", "last")]).await.unwrap();
    assert_eq!(ingest.stored(4).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_short_outage_a_record_is_held_and_stored() {
    let mut ingest = Ingest::start().await;
    ingest.nats.kill();
    let (answers, ()) = tokio::join!(ingest_report(&ingest.process, ingest.good_token()), async {});
    let waiting = answers;
    ingest.nats.restart().await;
    let answers = tokio::time::timeout(LONG, waiting).await.unwrap().unwrap();
    assert!(matches!(answers[..], [Answer::Accepted(_)]), "{answers:?}");
    ingest.stored(1).await;
}

/// Reports one record in the background.
async fn ingest_report(process: &pushmesh_testkit::Process, token: String) -> tokio::task::JoinHandle<Vec<Answer>> {
    let address = format!("http://{}", process.door("grpc"));
    tokio::spawn(async move {
        let mut client = pushmesh_proto::v1::login_ingest_client::LoginIngestClient::connect(address).await.unwrap();
        let request = crate::ingest::authorized(tokio_stream::iter([online(0, "alice", "l0")]), &token);
        let mut stream = client.report(request).await.unwrap().into_inner();
        let mut answers = vec![];
        while let Some(answer) = stream.message().await.unwrap() {
            answers.extend(answer.answer);
        }
        answers
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mesh_says_so_and_loses_nothing() {
    let ingest = Ingest::start_with(&[], |topology| topology.stream_max_bytes = 256 * 1024).await;
    let reports =
        |from: u64| (from..from + 500).map(|n| online(n, &format!("u{}", n % 50), &format!("l{n}"))).collect();
    let mut accepted = 0;
    let unknown = 'filling: loop {
        for answer in ingest.report(reports(accepted as u64)).await.unwrap() {
            match answer {
                Answer::Accepted(_) => accepted += 1,
                Answer::Unknown(unknown) => break 'filling unknown,
                Answer::Refused(refused) => panic!("{refused:?}"),
            }
        }
        assert!(accepted < 100_000, "it never fills");
    };
    assert!(unknown.reason.contains("full") && unknown.retry_after_ms > 0, "{unknown:?}");
    // A batch was too large for what was left; some records may still fit.
    let refused = loop {
        let body = format!(r#"{{"user":"late","event":"online","login_id":"late-{accepted}"}}"#);
        let response = ingest.post(body).await;
        if response.status() != 200 {
            break response;
        }
        accepted += 1;
        assert!(accepted < 100_000, "it never fills");
    };
    assert_eq!(refused.status(), 503);
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
    let line: serde_json::Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert!(line["unknown"]["retry_after_ms"].as_u64() > Some(0), "{line}");
    assert!(ingest.stored(accepted).await.len() >= accepted);
}

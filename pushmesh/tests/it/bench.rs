//! The benches, small: what they print is read by other tools.

use std::time::Duration;

use pushmesh_testkit::Process;
use serde_json::Value;

use crate::command::options;

/// Each has less than a minute on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(240);

async fn results(args: &[&str]) -> Value {
    let args: Vec<_> = args.iter().copied().chain(["--quick", "--json"]).collect();
    let mut process = Process::run(&args.join(" "), options(&args));
    process.expect_exit(0, PATIENCE).await;
    let stdout = process.stdout();
    let last = stdout.lines().last().unwrap_or_else(|| panic!("nothing printed: {}", process.stderr()));
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
}

fn above_zero(results: &Value, keys: &[&str]) {
    for key in keys {
        assert!(results[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {results}");
    }
}

#[tokio::test]
async fn logins_are_counted_beside_their_floor() {
    let results = results(&["bench", "login", "--clients", "60", "--window", "600ms"]).await;
    above_zero(&results, &["records_per_s", "ratio", "half_rate_p50_ms", "half_rate_p99_ms"]);
    assert_eq!((&results["lost"], &results["duplicated"]), (&0.into(), &0.into()), "{results}");
    let floors = results["jetstream_publish_per_s"].as_array().unwrap();
    assert!(floors.len() == 2 && floors.iter().all(|floor| floor.as_f64().unwrap() > 0.0), "{results}");
    assert!(results["workload"].as_str().unwrap().contains("60 WebSocket clients"), "{results}");
    assert!(results["fingerprint"]["kernel"].is_string(), "{results}");
}

#[tokio::test]
async fn a_storm_is_over_and_so_is_the_one_after_its_comet() {
    let results = results(&["bench", "storm", "--connections", "120"]).await;
    above_zero(&results, &["all_in_s", "echo_s", "failover_s"]);
    assert_eq!((&results["connections"], &results["records_through"]), (&120.into(), &120.into()), "{results}");
    assert_eq!((&results["lost"], &results["duplicated"]), (&0.into(), &0.into()), "{results}");
    assert!(results["listen_overflows"].is_u64(), "{results}");
    let peaks = results["peak_rss_mib"].as_object().unwrap();
    for service in ["comet", "ack-retry", "login-ingest", "distributor", "group-push", "nats-server"] {
        assert!(peaks[service].as_f64().unwrap() > 1.0, "{service} in {results}");
    }
}

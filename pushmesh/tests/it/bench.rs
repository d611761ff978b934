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

#[tokio::test]
async fn a_room_is_told_everything_and_its_ledger_is_exact() {
    let results = results(&["bench", "room", "--connections", "60", "--window", "800ms"]).await;
    assert_eq!(results["connections"], 60, "{results}");
    let loads = results["loads"].as_array().unwrap();
    assert_eq!(loads.iter().map(|load| &load["percent"]).collect::<Vec<_>>(), [50, 80, 150]);
    for load in loads {
        assert_eq!((&load["connections"], &load["ledger_exact"]), (&60.into(), &true.into()), "{results}");
        for class in ["gift", "high", "normal", "low"] {
            let of = &load[class];
            // A busy machine's owner of the room may change, and the next tells a sum of likes with the next like.
            assert!(of["lost"] == 0 || class == "low", "{class} in {results}");
            assert!(of["offered"].as_u64() >= of["accepted"].as_u64(), "{class} in {results}");
            above_zero(of, &["delivered", "p50_ms", "p99_ms", "p999_ms"]);
            assert!(of["merged"].is_u64() && of["dropped"].is_u64(), "{class} in {results}");
        }
    }
    assert_eq!(
        (&results["gift_storm"]["ledger_exact"], &results["gift_storm"]["per_s"]),
        (&true.into(), &200.0.into())
    );
    above_zero(&results, &["small_rooms_p99_ratio", "slow_clients_p99_ratio"]);
    assert!(results.get("cpu_ratio_100_per_s").is_some(), "{results}");
}

#[tokio::test]
async fn a_whole_room_is_told_and_every_frame_accounted_for() {
    let results = results(&["bench", "fanout", "--connections", "80,150", "--peers"]).await;
    let runs = results["runs"].as_array().unwrap();
    let of = |run: &Value| (run["transport"].as_str().unwrap().to_owned(), run["connections"].as_u64().unwrap());
    for transport in ["websocket", "tcp"] {
        for connections in [80, 150] {
            let both = runs.iter().filter(|run| of(run) == (transport.to_owned(), connections));
            let per_write: Vec<_> = both.clone().map(|run| run["messages_per_write"].as_u64().unwrap()).collect();
            assert_eq!(per_write, [1, 8], "{results}");
            both.for_each(|run| {
                above_zero(run, &["cpu_us_per_delivery", "floor_us_per_delivery", "ratio", "ratio_p25"]);
            });
        }
    }
    let overload = &results["overload"][0];
    above_zero(overload, &["messages_per_s", "connections", "deliveries_per_s", "p50_ms", "p99_ms", "decoded"]);
    assert_eq!(overload["dropped"], 0, "{results}");
    above_zero(&results, &["rss_bytes_per_idle_connection"]);
    let peers = results["peers"].as_array().unwrap();
    for name in ["pushmesh", "nats-server"] {
        let peer = peers.iter().find(|peer| peer["name"] == name).unwrap_or_else(|| panic!("{name} in {results}"));
        above_zero(peer, &["connections", "messages_per_s", "cpu_us_per_delivery", "p50_ms", "p99_ms"]);
        assert!(peer["rss_bytes_per_idle_connection"].is_number(), "{results}");
    }
}

#[tokio::test]
async fn growth_is_told_with_its_slopes() {
    let results = results(&["bench", "growth"]).await;
    for (part, sizes, services) in [
        ("connections", 3, &["comet", "ack-retry", "group-push", "nats-server"][..]),
        ("rooms", 3, &["comet", "room-fanout", "nats-server"]),
        ("pending", 2, &["ack-retry", "nats-server"]),
        ("memberships", 2, &["group-push", "nats-server"]),
    ] {
        let (rows, slopes) = (results[part]["rows"].as_array().unwrap(), &results[part]["slopes"]);
        assert_eq!(rows.len(), sizes, "{part} in {results}");
        for row in rows {
            above_zero(row, &["size"]);
            above_zero(&row["rss_mib"], services);
            assert!(services.iter().all(|service| row["cpu_ms_per_s"][service].is_number()), "{part} in {results}");
        }
        for (of, service) in ["rss", "cpu"].into_iter().flat_map(|of| services.iter().map(move |name| (of, name))) {
            let line = &slopes[of][service];
            assert!(
                ["per_one", "at_none", "r2"].iter().all(|key| line[key].is_number()),
                "{of} of {service} in {results}"
            );
        }
        if ["pending", "memberships"].contains(&part) {
            rows.iter().for_each(|row| above_zero(row, &["stored_per_s", "loaded_rss_mib", "take_over_s"]));
            assert!(slopes["take_over"]["per_one"].is_number(), "{part} in {results}");
        }
    }
}

//! Whoever asks for help is shown how.

use std::collections::BTreeSet;

use crate::command::run;

const COMMANDS: [&str; 29] = [
    "up",
    "provision",
    "demo",
    "replay",
    "token client",
    "token backend",
    "keys generate",
    "call start",
    "call end",
    "call list",
    "member add",
    "member remove",
    "member list",
    "push",
    "pending",
    "tail",
    "room join",
    "room say",
    "room info",
    "room state",
    "room role",
    "room kick",
    "room note",
    "room history",
    "room ranking",
    "gift",
    "like",
    "mute",
    "serve",
];
const SERVICES: [&str; 9] = [
    "login-ingest",
    "distributor",
    "group-push",
    "discuss-push",
    "org-push",
    "ack-retry",
    "api",
    "comet",
    "room-fanout",
];

#[tokio::test]
async fn every_command_helps_with_an_example() {
    for command in COMMANDS {
        let args: Vec<_> = command.split(' ').chain(["--help"]).collect();
        let done = run(&args).await;
        assert_eq!(done.code, 0, "{command}: {}", done.stderr);
        assert!(done.stdout.contains("Example"), "{command} --help shows no example");
    }
    let done = run(&["--help"]).await;
    assert!(done.stdout.contains("Example") && done.stdout.contains("Exit codes"));
}

#[tokio::test]
async fn serve_lists_the_services_and_each_helps() {
    let list = run(&["serve", "--help"]).await.stdout;
    for service in SERVICES {
        assert!(list.contains(service), "serve --help does not list {service}");
        let done = run(&["serve", service, "--help"]).await;
        assert_eq!(done.code, 0, "{service}: {}", done.stderr);
        assert!(done.stdout.contains("--check-config"), "{}", done.stdout);
        assert_eq!(run(&["serve", service, "--check-config"]).await.code, 0, "{service}'s defaults are good");
        if run(&["serve", service, "--print-config"]).await.stdout.contains("[service.door]") {
            let open = ["--insecure-local", "--set", "service.door.listen=0.0.0.0:0", "--check-config"];
            let done = run(&[&["serve", service], &open[..]].concat()).await;
            assert_eq!(done.code, 78, "{service} would open a door without tokens to everybody");
            assert!(done.stderr.contains("service.door.listen"), "{service}: {}", done.stderr);
        }
    }
    let listed = list.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: BTreeSet<_> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, SERVICES.into_iter().chain(["help"]).collect(), "{list}");
    assert_eq!(run(&["serve", "comet", "--set", "service.nonsense=1", "--check-config"]).await.code, 78);
}

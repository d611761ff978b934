//! What a machine can hold of how this repository is kept. Every check says how to mend what it finds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the workspace").to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn services() -> BTreeSet<String> {
    let folders = fs::read_dir(root().join("services")).expect("services/");
    folders.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8")).collect()
}

/// Our crates, with those of ours that each depends on; development dependencies apart.
fn crate_graph() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut graph = BTreeMap::new();
    for package in packages {
        let (mut normal, mut development) = (BTreeSet::new(), BTreeSet::new());
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let name = dependency["name"].as_str().unwrap_or_default();
            if ours.contains(name) {
                if dependency["kind"] == "dev" { &mut development } else { &mut normal }.insert(name.to_owned());
            }
        }
        graph.insert(package["name"].as_str().expect("a name").to_owned(), (normal, development));
    }
    graph
}

/// The text between `<!-- name -->` and `<!-- /name -->`.
fn section<'a>(document: &'a str, name: &str) -> &'a str {
    let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let start = document.find(&open).unwrap_or_else(|| panic!("ARCHITECTURE.md lacks {open}")) + open.len();
    let end = document.find(&close).unwrap_or_else(|| panic!("ARCHITECTURE.md lacks {close}"));
    document[start..end].trim()
}

#[test]
fn the_crate_graph_is_the_one_in_architecture_md() {
    let mut table = String::from("| crate | may use |\n|---|---|\n");
    for (name, (normal, _)) in crate_graph() {
        let uses: Vec<_> = normal.iter().map(|name| name.trim_start_matches("pushmesh-")).collect();
        table += &format!("| {} | {} |\n", name.trim_start_matches("pushmesh-"), uses.join(", "));
    }
    let architecture = read("ARCHITECTURE.md");
    let written = section(&architecture, "crate graph");
    assert_eq!(
        written,
        table.trim(),
        "\nthe crates' dependencies and ARCHITECTURE.md differ: drop the dependency, or replace the table by this one \
         and say why in the commit:\n\n{table}"
    );
}

#[test]
fn the_names_in_architecture_md_are_the_catalogue() {
    let table = pushmesh_protocol::catalogue::markdown();
    let architecture = read("ARCHITECTURE.md");
    assert_eq!(
        section(&architecture, "names"),
        table.trim(),
        "\nreplace the table of names in ARCHITECTURE.md by this one:\n\n{table}"
    );
}

#[test]
fn services_never_import_each_other() {
    let services = services();
    for service in &services {
        let graph = crate_graph();
        let (normal, _) = &graph[service];
        let others: Vec<_> = normal.intersection(&services).collect();
        assert!(others.is_empty(), "{service} imports {others:?}: talk over NATS, or move what is shared to shared/");
    }
}

#[test]
fn protocol_imports_nothing_of_ours_and_testkit_serves_tests_alone() {
    let graph = crate_graph();
    assert!(graph["pushmesh-protocol"].0.is_empty(), "shared/protocol imports nothing of ours: move the code up");
    for (name, (normal, _)) in &graph {
        assert!(
            name == "e2e" || !normal.contains("pushmesh-testkit"),
            "{name} uses testkit outside tests: make it a dev-dependency"
        );
    }
}

#[test]
fn only_the_bus_knows_async_nats() {
    for (path, text) in manifests() {
        assert!(
            path == root().join("Cargo.toml")
                || path.ends_with("shared/bus/Cargo.toml")
                || !text.contains("async-nats"),
            "{}: only shared/bus may use async-nats; ask it for what you need",
            path.display()
        );
    }
}

#[test]
fn every_service_has_what_a_service_must_have() {
    let owners = read("CODEOWNERS");
    let architecture = read("ARCHITECTURE.md");
    for service in services() {
        let folder = PathBuf::from("services").join(&service);
        for file in ["README.md", "config.example.toml", "src/lib.rs", "src/config.rs", "src/service.rs"] {
            assert!(
                root().join(&folder).join(file).is_file(),
                "{service} lacks {file}: see CONTRIBUTING.md, Adding a service"
            );
        }
        let main = read(folder.join("src/main.rs"));
        assert!(
            main.lines().count() <= 15,
            "{service}: main.rs is one expression, at most 15 lines; the rest is service.rs"
        );
        assert!(owners.contains(&format!("/services/{service}/")), "{service} has no line in CODEOWNERS: add its team");
        assert!(
            architecture.contains(&format!("| {service} |")),
            "{service} has no row in ARCHITECTURE.md's table of crates"
        );
        let parsed = sources().iter().any(|(path, text)| {
            path.starts_with(root().join(&folder).join("tests")) && text.contains("/config.example.toml")
        });
        assert!(parsed, "{service}: no test in its tests folder parses config.example.toml: write one that does");
        let readme = read(folder.join("README.md")).to_lowercase();
        for word in ["consumes", "produces", "owns", "guarantees", "dashboard", "team"] {
            assert!(readme.contains(word), "{service}: README.md does not say what it {word} (or its {word})");
        }
        assert!(
            read(folder.join("src/lib.rs")).starts_with("//!"),
            "{service}: lib.rs begins with the crate's doc: what for, consumes, produces, owns, guarantees"
        );
    }
}

#[test]
fn code_owners_own_what_is_there() {
    for line in read("CODEOWNERS").lines().filter(|line| line.starts_with('/')) {
        let path = line.split_whitespace().next().unwrap_or_default();
        assert!(
            root().join(path.trim_matches('/')).exists(),
            "CODEOWNERS names {path}, which is not there: drop its line"
        );
    }
}

#[test]
fn versions_and_lints_stand_once() {
    for (path, text) in manifests() {
        if path == root().join("Cargo.toml") {
            continue;
        }
        let name = path.display();
        assert!(text.contains("[lints]\nworkspace = true"), "{name}: add [lints] workspace = true");
        let versioned = |line: &&str| ["version = \"", " = \"0.", " = \"1."].iter().any(|mark| line.contains(mark));
        if let Some(line) = text.lines().find(versioned) {
            panic!("{name}: `{line}` names a version: put it into [workspace.dependencies], write `workspace = true`");
        }
    }
}

#[test]
fn files_are_one_noun_each() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "{}: {lines} lines; split it, one file for each noun or message", path.display());
    }
}

#[test]
fn nothing_is_banned_that_stands_here() {
    // Written so that this file does not find itself.
    let bans = [
        ("#[ignore", "mend the test or delete it"),
        ("todo!(", "write it, or leave the feature out"),
        ("unimplemented!(", "write it, or leave the feature out"),
        ("allow(dead_code", "delete what is not used"),
        ("allow(unused", "delete what is not used"),
    ];
    for (path, text) in sources() {
        if path.ends_with("e2e/tests/tidy.rs") {
            continue;
        }
        for (ban, instead) in bans {
            assert!(!text.contains(ban), "{}: {ban}…: {instead}", path.display());
        }
        let test = path.components().any(|part| part.as_os_str() == "tests");
        assert!(
            !test || !["::sleep(", " sleep("].iter().any(|call| text.contains(call)),
            "{}: a test must not sleep: wait for the event with pushmesh_testkit::wait_for",
            path.display()
        );
    }
}

#[test]
fn metric_names_are_well_formed_and_unique() {
    let mut seen = BTreeSet::new();
    for (path, text) in sources() {
        if !path.starts_with(root().join("shared/protocol/src/metric")) {
            continue;
        }
        for name in text.split("name: \"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let good = name.starts_with("pushmesh_")
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            assert!(good, "{}: {name}: metrics are named pushmesh_<crate>_<what>_<unit>", path.display());
            assert!(!name.ends_with("_ms"), "{}: {name}: use seconds", path.display());
            assert!(seen.insert(name.to_owned()), "{}: {name} stands twice", path.display());
        }
    }
    assert!(seen.len() > 20, "no metrics found: has shared/protocol/src/metric moved?");
}

fn manifests() -> Vec<(PathBuf, String)> {
    files(&["toml"]).into_iter().filter(|(path, _)| path.ends_with("Cargo.toml")).collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    files(&["rs"])
}

fn files(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e)) {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no files found below {}", root().display());
    found
}

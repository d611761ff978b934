//! SIGHUP: the settings are read again, and what can change under a running service does.

use std::collections::BTreeSet;

use clap::ArgMatches;
use pushmesh_telemetry::Telemetry;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::{cli::read, service::Service};

/// What the running service was started with, and where its changes go.
pub(crate) struct Reloader {
    matches: ArgMatches,
    /// The settings as they were read: whatever differs later takes effect at the next start.
    running: Value,
    telemetry: Telemetry,
    keys: watch::Sender<()>,
}

impl Reloader {
    /// Also the channel that tells when the key file is to be looked at.
    pub(crate) fn new(matches: ArgMatches, running: Value, telemetry: Telemetry) -> (Self, watch::Receiver<()>) {
        let (keys, keys_now) = watch::channel(());
        (Self { matches, running, telemetry, keys }, keys_now)
    }

    /// Applies the log level and looks at the key file; names what has to wait. Bad settings change nothing but the keys,
    /// which don't stand in them.
    pub(crate) fn reload<S: Service>(&self) {
        self.keys.send_replace(());
        let settings = match read::<S>(&self.matches) {
            Ok(settings) => settings,
            Err(error) => return tracing::error!(%error, "SIGHUP: the settings are bad, the old ones stay"),
        };
        // As at the start.
        let given = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
        let log = given.as_ref().unwrap_or(&settings.telemetry.log);
        match self.telemetry.set_log_level(log) {
            Ok(()) => tracing::info!(log, "SIGHUP: the settings are read again"),
            Err(error) => tracing::error!(%error, "SIGHUP: the log level stays"),
        }
        let values = match serde_json::to_value(&settings) {
            Ok(values) => values,
            Err(error) => return tracing::error!(%error, "SIGHUP: the settings can't be compared"),
        };
        let mut later = changed("", &self.running, &values);
        later.retain(|key| key != "telemetry.log");
        if !later.is_empty() {
            let settings = later.join(", ");
            tracing::warn!(settings, "SIGHUP: these differ from what runs, and take effect at the next start");
        }
    }
}

/// The keys, in dots, whose values differ.
fn changed(at: &str, before: &Value, after: &Value) -> Vec<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            let value = |of: &Map<String, Value>, key: &String| of.get(key).cloned().unwrap_or_default();
            let within = |key: &String| if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            keys.into_iter().flat_map(|key| changed(&within(key), &value(before, key), &value(after, key))).collect()
        }
        _ if before == after => vec![],
        _ => vec![at.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_told_by_its_key() {
        let before =
            json!({"nats": {"url": "a", "prefetch": 1}, "service": {"door": {"listen": "x"}}, "mesh": {"weight": 1}});
        let after = json!({"nats": {"url": "b", "prefetch": 1}, "service": {"door": {}}, "mesh": {"weight": 1}});
        assert_eq!(changed("", &before, &after), ["nats.url", "service.door.listen"]);
        assert_eq!(changed("", &before, &before), Vec::<String>::new());
    }
}

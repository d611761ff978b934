//! The typed specs in the words of the JetStream API. Pure.

use pushmesh_protocol::{
    name::{Filter, KeyFilter, Stream},
    topology::{BucketSpec, ConsumerSpec, PIN_GROUP, Retention, Storage, StreamSpec, WhenFull},
};
use serde_json::{Value, json};

use crate::{api::subject, ordered::nanos};

/// How long a bucket knows the ids of conditional writes: longer than such a write is tried.
const BUCKET_DUPLICATE_WINDOW_SECS: u64 = 30;
/// Watches of one bucket, of all clients.
const BUCKET_WATCHES_MAX: u32 = 100_000;

pub(super) fn stream(spec: &StreamSpec) -> Value {
    let mut config = json!({
        "name": spec.name.as_str(),
        "subjects": [spec.subject.as_str()],
        "retention": match spec.retention {
            Retention::WorkQueue => "workqueue",
            Retention::Limits => "limits",
        },
        "storage": storage(spec.storage),
        "discard": match spec.when_full {
            WhenFull::Refuse => "new",
            WhenFull::DropOldest => "old",
        },
        "max_bytes": spec.max_bytes,
        "max_msgs": -1,
        "max_msg_size": -1,
        "max_age": spec.max_age.map_or(0, nanos),
        "max_msgs_per_subject": spec.max_messages_per_subject.map_or(-1, i64::from),
        "max_consumers": spec.max_consumers,
        "num_replicas": spec.replicas,
        "duplicate_window": nanos(spec.duplicate_window),
        "allow_direct": true,
        "allow_atomic": true,
        "allow_msg_ttl": true,
    });
    if spec.tap {
        config["republish"] = json!({ "src": ">", "dest": Filter::tap(&spec.name).as_str() });
    }
    config
}

pub(super) fn bucket(spec: &BucketSpec) -> Value {
    json!({
        "name": Stream::of_bucket(&spec.name).as_str(),
        "subjects": [subject::keys(&spec.name, KeyFilter::all().as_str())],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_bytes": spec.max_bytes,
        "max_msgs": -1,
        "max_msg_size": -1,
        "max_age": 0,
        "max_msgs_per_subject": 1,
        "max_consumers": BUCKET_WATCHES_MAX,
        "num_replicas": spec.replicas,
        "duplicate_window": BUCKET_DUPLICATE_WINDOW_SECS * 1_000_000_000,
        "allow_direct": true,
        "allow_atomic": true,
        "allow_rollup_hdrs": true,
        "deny_delete": true,
        "deny_purge": false,
        "allow_msg_ttl": true,
        "subject_delete_marker_ttl": nanos(spec.marker_lifetime),
    })
}

pub(super) fn consumer(spec: &ConsumerSpec) -> Value {
    json!({
        "name": spec.name.as_str(),
        "durable_name": spec.name.as_str(),
        "filter_subject": spec.filter.as_str(),
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_policy": "explicit",
        "ack_wait": nanos(spec.ack_wait),
        "max_deliver": -1,
        "max_ack_pending": spec.max_ack_pending,
        "max_waiting": 512,
        "num_replicas": spec.replicas,
        "priority_policy": "pinned_client",
        "priority_groups": [PIN_GROUP],
        "priority_timeout": nanos(spec.pin_timeout),
    })
}

fn storage(storage: Storage) -> &'static str {
    match storage {
        Storage::File => "file",
        Storage::Memory => "memory",
    }
}

/// The fields of `wanted` that `found` has otherwise: (field, wanted, found). A field that the server leaves out has its
/// zero value.
pub(super) fn differences(wanted: &Value, found: &Value) -> Vec<(String, String, String)> {
    let zero = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    };
    let fields = wanted.as_object().into_iter().flatten();
    fields
        .filter_map(|(field, wanted)| {
            let found = found.get(field).unwrap_or(&Value::Null);
            let same = match (wanted, found) {
                (Value::Object(_), Value::Object(_)) => differences(wanted, found).is_empty(),
                _ => wanted == found || (zero(wanted) && zero(found)),
            };
            (!same).then(|| (field.clone(), wanted.to_string(), found.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_leaves_out_is_zero() {
        let wanted = json!({ "max_age": 0, "discard": "new", "republish": { "src": ">", "dest": "x.>" } });
        assert_eq!(differences(&wanted, &wanted), []);
        let found = json!({ "discard": "old", "republish": { "src": ">", "dest": "x.>", "headers_only": false } });
        assert_eq!(differences(&wanted, &found), [("discard".to_owned(), "\"new\"".to_owned(), "\"old\"".to_owned())]);
    }
}

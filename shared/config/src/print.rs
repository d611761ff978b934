//! A configuration shown to people: redacted, as TOML, and its schema.

use serde::Serialize;
use serde_json::{Map, Value};

/// What stands in place of a secret.
const REDACTED: &str = "redacted";

/// The value as JSON, with user and password of every URL replaced, and so every text whose key sounds like a
/// secret and does not end in `_file`.
pub fn redacted<T: Serialize>(value: &T) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(value)?;
    redact("", &mut value);
    Ok(value)
}

fn redact(key: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| redact(key, value)),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(key, item)),
        Value::String(text) if sounds_secret(key) => *text = REDACTED.to_owned(),
        Value::String(text) if text.contains("://") => {
            // A list of URLs is one text with commas.
            *text = text.split(',').map(without_user).collect::<Vec<_>>().join(",");
        }
        _ => {}
    }
}

fn sounds_secret(key: &str) -> bool {
    let secret = ["password", "secret", "token", "seed", "credentials", "private_key"];
    !key.ends_with("_file") && secret.iter().any(|word| key.contains(word))
}

fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_ends].rfind('@') {
        Some(at) => format!("{scheme}://{REDACTED}@{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// A JSON object as TOML that reads back as the same values; nulls are left out.
pub fn to_toml(value: &Value) -> String {
    let mut out = String::new();
    if let Value::Object(fields) = value {
        table("", fields, &mut out);
    }
    out
}

fn table(path: &str, fields: &Map<String, Value>, out: &mut String) {
    for (key, value) in fields.iter().filter(|(_, value)| !value.is_object() && !value.is_null()) {
        out.push_str(&format!("{} = {}\n", bare(key), inline(value)));
    }
    for (key, value) in fields {
        if let Value::Object(inner) = value {
            let path = if path.is_empty() { bare(key) } else { format!("{path}.{}", bare(key)) };
            out.push_str(&format!("\n[{path}]\n"));
            table(&path, inner, out);
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let fields: Vec<_> = fields.map(|(key, value)| format!("{} = {}", bare(key), inline(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        // TOML's basic strings have JSON's escapes.
        other => other.to_string(),
    }
}

fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if plain { key.to_owned() } else { Value::from(key).to_string() }
}

/// The JSON schema of a configuration.
pub fn schema<T: schemars::JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// The tables of a schema that would let a mistyped key pass: for tests, which want none.
pub fn lenient_tables(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect_lenient("", schema, &mut found);
    found
}

fn collect_lenient(path: &str, schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if fields.get("properties").is_some_and(Value::is_object) && !fields.contains_key("additionalProperties") {
                found.push(if path.is_empty() { "the root".to_owned() } else { path.to_owned() });
            }
            fields.iter().for_each(|(key, inner)| collect_lenient(&format!("{path}/{key}"), inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect_lenient(path, inner, found)),
        _ => {}
    }
}

//! What is wrong with a configuration, so that it can be mended without reading code.

use std::fmt;

/// Everything that is wrong, in the order found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key in dots, `nats.url`; empty if it is about a whole layer.
    pub key: String,
    /// Where it stands: `file /etc/x.toml`, `environment variable PUSHMESH_NATS__URL`, `--set nats.url`, or `the defaults`.
    pub source: String,
    /// What is wrong, and what was expected.
    pub reason: String,
}

/// A value that is well-formed and still makes no sense: what `validate` of a configuration returns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct FieldError {
    /// The key in dots, relative to the value that was validated.
    pub field: String,
    /// Reads on from the field: "must be at least 1".
    pub reason: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    /// The same error seen from one table above.
    #[must_use]
    pub fn within(mut self, table: &str) -> Self {
        self.field = format!("{table}.{}", self.field);
        self
    }
}

impl ConfigError {
    pub(crate) fn one(key: &str, source: &str, reason: impl Into<String>) -> Self {
        Self { problems: vec![Problem { key: key.to_owned(), source: source.to_owned(), reason: reason.into() }] }
    }
}

impl From<FieldError> for ConfigError {
    fn from(error: FieldError) -> Self {
        Self { problems: vec![Problem { key: error.field, source: String::new(), reason: error.reason }] }
    }
}

impl From<figment::Error> for ConfigError {
    fn from(error: figment::Error) -> Self {
        Self { problems: error.into_iter().map(Problem::from).collect() }
    }
}

impl From<figment::Error> for Problem {
    fn from(error: figment::Error) -> Self {
        use figment::error::Kind;
        let mut path = error.path.clone();
        let reason = match &error.kind {
            Kind::UnknownField(field, expected) => {
                // figment says the field in the path only where it stands in a layer.
                if path.last() != Some(field) {
                    path.push(field.clone());
                }
                format!("is unknown; expected {}", one_of(expected))
            }
            Kind::MissingField(field) => {
                path.push(field.to_string());
                "is missing".to_owned()
            }
            Kind::InvalidType(found, expected) => format!("has the wrong type: found {found}, expected {expected}"),
            Kind::InvalidValue(found, expected) => format!("has a wrong value: found {found}, expected {expected}"),
            Kind::UnknownVariant(found, expected) => format!("is {found:?}; expected {}", one_of(expected)),
            Kind::Message(message) => message.clone(),
            other => other.to_string(),
        };
        let source = error.metadata.as_ref().map_or("the defaults", |metadata| metadata.name.as_ref());
        Self { key: path.join("."), source: source.to_owned(), reason }
    }
}

fn one_of(expected: &[&str]) -> String {
    match expected {
        [] => "no key at all".to_owned(),
        [only] => format!("`{only}`"),
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(|name| format!("`{name}`")).collect();
            format!("{} or `{last}`", most.join(", "))
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.key.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.key, self.reason)?;
        if self.source.is_empty() { Ok(()) } else { write!(f, " (in {})", self.source) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

//! The layers, from the weakest to the strongest.

use std::path::Path;

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};
use serde::de::DeserializeOwned;

use crate::error::ConfigError;

/// Variables of the environment that are configuration begin so, and have a `__`.
pub const ENV_PREFIX: &str = "PUSHMESH_";

/// Where a configuration comes from. Add the layers in their order: the later one wins.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    figment: Figment,
}

/// One layer: values, and the name under which errors speak of it.
struct Layer {
    name: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

impl Layers {
    /// Nothing but the defaults of the types.
    pub fn new() -> Self {
        Self::default()
    }

    /// A TOML file that must exist.
    pub fn file(self, path: &Path) -> Result<Self, ConfigError> {
        let name = format!("file {}", path.display());
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::one("", &name, format!("can't be read: {error}")))?;
        self.toml(&text, &name)
    }

    /// TOML text, spoken of as `name` in errors.
    pub fn toml(self, text: &str, name: &str) -> Result<Self, ConfigError> {
        let values = <Toml as Format>::from_str::<Dict>(text)
            .map_err(|error| ConfigError::one("", name, format!("is not TOML: {}", error.to_string().trim_end())))?;
        Ok(self.layer(name.to_owned(), values))
    }

    /// The process's environment.
    pub fn environment(self) -> Self {
        self.variables(
            std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// Variables as given: those that begin with [`ENV_PREFIX`] and have a `__` count.
    pub fn variables(self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut ours: Vec<_> = variables
            .into_iter()
            .filter_map(|(name, value)| {
                let key = name.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase();
                key.contains("__").then(|| (name, key.replace("__", "."), value))
            })
            .collect();
        ours.sort();
        ours.into_iter().fold(self, |layers, (name, key, text)| {
            layers.layer(format!("environment variable {name}"), nested(&key, value(&text)))
        })
    }

    /// One `a.b=c` of a flag.
    pub fn set(self, assignment: &str) -> Result<Self, ConfigError> {
        let (key, text) = assignment
            .split_once('=')
            .ok_or_else(|| ConfigError::one(assignment, "--set", "has no value; expected a.b=c"))?;
        let key = key.trim();
        if key.is_empty() || key.split('.').any(str::is_empty) {
            return Err(ConfigError::one(key, "--set", "has an empty name; expected a.b=c"));
        }
        Ok(self.layer(format!("--set {key}"), nested(key, value(text))))
    }

    /// The whole, typed. Texts that are numbers or booleans pass as such where one is expected.
    pub fn load<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.figment.extract_lossy().map_err(ConfigError::from)
    }

    fn layer(self, name: String, values: Dict) -> Self {
        Self { figment: self.figment.merge(Layer { name, values }) }
    }
}

fn nested(key: &str, value: Value) -> Dict {
    figment::util::nest(key, value).into_dict().expect("a key with a name nests into a table")
}

// Only lists and tables are read as TOML; everything else is a text until its type is known, so that an id of
// digits stays an id.
fn value(text: &str) -> Value {
    let trimmed = text.trim();
    if trimmed.starts_with(['[', '{']) {
        let parsed = <Toml as Format>::from_str::<Dict>(&format!("value = {trimmed}"));
        if let Some(value) = parsed.ok().and_then(|mut table| table.remove("value")) {
            return value;
        }
    }
    Value::from(text)
}

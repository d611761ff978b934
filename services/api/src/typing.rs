//! Types of messages, and the class of each. Pure.

use std::collections::BTreeMap;

use pushmesh_boot::FieldError;
use pushmesh_protocol::{Token, frame::item, room::RoomClass};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// Which class messages of a type have.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TypesConfig {
    /// By type: high, normal or low. Default none: chat and danmaku are high unless they stand here.
    pub classes: BTreeMap<Token, RoomClass>,
    /// The class of all others; "refused" takes none. Default normal.
    pub others: Others,
}

/// What becomes of types that are not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Others {
    High,
    #[default]
    Normal,
    Low,
    Refused,
}

/// High by themselves.
const SPEECH: [&str; 2] = [item::CHAT, item::DANMAKU];

impl TypesConfig {
    pub fn validate(&self) -> Result<(), FieldError> {
        match self.classes.keys().find(|kind| is_reserved(kind)) {
            Some(kind) => Err(FieldError::new(format!("types.classes.{kind}"), "is a type that only the mesh makes")),
            None => Ok(()),
        }
    }

    /// The class of a type that somebody sends.
    pub fn class(&self, kind: &Token) -> Result<RoomClass, Refusal> {
        if is_reserved(kind) {
            let reason = format!("is {kind}, which only the mesh makes, or which has an operation of its own");
            return Err(Refusal::invalid("type", reason));
        }
        match (self.classes.get(kind), self.others) {
            (Some(class), _) => Ok(*class),
            (None, _) if SPEECH.contains(&kind.as_str()) => Ok(RoomClass::High),
            (None, Others::High) => Ok(RoomClass::High),
            (None, Others::Normal) => Ok(RoomClass::Normal),
            (None, Others::Low) => Ok(RoomClass::Low),
            (None, Others::Refused) => {
                let known: Vec<_> = SPEECH.into_iter().chain(self.classes.keys().map(Token::as_str)).collect();
                Err(Refusal::invalid("type", format!("is {kind}, which is not known; known are {}", known.join(", "))))
            }
        }
    }
}

fn is_reserved(kind: &Token) -> bool {
    item::RESERVED.contains(&kind.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(kind: &str) -> Token {
        Token::new(kind).unwrap()
    }

    #[test]
    fn chat_is_high_the_meshs_own_are_nobodys_and_the_rest_is_configuration() {
        let mut types = TypesConfig::default();
        let class = |types: &TypesConfig, kind: &str| types.class(&token(kind)).map_err(|refusal| refusal.message);
        assert_eq!(class(&types, "chat"), Ok(RoomClass::High));
        assert_eq!(class(&types, "wave"), Ok(RoomClass::Normal));
        for reserved in item::RESERVED {
            assert!(class(&types, reserved).unwrap_err().starts_with("type is "), "{reserved}");
        }
        types.classes.insert(token("wave"), RoomClass::Low);
        assert_eq!(class(&types, "wave"), Ok(RoomClass::Low));
        types.others = Others::Refused;
        assert!(class(&types, "poke").unwrap_err().contains("known are chat, danmaku, wave"));
        types.validate().unwrap();
        types.classes.insert(token("gift"), RoomClass::Low);
        assert_eq!(types.validate().unwrap_err().field, "types.classes.gift");
    }
}

//! Identifiers. Whatever comes from outside and enters a name is a [`Token`].

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest [`Token`], in bytes.
pub const TOKEN_MAX_BYTES: usize = 64;
/// Most levels a [`Unit`] may have.
pub const UNIT_MAX_LEVELS: usize = 16;
/// Longest [`Unit`], in bytes with its separators.
pub const UNIT_MAX_BYTES: usize = 512;

/// 1 to 64 characters of `A-Z a-z 0-9 _ -`: safe as one token of a NATS subject and of a key.
///
/// Cloning is a reference count. There is no way to a `Token` that skips the check.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(Arc<str>);

/// Why a text is no [`Token`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("is empty; it must have 1 to {TOKEN_MAX_BYTES} characters of A-Z a-z 0-9 _ -")]
    Empty,
    #[error("has {0} bytes; the limit is {TOKEN_MAX_BYTES}")]
    TooLong(usize),
    #[error("has {found:?} at byte {at}; only A-Z a-z 0-9 _ - are allowed")]
    Character { found: char, at: usize },
}

impl Token {
    /// Checks `text` and takes it.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.len() > TOKEN_MAX_BYTES {
            return Err(TokenError::TooLong(text.len()));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        match text.char_indices().find(|(_, c)| !(c.is_ascii() && allowed(*c as u8))) {
            Some((at, found)) => Err(TokenError::Character { found, at }),
            None => Ok(Self(Arc::from(text))),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl FromStr for Token {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::new(text)
    }
}

impl AsRef<str> for Token {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Reads what is written as one text.
pub(crate) struct TextVisitor<T>(std::marker::PhantomData<T>);

impl<T> TextVisitor<T> {
    pub const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for TextVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor::new())
    }
}

impl schemars::JsonSchema for Token {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Token".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"})
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Token);

        impl $name {
            /// Checks `text` and takes it.
            pub fn new(text: &str) -> Result<Self, TokenError> {
                Token::new(text).map(Self)
            }
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
            pub fn token(&self) -> &Token {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = TokenError;
            fn from_str(text: &str) -> Result<Self, TokenError> {
                Self::new(text)
            }
        }
        impl From<Token> for $name {
            fn from(token: Token) -> Self {
                Self(token)
            }
        }
    )*};
}

ids! {
    /// A person, as the login system calls him.
    UserId,
    /// One of a user's devices; each has its own login.
    DeviceId,
    /// One login of one device: what "told once" is counted by.
    LoginId,
    /// One socket on one comet.
    ConnId,
    /// A call; never used again after it ended.
    CallId,
    /// A live room.
    RoomId,
    /// A push kind: `group`, `discuss`, `org`, or one that a deployment adds.
    Kind,
    /// One running process of a service: its name on the bus.
    Instance,
}

impl Kind {
    /// The name of the service that serves this kind: `<kind>-push`.
    pub fn service(&self) -> Token {
        let name: String = self.as_str().chars().take(TOKEN_MAX_BYTES - 5).chain("-push".chars()).collect();
        Token::new(&name).expect("a kind's characters and -push are a token's")
    }
}

/// What a push is known by: the first 128 bits of a SHA-256 over length-prefixed parts.
///
/// 16 bytes in MessagePack, 22 characters of unpadded base64url in JSON and in keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PushId([u8; 16]);

/// The text or bytes are no [`PushId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 16 bytes, or 22 characters of base64url")]
pub struct PushIdError;

impl PushId {
    /// A call told to a user's login: hash(kind, call, user, login). Login ids come from outside, and two users may have the
    /// same one.
    pub fn of_call(kind: &Kind, call: &CallId, user: &UserId, login: &LoginId) -> Self {
        let parts = [kind.as_str(), call.as_str(), user.as_str(), login.as_str()].map(str::as_bytes);
        Self::hash(&[b"call", parts[0], parts[1], parts[2], parts[3]])
    }

    /// Any other push: hash(sender, the sender's own id, user).
    pub fn of_message(sender: &Token, id: &str, user: &UserId) -> Self {
        Self::hash(&[b"message", sender.as_str().as_bytes(), id.as_bytes(), user.as_str().as_bytes()])
    }

    /// The withdrawal of this push: hash(push, ended).
    pub fn withdrawal(&self) -> Self {
        Self::hash(&[b"ended", &self.0])
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// As a [`Token`], for keys and message ids.
    pub fn token(&self) -> Token {
        Token::new(&self.to_string()).expect("base64url is made of token characters")
    }

    // Every part is preceded by its length, so that no two lists of parts hash alike.
    fn hash(parts: &[&[u8]]) -> Self {
        use sha2::Digest;
        let mut digest = sha2::Sha256::new();
        for part in parts {
            digest.update((part.len() as u32).to_be_bytes());
            digest.update(part);
        }
        let full = digest.finalize();
        Self(full[..16].try_into().expect("a SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use base64::{display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD};
        Base64Display::new(&self.0, &URL_SAFE_NO_PAD).fmt(f)
    }
}

impl fmt::Debug for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PushId({self})")
    }
}

impl FromStr for PushId {
    type Err = PushIdError;
    fn from_str(text: &str) -> Result<Self, PushIdError> {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| PushIdError)?;
        bytes.try_into().map(Self).map_err(|_| PushIdError)
    }
}

impl Serialize for PushId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for PushId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = PushId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a push id")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PushId, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<PushId, E> {
                bytes.try_into().map(PushId).map_err(|_| E::custom(PushIdError))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Visitor)
        } else {
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

/// A place in a kind's directory: a group, a discussion, or a path of departments.
///
/// 1 to 16 [`Token`]s, at most 512 bytes; people write `net/verizon/res`, subjects `net.verizon.res`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unit(Arc<str>);

/// Why a text is no [`Unit`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("has {0} levels; the limit is {UNIT_MAX_LEVELS}")]
    TooDeep(usize),
    #[error("has {0} bytes; the limit is {UNIT_MAX_BYTES}")]
    TooLong(usize),
    #[error("level {level} {error}")]
    Level { level: usize, error: TokenError },
}

impl Unit {
    /// From the text that people write, levels separated by `/`.
    pub fn new(text: &str) -> Result<Self, UnitError> {
        Self::from_levels(text.split('/'))
    }

    /// From its levels, the most general first.
    pub fn from_levels<'a>(levels: impl Iterator<Item = &'a str>) -> Result<Self, UnitError> {
        let mut dotted = String::new();
        let mut count = 0;
        for (index, text) in levels.enumerate() {
            count = index + 1;
            if count > UNIT_MAX_LEVELS {
                return Err(UnitError::TooDeep(count));
            }
            let token = Token::new(text).map_err(|error| UnitError::Level { level: count, error })?;
            if index > 0 {
                dotted.push('.');
            }
            dotted.push_str(token.as_str());
        }
        match (count, dotted.len()) {
            (0, _) => Err(UnitError::Level { level: 1, error: TokenError::Empty }),
            (_, bytes) if bytes > UNIT_MAX_BYTES => Err(UnitError::TooLong(bytes)),
            _ => Ok(Self(dotted.into())),
        }
    }

    /// As subject tokens: levels separated by `.`.
    pub fn dotted(&self) -> &str {
        &self.0
    }

    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Itself and all units above it, the most specific first.
    pub fn ancestry(&self) -> impl Iterator<Item = Unit> + '_ {
        let ends = std::iter::once(self.0.len()).chain(self.0.rmatch_indices('.').map(|(at, _)| at));
        ends.map(|end| Unit(Arc::from(&self.0[..end])))
    }

    /// Whether `other` is this unit or lies below it.
    pub fn covers(&self, other: &Unit) -> bool {
        other.0.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl From<Token> for Unit {
    fn from(token: Token) -> Self {
        Self(token.0)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, level) in self.levels().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            f.write_str(level)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unit({self})")
    }
}

impl FromStr for Unit {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        Self::new(text)
    }
}

impl Serialize for Unit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_is_wrong_with_it() {
        assert_eq!(Token::new("").unwrap_err(), TokenError::Empty);
        assert_eq!(Token::new(&"a".repeat(5000)).unwrap_err(), TokenError::TooLong(5000));
        for bad in ["a.b", "*", ">", "a b", "a\r\nb", "a\0", "é", "$JS"] {
            assert!(matches!(Token::new(bad), Err(TokenError::Character { .. })), "{bad:?}");
        }
        assert_eq!(Token::new("a.b").unwrap_err().to_string(), "has '.' at byte 1; only A-Z a-z 0-9 _ - are allowed");
    }

    #[test]
    fn a_unit_knows_what_lies_above_and_below() {
        let unit = Unit::new("net/verizon/res").unwrap();
        let above: Vec<_> = unit.ancestry().map(|u| u.to_string()).collect();
        assert_eq!(above, ["net/verizon/res", "net/verizon", "net"]);
        assert!(Unit::new("net/ver").unwrap().covers(&Unit::new("net/ver/x").unwrap()));
        assert!(!Unit::new("net/ver").unwrap().covers(&unit));
        assert_eq!(Unit::new("net//x").unwrap_err().to_string(), format!("level 2 {}", TokenError::Empty));
        assert!(matches!(Unit::new(&["a"; 17].join("/")), Err(UnitError::TooDeep(17))));
    }

    #[test]
    fn push_ids_differ_by_every_part_and_by_where_parts_end() {
        let id = |kind: &str, call: &str, user: &str, login: &str| {
            let (kind, call) = (Kind::new(kind).unwrap(), CallId::new(call).unwrap());
            PushId::of_call(&kind, &call, &UserId::new(user).unwrap(), &LoginId::new(login).unwrap())
        };
        let all = [
            id("a", "bc", "d", "e"),
            id("ab", "c", "d", "e"),
            id("a", "b", "cd", "e"),
            id("a", "bc", "de", "e"),
            id("a", "bc", "d", "f"),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().flat_map(|id| [*id, id.withdrawal()]).collect();
        assert_eq!(distinct.len(), 10);
        assert_eq!(all[0].to_string().parse(), Ok(all[0]));
        // Pinned: an id that changes between versions would show a push twice during an upgrade.
        assert_eq!(id("group", "c1", "ann", "l1").to_string(), "Kki_AiOmV7pmKfWZd3IAKw");
    }
}

//! How a frame is written and read; the one place that knows the encodings.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{APP_CODE_MIN, Code};
use crate::wire::DEPTH_MAX;

/// What is said of a field's name: unknown ones are somebody's input.
const PATH_MAX_CHARS: usize = 64;

/// How a connection's frames are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    MessagePack,
    Json,
}

/// Why bytes are no frame that may stand here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("not a frame: {0}; a frame is an array of two, its code and its body")]
    Shape(String),
    #[error("unknown frame code {0}; the protocol's are 1 to {last}, an application's {APP_CODE_MIN} to 65535", last = Code::ALL.len())]
    UnknownCode(String),
    #[error("a frame of code {0} may not come from this side")]
    Direction(&'static str),
    /// `field` is its path in the body; where the body itself is wrong, it is empty.
    #[error("{code} frame: {}: {reason}", in_body(field))]
    Field { code: String, field: String, reason: String },
    #[error("{0} bytes after the end of the frame")]
    Trailing(usize),
}

fn in_body(field: &str) -> String {
    if field.is_empty() { "its body".to_owned() } else { format!("field {field}") }
}

impl FrameError {
    /// What is wrong, as an ERROR frame names it: `LOGIN.device`, `LOGIN`, `code` or `frame`.
    pub fn field(&self) -> String {
        match self {
            Self::Field { code, field, .. } if field.is_empty() => code.clone(),
            Self::Field { code, field, .. } => format!("{code}.{field}"),
            Self::UnknownCode(_) | Self::Direction(_) => "code".to_owned(),
            Self::Shape(_) | Self::Trailing(_) => "frame".to_owned(),
        }
    }
}

impl Encoding {
    /// The WebSocket subprotocol that stands for this encoding.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::MessagePack => "pushmesh.v1.msgpack",
            Self::Json => "pushmesh.v1.json",
        }
    }

    pub fn from_subprotocol(name: &str) -> Option<Self> {
        [Self::MessagePack, Self::Json].into_iter().find(|encoding| encoding.subprotocol() == name)
    }

    pub(super) fn write<T: Serialize>(self, code: Code, body: &T) -> Vec<u8> {
        match self {
            Self::MessagePack => pack(code as u16, body),
            Self::Json => json(&(code.name(), body)),
        }
    }

    pub(super) fn write_app<T: Serialize>(self, code: u16, body: &T) -> Vec<u8> {
        match self {
            Self::MessagePack => pack(code, body),
            Self::Json => json(&(code, body)),
        }
    }
}

fn pack<T: Serialize>(code: u16, body: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
    (code, body).serialize(&mut serializer).expect("frames have no type that MessagePack lacks");
    out
}

fn json<T: Serialize>(frame: &T) -> Vec<u8> {
    serde_json::to_vec(frame).expect("frames have no type that JSON lacks")
}

// serde_json skips ignored values without a limit on their depth; a frame has one in both encodings.
fn json_depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A frame whose code has been read and whose body has not.
pub(super) struct Split<'a> {
    encoding: Encoding,
    name: CodeText,
    body: &'a [u8],
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum CodeText {
    Number(u16),
    Name(Box<str>),
}

impl std::fmt::Display for CodeText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => match Code::from_number(*number) {
                Some(code) => f.write_str(code.name()),
                None => number.fmt(f),
            },
            Self::Name(name) if Code::from_name(name).is_some() => f.write_str(name),
            // An unknown name is somebody's input: its beginning is enough.
            Self::Name(name) => write!(f, "{:?}", name.chars().take(32).collect::<String>()),
        }
    }
}

impl<'a> Split<'a> {
    pub fn of(encoding: Encoding, bytes: &'a [u8]) -> Result<Self, FrameError> {
        match encoding {
            Encoding::MessagePack => Self::of_pack(bytes),
            Encoding::Json => Self::of_json(bytes),
        }
    }

    fn of_pack(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let shape = |reason: &str| FrameError::Shape(reason.into());
        let [0x92, rest @ ..] = bytes else {
            return Err(shape("it does not begin with an array of two"));
        };
        let mut body = rest;
        let mut deserializer = rmp_serde::Deserializer::new(&mut body);
        let number = u16::deserialize(&mut deserializer).map_err(|_| shape("its code is no integer below 65536"))?;
        Ok(Self { encoding: Encoding::MessagePack, name: CodeText::Number(number), body })
    }

    fn of_json(bytes: &'a [u8]) -> Result<Self, FrameError> {
        if json_depth(bytes) > DEPTH_MAX {
            return Err(FrameError::Shape(format!("it is nested deeper than {DEPTH_MAX}")));
        }
        let (name, body): (CodeText, &serde_json::value::RawValue) =
            serde_json::from_slice(bytes).map_err(|error| FrameError::Shape(error.to_string()))?;
        Ok(Self { encoding: Encoding::Json, name, body: body.get().as_bytes() })
    }

    /// The application's code, if it is one.
    pub fn app(&self) -> Option<u16> {
        match self.name {
            CodeText::Number(number) if number >= APP_CODE_MIN => Some(number),
            _ => None,
        }
    }

    /// The protocol's code.
    pub fn code(&self) -> Result<Code, FrameError> {
        match &self.name {
            CodeText::Number(number) => Code::from_number(*number),
            CodeText::Name(name) => Code::from_name(name),
        }
        .ok_or_else(|| FrameError::UnknownCode(self.name.to_string()))
    }

    pub fn body<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        match self.encoding {
            Encoding::MessagePack => {
                let mut rest = self.body;
                let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
                deserializer.set_max_depth(DEPTH_MAX);
                let body = self.named(&mut deserializer)?;
                if rest.is_empty() { Ok(body) } else { Err(FrameError::Trailing(rest.len())) }
            }
            Encoding::Json => self.named(&mut serde_json::Deserializer::from_slice(self.body)),
        }
    }

    // The error names the field: a client's developer reads it at three in the morning too.
    fn named<'de, D, T>(&self, deserializer: D) -> Result<T, FrameError>
    where
        D: serde::Deserializer<'de, Error: std::fmt::Display>,
        T: DeserializeOwned,
    {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let reason: String = error.inner().to_string().chars().take(256).collect();
            let field = field(&error.path().to_string(), &reason);
            FrameError::Field { code: self.name.to_string(), field, reason }
        })
    }
}

/// Which field serde speaks of. A path ends at what was read last: of a field that is missing or there twice, only the
/// reason has the name.
fn field(path: &str, reason: &str) -> String {
    let path = if path == "." { "" } else { path };
    let named = ["missing field `", "duplicate field `"].iter().find_map(|start| reason.strip_prefix(start));
    let name = named.and_then(|rest| rest.split_once('`')).map(|(name, _)| name);
    let steps = [Some(path).filter(|path| !path.is_empty()), name];
    let whole = steps.into_iter().flatten().collect::<Vec<_>>().join(".");
    whole.chars().take(PATH_MAX_CHARS).collect()
}

//! A gift, as it is asked for.

use pushmesh_protocol::{GiftKey, Token, UserId};
use serde::{Deserialize, Serialize};

/// Something given to everybody's eyes. Its key makes it one gift, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gift {
    /// A UUID of version 7, such as the id of the order that paid for it; good for an hour.
    pub key: GiftKey,
    /// Which gift.
    pub gift: Token,
    pub count: u32,
    /// Of all `count`, in the smallest unit of money.
    pub value: u64,
    /// To whom; to the room, if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A gift that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    pub key: String,
    /// Its offset in the room's chain of gifts.
    pub sequence: u64,
    /// The key had been used before, for this very gift: this is the first answer.
    pub repeated: bool,
}

impl Gift {
    /// One gift of that value to the room, under a new key.
    pub fn new(gift: Token, value: u64) -> Self {
        Self { key: new_key(), gift, count: 1, value, to: None, note: None }
    }
}

/// A key that nobody has used, made now.
pub fn new_key() -> GiftKey {
    GiftKey::new(&uuid::Uuid::now_v7().to_string()).expect("it is a UUID of version 7")
}

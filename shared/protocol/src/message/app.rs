//! Applications' frames on their way to backends.

use serde::{Deserialize, Serialize};

use crate::{
    id::{DeviceId, LoginId, UserId},
    payload::Payload,
};

/// An application's frame on its way to a backend; the answer is an [`AppAnswer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppRequest {
    pub code: u16,
    pub user: UserId,
    pub device: DeviceId,
    pub login_id: LoginId,
    pub data: Payload,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AppAnswer {
    Data(Payload),
    Error(String),
}

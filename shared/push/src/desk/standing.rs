//! What has become of the logins that a user's sessions began with, as the bucket `sess` tells it. Pure.
//!
//! ack-retry writes it once a push kind has said that a login ended by a record of LOGIN while a session of it stands. The
//! record itself is gone from LOGIN then: this is all that a new owner of the partition learns of it. What one of these
//! keys says stands as long as the key; their order, and that of the sessions', does not matter.

use pushmesh_protocol::{
    ConnId, DeviceId, LoginId,
    message::{EndedBy, Millis, SessionLogin},
};

/// Few users have one; then mostly of one session.
#[derive(Debug, Default)]
pub(super) struct Standing(Vec<(ConnId, SessionLogin)>);

impl Standing {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn conns(&self) -> impl Iterator<Item = &ConnId> {
        self.0.iter().map(|(conn, _)| conn)
    }

    /// Whether it is the newest word of the login that the session began with.
    pub(super) fn put(&mut self, conn: ConnId, login: SessionLogin) -> bool {
        self.remove(&conn);
        let newest = self.of(&login.began).is_none_or(|by| by.sequence <= login.by.sequence);
        self.0.push((conn, login));
        newest
    }

    pub(super) fn remove(&mut self, conn: &ConnId) {
        self.0.retain(|(known, _)| known != conn);
        self.0.shrink_to_fit();
    }

    /// What ended a login: the newest word of all sessions that began with it.
    pub(super) fn of(&self, began: &LoginId) -> Option<&EndedBy> {
        let of_login = self.0.iter().filter(|(_, login)| login.began == *began);
        of_login.map(|(_, login)| &login.by).max_by_key(|by| by.sequence)
    }

    /// When the newest session began that this login was handed to.
    pub(super) fn seated(&self, current: &LoginId) -> Option<Millis> {
        let handed = self.0.iter().filter(|(_, login)| login.by.current() == Some(current));
        handed.map(|(_, login)| login.since).max()
    }

    /// Whether a later record of the device than this one has been heard of.
    pub(super) fn overtook(&self, device: &DeviceId, sequence: u64) -> bool {
        self.0.iter().any(|(_, login)| login.device == *device && login.by.sequence > sequence)
    }

    /// Each login that has ended, and by what.
    pub(super) fn ended(&self) -> Vec<(LoginId, EndedBy)> {
        let mut ended: Vec<(LoginId, EndedBy)> = Vec::new();
        for (_, SessionLogin { began, .. }) in &self.0 {
            let Some(by) = self.of(began).filter(|by| by.current() != Some(began)) else { continue };
            if !ended.iter().any(|(known, _)| known == began) {
                ended.push((began.clone(), by.clone()));
            }
        }
        ended
    }
}

//! Who calls, and in whose name he may speak.

use pushmesh_auth::{Backend, Identity, Scope};
use pushmesh_protocol::{RoomId, UserId, frame::Role};

use crate::{refusal::Refusal, standing::Standing};

/// Whose token it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// For himself alone.
    Client(UserId),
    /// For anybody, as far as its scopes go.
    Backend(Backend),
}

/// What somebody is in a room. The greater may act on the lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Guest,
    Admin,
    Host,
    Backend,
}

impl From<Identity> for Caller {
    fn from(identity: Identity) -> Self {
        match identity {
            Identity::Client(client) => Self::Client(client.user),
            Identity::Backend(backend) => Self::Backend(backend),
        }
    }
}

impl From<Option<Role>> for Rank {
    fn from(role: Option<Role>) -> Self {
        match role {
            Some(Role::Host) => Self::Host,
            Some(Role::Admin) => Self::Admin,
            None => Self::Guest,
        }
    }
}

impl Caller {
    /// The client, if it is one.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Client(user) => Some(user),
            Self::Backend(_) => None,
        }
    }

    /// A backend with this scope.
    pub fn backend_with(&self, scope: Scope) -> Result<&Backend, Refusal> {
        match self {
            Self::Backend(backend) if backend.scopes.contains(&scope) => Ok(backend),
            Self::Backend(_) => Err(Refusal::forbidden(format!("the token's scope lacks {scope}"))),
            Self::Client(_) => Err(Refusal::forbidden(format!("only a backend with the scope {scope} may do this"))),
        }
    }

    /// In whose name something is sent: a client's is his own, a backend names anybody, or nobody.
    pub fn sender(&self, from: Option<UserId>) -> Result<Option<UserId>, Refusal> {
        match self {
            Self::Client(user) => match from {
                Some(from) if from != *user => {
                    let field = Some("from".into());
                    Err(Refusal {
                        field,
                        ..Refusal::forbidden("from is not the token's user: clients send for themselves")
                    })
                }
                _ => Ok(Some(user.clone())),
            },
            Self::Backend(_) => self.backend_with(Scope::RoomWrite).map(|_| from),
        }
    }

    /// In whose name something is sent that nobody can't send.
    pub fn somebody(&self, from: Option<UserId>) -> Result<UserId, Refusal> {
        self.sender(from)?.ok_or_else(|| Refusal::invalid("from", "is missing: a backend names who sends it"))
    }

    /// What he is in a room, if he may keep order there at all.
    pub fn keeper_of(&self, room: &RoomId, standing: &Standing) -> Result<Rank, Refusal> {
        let rank = match self {
            Self::Backend(_) => self.backend_with(Scope::RoomWrite).map(|_| Rank::Backend)?,
            Self::Client(user) => standing.role(room, user).into(),
        };
        if rank == Rank::Guest {
            let message = "only a host or admin of the room, or a backend with the scope room:write, may do this";
            return Err(Refusal::forbidden(message));
        }
        Ok(rank)
    }

    /// That he may act on `user`: order is kept among the lesser.
    pub fn outranks(&self, user: &UserId, room: &RoomId, standing: &Standing) -> Result<(), Refusal> {
        let rank = self.keeper_of(room, standing)?;
        if rank > Rank::from(standing.role(room, user)) {
            return Ok(());
        }
        let field = Some("user".into());
        Err(Refusal { field, ..Refusal::forbidden("user has a role of the room that is not below the caller's own") })
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_bus::{Entry, KvEvent};
    use pushmesh_protocol::{name::Key, room::RoleRecord, wire};

    use super::*;
    use crate::{refusal::Code, standing::Half};

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn backend(scopes: &[Scope]) -> Caller {
        let name = "b".parse().unwrap();
        Caller::Backend(Backend { name, scopes: scopes.to_vec(), expires: u64::MAX })
    }

    #[test]
    fn a_client_speaks_for_himself_and_a_backend_for_anybody() {
        let client = Caller::Client(user("alice"));
        assert_eq!(client.sender(None).unwrap(), Some(user("alice")));
        assert_eq!(client.sender(Some(user("alice"))).unwrap(), Some(user("alice")));
        let refused = client.sender(Some(user("bob"))).unwrap_err();
        assert_eq!((refused.code, refused.field.as_deref()), (Code::Forbidden, Some("from")));
        let good = backend(&[Scope::RoomWrite]);
        assert_eq!(good.sender(None).unwrap(), None);
        assert_eq!(good.somebody(Some(user("bob"))).unwrap(), user("bob"));
        assert_eq!(good.somebody(None).unwrap_err().field.as_deref(), Some("from"));
        assert_eq!(backend(&[Scope::RoomRead]).sender(None).unwrap_err().code, Code::Forbidden);
    }

    #[test]
    fn order_is_kept_among_the_lesser() {
        let (room, standing) = (RoomId::new("stage").unwrap(), Standing::default());
        for (name, role) in [("host", Role::Host), ("admin", Role::Admin), ("admin2", Role::Admin)] {
            let key = Key::room_role(&room, &user(name)).to_string();
            let value = wire::encode(&RoleRecord { role, at: 1 }).into();
            standing.apply(Half::Rooms, KvEvent::Put(Entry { key, value, revision: 1, at: 1 }));
        }
        let may = |who: &Caller, on: &str| who.outranks(&user(on), &room, &standing).is_ok();
        let client = |name: &str| Caller::Client(user(name));
        assert!(may(&client("host"), "admin") && may(&client("host"), "guest") && may(&client("admin"), "guest"));
        assert!(!may(&client("admin"), "host") && !may(&client("admin"), "admin2") && !may(&client("host"), "host"));
        assert!(!may(&client("guest"), "guest2"));
        assert!(may(&backend(&[Scope::RoomWrite]), "host") && !may(&backend(&[]), "guest"));
        let elsewhere = RoomId::new("other").unwrap();
        assert!(client("host").keeper_of(&elsewhere, &standing).is_err(), "a role is a room's");
    }
}

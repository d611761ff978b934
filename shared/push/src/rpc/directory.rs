//! A kind's directory behind its door: what the services' own gRPC contracts, each with its shape, have in common.

use std::{collections::BTreeSet, sync::Arc};

use pushmesh_auth::{Door, Scope};
use pushmesh_proto::v1::{ListMembershipsRequest, ListMembershipsResponse, MembershipEntry};
use pushmesh_protocol::{Token, Unit, UserId};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{check, store::DirectoryStore};
use crate::kind::PushKind;

/// A member as a request names him, unchecked; an empty role is a plain member's.
#[derive(Debug, Clone, Default)]
pub struct Member {
    pub user: String,
    pub role: String,
}

/// Checks, stores, answers. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    store: DirectoryStore,
    kind: Arc<dyn PushKind>,
    door: Door,
}

impl Directory {
    pub(crate) fn new(store: DirectoryStore, kind: Arc<dyn PushKind>, door: Door) -> Self {
        Self { store, kind, door }
    }

    /// Adds members, or gives them another role. Stored when it returns.
    pub async fn upsert(
        &self,
        metadata: &MetadataMap,
        unit: (&str, &str),
        members: (&str, Vec<Member>),
    ) -> Result<(), Status> {
        self.door.check(metadata, Scope::DirectoryWrite)?;
        let unit = check::unit(&*self.kind, unit.0, unit.1)?;
        let (field, members) = members;
        check::count(field, members.len())?;
        let checked = |(index, member): (usize, Member)| {
            let user = check::user(&format!("{field}[{index}].user"), &member.user)?;
            Ok((user, check::role(&format!("{field}[{index}].role"), &member.role)?))
        };
        let members: Vec<_> = members.into_iter().enumerate().map(checked).collect::<Result<_, Status>>()?;
        self.check_size(field, &unit, members.iter().map(|(user, _)| user)).await?;
        self.store.upsert(&unit, members).await.map_err(|error| check::store_status(&error))
    }

    /// Removes members; one who is none is no error. Stored when it returns.
    pub async fn remove(
        &self,
        metadata: &MetadataMap,
        unit: (&str, &str),
        users: (&str, Vec<String>),
    ) -> Result<(), Status> {
        self.door.check(metadata, Scope::DirectoryWrite)?;
        let unit = check::unit(&*self.kind, unit.0, unit.1)?;
        let (field, users) = users;
        check::count(field, users.len())?;
        let checked = |(index, user): (usize, &String)| check::user(&format!("{field}[{index}]"), user);
        let users = users.iter().enumerate().map(checked).collect::<Result<_, Status>>()?;
        self.store.remove(&unit, users).await.map_err(|error| check::store_status(&error))
    }

    /// What a user is a member of: the same question in every shape.
    pub async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        let (metadata, _, ListMembershipsRequest { user }) = request.into_parts();
        check::either(&self.door, &metadata)?;
        let user = check::user("user", &user)?;
        let found = self.store.memberships(&user).await.map_err(|error| check::read_status(&error))?;
        let entry = |(unit, role): (Unit, Option<Token>)| MembershipEntry {
            unit: unit.to_string(),
            role: role.map_or_else(String::new, |role| role.to_string()),
        };
        Ok(Response::new(ListMembershipsResponse { memberships: found.into_iter().map(entry).collect() }))
    }

    // Two requests at once may each find room and pass the limit together: it bounds a call's fan-out, nothing more.
    async fn check_size(&self, field: &str, unit: &Unit, users: impl Iterator<Item = &UserId>) -> Result<(), Status> {
        let Some(limit) = self.kind.members_max() else { return Ok(()) };
        let mut members: BTreeSet<UserId> = users.cloned().collect();
        if members.len() <= limit {
            members.extend(self.store.members(unit).await.map_err(|error| check::read_status(&error))?);
        }
        match members.len() {
            size if size > limit => {
                let reason = format!("{field} would make {size} members of {unit}; the limit is {limit}");
                Err(Status::failed_precondition(reason))
            }
            _ => Ok(()),
        }
    }
}

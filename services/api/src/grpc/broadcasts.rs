//! `pushmesh.v1.Broadcasts`.

use std::time::Duration;

use pushmesh_proto::v1::{PushManyRequest, PushManyResponse, PushPolicy, broadcasts_server::Broadcasts};
use pushmesh_protocol::{Payload, UserId};
use tonic::{Request, Response, Status};

use super::{Desk, optional, renamed, required};
use crate::{
    operations::{Operation, push_many},
    refusal::Refusal,
};

#[tonic::async_trait]
impl Broadcasts for Desk {
    async fn push_many(&self, request: Request<PushManyRequest>) -> Result<Response<PushManyResponse>, Status> {
        let name = "pushmesh.v1.Broadcasts/PushMany";
        self.serve(Operation::PushMany, name, request, |api, call, asked| async move {
            let done = push_many::run(&api, &call, read(asked)?).await.map_err(renamed("lifetime", "lifetime_ms"))?;
            let unknown = done.unknown.iter().map(ToString::to_string).collect();
            Ok(PushManyResponse { stored: done.stored, unknown })
        })
        .await
    }
}

fn read(asked: PushManyRequest) -> Result<push_many::Request, Refusal> {
    let user = |(place, text): (usize, &String)| {
        UserId::new(text).map_err(|error| Refusal::invalid(format!("users[{place}]"), error))
    };
    let policy = match PushPolicy::try_from(asked.policy) {
        Ok(PushPolicy::Unspecified) => None,
        Ok(PushPolicy::Inbox) => Some(push_many::AtLast::Inbox),
        Ok(PushPolicy::Drop) => Some(push_many::AtLast::Drop),
        Err(_) => {
            return Err(Refusal::invalid(
                "policy",
                format!("is {}, which is not known; known are 0, 1 and 2", asked.policy),
            ));
        }
    };
    Ok(push_many::Request {
        users: asked.users.iter().enumerate().map(user).collect::<Result<_, _>>()?,
        room: optional("room", &asked.room)?,
        sender: required("sender", &asked.sender)?,
        id: asked.id,
        data: Payload(asked.data),
        policy,
        lifetime: Some(asked.lifetime_ms).filter(|millis| *millis > 0).map(Duration::from_millis),
    })
}

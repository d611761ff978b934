//! [`Mute`]: whose, and where. The bucket first, then the rooms where it holds are told.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use pushmesh_auth::Scope;
use pushmesh_protocol::{
    RoomId, UserId,
    message::Millis,
    name::Key,
    room::{MuteRecord, RoomHappening},
    wire,
};

use crate::{api::Api, caller::Caller, refusal::Refusal, request::Call, standing::Fact};

/// Rooms that are told at the same time.
const TOLD_AT_ONCE: usize = 16;

/// A user may have one in each room, and one everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mute {
    /// `None`: in every one.
    pub room: Option<RoomId>,
    pub user: UserId,
}

impl Mute {
    /// That the caller may begin and end it.
    pub fn check(&self, api: &Api, caller: &Caller) -> Result<(), Refusal> {
        match &self.room {
            Some(room) => caller.outranks(&self.user, room, &api.standing),
            None => caller.backend_with(Scope::RoomWrite).map(drop),
        }
    }

    /// It holds from now on, here at once.
    pub async fn begin(&self, api: &Api, call: &Call, period: Duration) -> Result<Millis, Refusal> {
        let until = call.now + period.as_millis() as Millis;
        let record = MuteRecord { until, by: call.caller.user().cloned(), at: call.now };
        let written = api.mutes.patient().put_for(&self.key(), wire::encode(&record).into(), period).await;
        let revision = written.map_err(|error| Refusal::unkept(&error, api.config.retry_after))?;
        api.standing.wrote(Fact::Mute { room: self.room.clone(), user: self.user.clone(), until }, revision);
        self.tell(api, call, until).await?;
        Ok(until)
    }

    pub async fn end(&self, api: &Api, call: &Call) -> Result<(), Refusal> {
        let ended = api.mutes.patient().purge(&self.key()).await;
        ended.map_err(|error| Refusal::unkept(&error, api.config.retry_after))?;
        self.tell(api, call, 0).await
    }

    fn key(&self) -> Key {
        match &self.room {
            Some(room) => Key::mute_in(room, &self.user),
            None => Key::mute_everywhere(&self.user),
        }
    }

    /// Tells its room, or all where the user is; whoever enters one later is told by the answer to his JOIN.
    async fn tell(&self, api: &Api, call: &Call, until: Millis) -> Result<(), Refusal> {
        let Self { room, user } = self;
        let happening = RoomHappening::Mute { user: user.clone(), until, everywhere: room.is_none() };
        let rooms = match room {
            Some(room) => vec![room.clone()],
            None => api.rooms_of(user).await?,
        };
        let telling: Vec<_> = rooms.iter().map(|room| api.tell(call, room, happening.clone())).collect();
        let mut told = stream::iter(telling).buffer_unordered(TOLD_AT_ONCE);
        while told.try_next().await?.is_some() {}
        Ok(())
    }
}

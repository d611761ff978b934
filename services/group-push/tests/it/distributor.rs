//! What the distributor says, and to whom.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pushmesh_protocol::{
    DeviceId, Instance, LoginId, Partition, Partitions, TraceContext, UserId,
    message::{LeaseRecord, LoginEvent, LoginRecord, OnlineAnswer, OnlineBatch, OnlineEntry, OnlineResult},
    name::{Bucket, Key, Subject},
    wire,
};
use pushmesh_testkit::wait_for;

use crate::backend::Service;

/// More than anything takes on a machine that is busy with other things.
pub const LONG: Duration = Duration::from_secs(60);

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

pub fn partition(user: &str) -> Partition {
    Partitions::new(8).unwrap().of_user(&UserId::new(user).unwrap())
}

impl Service {
    /// The owner is whom the lease names; "not mine" is looked up again.
    pub async fn owner(&self, partition: Partition) -> Result<Instance, String> {
        let mesh = self.bus.bucket(&Bucket::MESH).await.map_err(|error| error.to_string())?;
        let lease = mesh.get(&Key::lease(&self.kind.service(), partition)).await.map_err(|error| error.to_string())?;
        let lease: LeaseRecord =
            wire::decode(&lease.ok_or("nobody owns it")?.value).map_err(|error| error.to_string())?;
        Ok(lease.owner)
    }

    /// Says until it is done that somebody came.
    pub async fn online(&self, user: &str, login: &str, trace: Option<TraceContext>) {
        let event =
            LoginEvent::Online { login_id: LoginId::new(login).unwrap(), device: DeviceId::new("phone").unwrap() };
        let record = LoginRecord { user: UserId::new(user).unwrap(), event, at: now(), trace };
        let entry = OnlineEntry { partition: partition(user), epoch: 1, sequence: 1, record };
        let batch = OnlineBatch { from: Instance::new("distributor-1").unwrap(), entries: vec![entry] };
        wait_for("the record to be done", LONG, || async {
            let owner = self.owner(partition(user)).await?;
            let payload = wire::encode(&batch).into();
            let answer = self.bus.request(Subject::online(&self.kind, &owner), payload, LONG).await;
            let answer: OnlineAnswer =
                wire::decode(&answer.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
            match &answer.results[..] {
                [OnlineResult::Done { .. }] => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

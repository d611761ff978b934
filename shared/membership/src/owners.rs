//! [`Owners`]: whom the leases name.

use std::{collections::BTreeMap, sync::Arc};

use pushmesh_protocol::{
    Partition,
    id::{Instance, Token},
    message::{Epoch, LeaseRecord},
};
use tokio::sync::watch;

/// The holder of a partition's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub instance: Instance,
    /// The lease's: whoever holds the partition later has a higher one.
    pub epoch: Epoch,
}

/// The owners of one service's partitions, always as the bucket shows them.
#[derive(Clone)]
pub struct Owners {
    service: Token,
    leases: watch::Receiver<Arc<Leases>>,
    seen: Arc<Partitions>,
}

impl Owners {
    pub(crate) fn new(service: Token, leases: watch::Receiver<Arc<Leases>>) -> Self {
        let seen = leases.borrow().of(&service);
        Self { service, leases, seen }
    }

    /// Whom the lease names now; `None` while nobody holds it. He may have died a moment ago.
    pub fn of(&self, partition: Partition) -> Option<Owner> {
        let leases = self.leases.borrow();
        let lease = leases.services.get(&self.service)?.get(&partition.0)?;
        let record = lease.record.as_ref()?;
        Some(Owner { instance: record.owner.clone(), epoch: lease.revision })
    }

    /// Returns when an owner of this service is another than at the last call, or at the start. Cancel safe.
    pub async fn changed(&mut self) {
        loop {
            let now = self.leases.borrow_and_update().of(&self.service);
            // The map of a service is replaced, never changed, once it is published.
            if !Arc::ptr_eq(&now, &self.seen) && now != self.seen {
                self.seen = now;
                return;
            }
            if self.leases.changed().await.is_err() {
                // Membership has ended: there will be no change.
                std::future::pending::<()>().await;
            }
        }
    }
}

pub(crate) type Partitions = BTreeMap<u16, Lease>;

/// A lease's key, as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// `None`: it is gone.
    pub record: Option<LeaseRecord>,
    pub revision: u64,
}

/// All leases of all services.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases {
    services: BTreeMap<Token, Arc<Partitions>>,
}

impl Leases {
    pub(crate) fn get(&self, service: &Token, partition: Partition) -> Option<&Lease> {
        self.services.get(service)?.get(&partition.0)
    }

    /// Notes what a key shows; `false` if something newer is known.
    pub(crate) fn set(
        &mut self,
        service: &Token,
        partition: Partition,
        record: Option<LeaseRecord>,
        revision: u64,
    ) -> bool {
        if self.get(service, partition).is_some_and(|known| known.revision > revision) {
            return false;
        }
        self.replace(service, partition, record, revision)
    }

    /// Notes what a key shows, whatever was known; `false` if nothing is new.
    pub(crate) fn replace(
        &mut self,
        service: &Token,
        partition: Partition,
        record: Option<LeaseRecord>,
        revision: u64,
    ) -> bool {
        let lease = Lease { record, revision };
        if self.get(service, partition) == Some(&lease) {
            return false;
        }
        let partitions = Arc::make_mut(self.services.entry(service.clone()).or_default());
        partitions.insert(partition.0, lease);
        true
    }

    /// Forgets the records of all keys but `mentioned`; `true` if there were any.
    pub(crate) fn keep(&mut self, mentioned: impl Fn(&Token, Partition) -> bool) -> bool {
        let mut forgotten = false;
        for (service, partitions) in &mut self.services {
            let missing = |(number, lease): (&u16, &Lease)| {
                (lease.record.is_some() && !mentioned(service, Partition(*number))).then_some(*number)
            };
            let missing: Vec<u16> = partitions.iter().filter_map(missing).collect();
            for number in missing {
                forgotten = true;
                if let Some(lease) = Arc::make_mut(partitions).get_mut(&number) {
                    lease.record = None;
                }
            }
        }
        forgotten
    }

    fn of(&self, service: &Token) -> Arc<Partitions> {
        self.services.get(service).cloned().unwrap_or_default()
    }
}

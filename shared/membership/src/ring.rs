//! The ring: which member of a service is to own which partition. Pure.
//!
//! A weighted Ketama ring with bounded load. Every partition is a point with an arc of the ring behind it, and every member
//! has a virtual node on every arc: the nearer, the heavier the member is, so that the density of its virtual nodes is in
//! proportion to its weight. A partition belongs to the first virtual node after it whose member has room; where several
//! partitions want the last place of a member, the nearest gets it. So neither the order of the members nor that of the
//! partitions matters.
//!
//! Two things differ from Ketama, since with 64 partitions chance alone moves too much (docs/adr, "the ring keeps what is held"):
//!
//! * The distances of a member's virtual nodes are the P steps of an exponential distribution, dealt to the partitions in
//!   an order of the member's own: its natural share comes out nearly even.
//! * A partition that a living member holds stays with it, unless the member holds more than its quota; then it lets go of
//!   the farthest. Holders are read from the leases, which are as much a part of the shared view as the members are.
//!
//! Guarantees:
//! * Every partition has an owner if there is a member; no member has more than [`capacity`].
//! * The same members and holders give the same map everywhere, on every machine (there are only integers), whatever the
//!   order of either. Carrying a map out step by step does not change it on the way.
//! * A leave moves the leaver's partitions and no other; a join moves the joiner's quota, within one of its ideal share.

use std::{cmp::Ordering, collections::BTreeMap};

use pushmesh_protocol::{
    Partition, Partitions,
    id::{Instance, Token},
};

/// Heaviest weight of a member; the lightest is 1.
pub const WEIGHT_MAX: u16 = 100;

/// The most partitions that a member of `weight` gets among members of `total_weight`: ceil(1.1 · P · w / W).
pub fn capacity(partitions: Partitions, weight: u64, total_weight: u64) -> u64 {
    (11 * u64::from(partitions.count()) * weight).div_ceil(10 * total_weight)
}

/// The members of a service on the ring.
#[derive(Debug, Clone)]
pub struct Ring {
    partitions: Partitions,
    members: Vec<Instance>,
    /// How many partitions each member is to have: together all of them.
    quotas: Vec<u64>,
    /// All virtual nodes, the nearest first.
    nodes: Vec<VirtualNode>,
}

/// Who is to own which partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// By partition; empty without members.
    owners: Vec<Instance>,
}

/// Ordered by its distance from the partition it lies behind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct VirtualNode {
    distance: u64,
    /// Decides between equal distances.
    lot: u64,
    partition: u16,
    member: u16,
}

impl Ring {
    /// Weights count as 1 to 100; an instance named twice counts once, with its last weight.
    pub fn new<'a>(partitions: Partitions, members: impl IntoIterator<Item = (&'a Instance, u16)>) -> Ring {
        let members: BTreeMap<&Instance, u64> =
            members.into_iter().map(|(instance, weight)| (instance, u64::from(weight.clamp(1, WEIGHT_MAX)))).collect();
        let members: Vec<(&Instance, u64)> = members.into_iter().collect();
        Ring {
            partitions,
            quotas: quotas(partitions, &members),
            nodes: nodes(partitions, &members),
            members: members.into_iter().map(|(instance, _)| instance.clone()).collect(),
        }
    }

    /// The map while nobody holds anything.
    pub fn map(&self) -> Map {
        self.map_from(|_| None)
    }

    /// The map that leaves as much as possible where it is.
    pub fn map_from<'a>(&self, holder: impl Fn(Partition) -> Option<&'a Instance>) -> Map {
        if self.members.is_empty() {
            return Map { owners: Vec::new() };
        }
        let held: Vec<Option<usize>> = self
            .partitions
            .all()
            .map(|partition| holder(partition).and_then(|instance| self.members.binary_search(instance).ok()))
            .collect();
        let mut room = self.quotas.clone();
        let mut owners = vec![None; held.len()];
        for only_held in [true, false] {
            for node in &self.nodes {
                let (partition, member) = (usize::from(node.partition), usize::from(node.member));
                let may = !only_held || held[partition] == Some(member);
                if may && owners[partition].is_none() && room[member] > 0 {
                    room[member] -= 1;
                    owners[partition] = Some(member);
                }
            }
        }
        let owner =
            |member: Option<usize>| member.expect("the quotas are all partitions, and every member has a node at each");
        Map { owners: owners.into_iter().map(|member| self.members[owner(member)].clone()).collect() }
    }
}

impl Map {
    /// The map of a ring of these members while nobody holds anything.
    pub fn new<'a>(partitions: Partitions, members: impl IntoIterator<Item = (&'a Instance, u16)>) -> Map {
        Ring::new(partitions, members).map()
    }

    /// The map that follows when this one is held and the members are now those of `ring`.
    pub fn next(&self, ring: &Ring) -> Map {
        ring.map_from(|partition| self.of(partition))
    }

    /// `None` only without members.
    pub fn of(&self, partition: Partition) -> Option<&Instance> {
        self.owners.get(usize::from(partition.0))
    }

    /// How many partitions a member has.
    pub fn count(&self, instance: &Instance) -> usize {
        self.owners.iter().filter(|owner| *owner == instance).count()
    }

    /// How many partitions have another owner in `other`.
    pub fn moved(&self, other: &Map) -> usize {
        let both = self.owners.iter().zip(&other.owners);
        self.owners.len().abs_diff(other.owners.len()) + both.filter(|(here, there)| here != there).count()
    }
}

/// Shares the partitions out by the method of Webster and Sainte-Laguë (each next one to the greatest weight / (2 · has + 1)):
/// nobody gains by another's coming or loses by another's going. Within [`capacity`].
fn quotas(partitions: Partitions, members: &[(&Instance, u64)]) -> Vec<u64> {
    let total: u64 = members.iter().map(|(_, weight)| weight).sum();
    let mut quotas = vec![0; members.len()];
    let lots: Vec<u64> = members.iter().map(|(instance, _)| fnv1a64(instance.token())).collect();
    let claim = |member: usize, quotas: &[u64]| (members[member].1, 2 * quotas[member] + 1);
    for _ in 0..if members.is_empty() { 0 } else { partitions.count() } {
        let has_room = |member: &usize| quotas[*member] < capacity(partitions, members[*member].1, total);
        let next = (0..members.len()).filter(has_room).max_by(|left, right| {
            let ((weight, has), (other_weight, other_has)) = (claim(*left, &quotas), claim(*right, &quotas));
            let by_claim: Ordering = (weight * other_has).cmp(&(other_weight * has));
            by_claim.then(lots[*left].cmp(&lots[*right]))
        });
        quotas[next.expect("together the members' capacity is at least all partitions")] += 1;
    }
    quotas
}

fn nodes(partitions: Partitions, members: &[(&Instance, u64)]) -> Vec<VirtualNode> {
    let steps = exponential_steps(u64::from(partitions.count()));
    let mut nodes = Vec::with_capacity(steps.len() * members.len());
    for (member, (instance, weight)) in members.iter().enumerate() {
        let seed = fnv1a64(instance.token());
        let mut order: Vec<(u64, u16)> =
            partitions.all().map(|partition| (lot(seed, partition), partition.0)).collect();
        order.sort_unstable();
        nodes.extend(order.into_iter().zip(&steps).map(|((lot, partition), step)| VirtualNode {
            distance: step / weight,
            lot,
            partition,
            member: member as u16,
        }));
    }
    nodes.sort_unstable();
    nodes
}

/// What the smallest, second smallest … of `count` exponentially distributed distances are on average:
/// 1/P, 1/P + 1/(P-1), … Fixed point with 48 bits after the point.
fn exponential_steps(count: u64) -> Vec<u64> {
    let mut sum = 0;
    (0..count)
        .map(|rank| {
            sum += (1 << 48) / (count - rank);
            sum
        })
        .collect()
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): spreads names.
pub(crate) fn fnv1a64(token: &Token) -> u64 {
    let bytes = token.as_str().bytes();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Where a partition stands in a member's order: SplitMix64 (Steele, Lea, Flood 2014) of the name's hash and the number,
/// since FNV alone leaves neighbouring numbers close together.
fn lot(seed: u64, partition: Partition) -> u64 {
    splitmix(seed ^ splitmix(u64::from(partition.0)))
}

pub(crate) fn splitmix(value: u64) -> u64 {
    let mut bits = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

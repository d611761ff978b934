//! What sets one push kind apart from another: a [`PushKind`], and which units a call [`Reach`]es.

use std::time::Duration;

use pushmesh_protocol::{
    Kind, Unit,
    message::{AtEnd, Policy},
};

/// How long an ended call's record stands in `call_<kind>` at least; its id can't be used again before.
pub const ENDED_CALL_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The rules of one kind. Everything else is the engine's.
pub trait PushKind: Send + Sync + 'static {
    /// Its name: the service is `<kind>-push`, the streams and the bucket carry it too.
    fn kind(&self) -> &Kind;

    /// Which members a call reaches.
    fn reach(&self) -> Reach;

    /// What becomes of a push of a call that nobody acknowledges.
    fn delivery(&self) -> Policy;

    /// Most members of one unit; `None`: no limit.
    fn members_max(&self) -> Option<usize> {
        None
    }

    /// How long after its last call's end a unit's members are forgotten; `None`: never.
    fn dissolve_after(&self) -> Option<Duration> {
        None
    }
}

/// The usual policy of a call's push: a dead letter after the third transmission, expired with its login or after
/// `lifetime`.
pub fn call_policy(lifetime: Duration) -> Policy {
    Policy { at_end: AtEnd::Dead, lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX) }
}

/// How long the record of an ended call stands: a new owner must still see it when its unit is due to dissolve.
pub fn ended_call_lifetime(kind: &dyn PushKind) -> Duration {
    match kind.dissolve_after() {
        Some(after) => ENDED_CALL_LIFETIME.max(after + Duration::from_secs(5 * 60)),
        None => ENDED_CALL_LIFETIME,
    }
}

/// Which members a call in a unit reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Those of exactly that unit.
    Unit,
    /// Those of that unit and of all units below it.
    Below,
}

impl Reach {
    /// Whether a call in `call` reaches a member of `member`.
    pub fn reaches(self, call: &Unit, member: &Unit) -> bool {
        match self {
            Self::Unit => call == member,
            Self::Below => call.covers(member),
        }
    }

    /// The units (dotted) whose calls reach a member of `unit` (dotted), the most specific first.
    pub(crate) fn sources(self, unit: &str) -> impl Iterator<Item = &str> {
        let above = match self {
            Self::Unit => None,
            Self::Below => Some(unit.rmatch_indices('.').map(|(end, _)| &unit[..end])),
        };
        std::iter::once(unit).chain(above.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // The two directions agree: a call is found from a member exactly if the member is found from the call.
        #[test]
        fn sources_are_the_units_that_reach(call in "[ab](/[ab]){0,3}", member in "[ab](/[ab]){0,3}") {
            let (call, member) = (Unit::new(&call).unwrap(), Unit::new(&member).unwrap());
            for reach in [Reach::Unit, Reach::Below] {
                let found = reach.sources(member.dotted()).any(|source| source == call.dotted());
                prop_assert_eq!(found, reach.reaches(&call, &member));
            }
        }
    }
}

//! The calls of one kind, active and lately ended: what the bucket `call_<kind>` says. Pure.
//!
//! One book serves all partitions of a process: a hundred thousand calls held once, not once for each partition.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use pushmesh_protocol::{
    CallId, Payload, TraceContext, Unit,
    message::{CallRecord, Millis},
};

/// A call as it is known now.
#[derive(Debug, Clone, PartialEq)]
pub struct CallNote {
    pub id: CallId,
    pub unit: Unit,
    pub started_at: Millis,
    pub ended_at: Option<Millis>,
    pub data: Option<Payload>,
    pub trace: Option<TraceContext>,
}

/// What changed: every partition is told, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum CallNews {
    Started(Arc<CallNote>),
    Ended(Arc<CallNote>),
    /// A unit's last call ended so long ago that its members are forgotten.
    Dissolved(Dissolved),
}

/// Memberships of `unit` written at or before `until` are to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dissolved {
    pub unit: Unit,
    pub until: Millis,
}

#[derive(Debug, Default)]
struct UnitCalls {
    active: Vec<Arc<CallNote>>,
    ended: Vec<Arc<CallNote>>,
}

/// All calls, by id and by unit.
#[derive(Debug, Default)]
pub struct CallBook {
    calls: HashMap<CallId, Arc<CallNote>>,
    units: HashMap<Box<str>, UnitCalls>,
    active: usize,
    dissolve_after: Option<Millis>,
    /// When which ended call's unit may be due.
    due: BTreeSet<(Millis, CallId)>,
    /// While a snapshot is read again: calls that it has not mentioned yet.
    unseen: Option<HashSet<CallId>>,
}

impl CallBook {
    pub fn new(dissolve_after: Option<Duration>) -> Self {
        let millis = |after: Duration| u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self { dissolve_after: dissolve_after.map(millis), ..Self::default() }
    }

    /// Active calls in exactly this unit (dotted).
    pub fn active_in(&self, unit: &str) -> &[Arc<CallNote>] {
        self.units.get(unit).map_or(&[], |calls| &calls.active)
    }

    /// Ended calls in exactly this unit (dotted) whose record still stands.
    pub fn ended_in(&self, unit: &str) -> &[Arc<CallNote>] {
        self.units.get(unit).map_or(&[], |calls| &calls.ended)
    }

    pub fn active(&self) -> impl Iterator<Item = &Arc<CallNote>> {
        self.calls.values().filter(|call| call.ended_at.is_none())
    }

    pub fn active_count(&self) -> usize {
        self.active
    }

    /// The record of a call was written.
    pub fn put(&mut self, id: &CallId, record: CallRecord) -> Option<CallNews> {
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(id);
        }
        let known = self.calls.get(id);
        match (known.map(|call| call.ended_at), record.ended_at) {
            // An ended call never begins again, and the same call started twice is one.
            (Some(Some(_)), _) | (Some(None), None) => None,
            (None, None) => {
                let note = Arc::new(CallNote {
                    id: id.clone(),
                    unit: record.unit,
                    started_at: record.started_at,
                    ended_at: None,
                    data: record.data,
                    trace: record.trace,
                });
                self.insert(note.clone());
                Some(CallNews::Started(note))
            }
            (_, Some(ended_at)) => {
                self.remove(id);
                let note = Arc::new(CallNote {
                    id: id.clone(),
                    unit: record.unit,
                    started_at: record.started_at,
                    ended_at: Some(ended_at),
                    data: None,
                    trace: record.trace,
                });
                self.insert(note.clone());
                Some(CallNews::Ended(note))
            }
        }
    }

    /// The record of a call is gone. One that had not ended has ended by that: whoever hears of it writes so, for those who
    /// come later and know nothing of it.
    pub fn gone(&mut self, id: &CallId, now: Millis) -> Option<CallNews> {
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(id);
        }
        let note = self.remove(id)?;
        match note.ended_at {
            Some(_) => None,
            None => Some(CallNews::Ended(Arc::new(CallNote { ended_at: Some(now), data: None, ..(*note).clone() }))),
        }
    }

    /// A snapshot of all records follows.
    pub fn restarted(&mut self) {
        self.unseen = Some(self.calls.keys().cloned().collect());
    }

    /// The snapshot is complete: what it did not mention is gone.
    pub fn current(&mut self, now: Millis) -> Vec<CallNews> {
        let unseen = self.unseen.take().unwrap_or_default();
        unseen.iter().filter_map(|id| self.gone(id, now)).collect()
    }

    /// Units that have become due to be dissolved since the last time.
    pub fn take_due(&mut self, now: Millis) -> Vec<CallNews> {
        let mut news = Vec::new();
        while let Some((due, id)) = self.due.first().cloned() {
            if due > now {
                break;
            }
            self.due.pop_first();
            let Some(call) = self.calls.get(&id) else { continue };
            // A younger end, or an active call, keeps the unit.
            if self.dissolved_at(call.unit.dotted()) == Some(due) {
                news.push(CallNews::Dissolved(Dissolved { unit: call.unit.clone(), until: due }));
            }
        }
        news
    }

    /// Until when memberships of this unit (dotted) are forgotten, if it is due.
    pub fn dissolved_until(&self, unit: &str, now: Millis) -> Option<Millis> {
        self.dissolved_at(unit).filter(|due| *due <= now)
    }

    fn dissolved_at(&self, unit: &str) -> Option<Millis> {
        let (after, calls) = (self.dissolve_after?, self.units.get(unit)?);
        if !calls.active.is_empty() {
            return None;
        }
        calls.ended.iter().filter_map(|call| call.ended_at).max().map(|ended| ended.saturating_add(after))
    }

    fn insert(&mut self, note: Arc<CallNote>) {
        let unit = self.units.entry(note.unit.dotted().into()).or_default();
        match note.ended_at {
            None => {
                unit.active.push(note.clone());
                self.active += 1;
            }
            Some(ended_at) => {
                unit.ended.push(note.clone());
                if let Some(after) = self.dissolve_after {
                    self.due.insert((ended_at.saturating_add(after), note.id.clone()));
                }
            }
        }
        self.calls.insert(note.id.clone(), note);
    }

    fn remove(&mut self, id: &CallId) -> Option<Arc<CallNote>> {
        let note = self.calls.remove(id)?;
        let unit = note.unit.dotted();
        if let Some(calls) = self.units.get_mut(unit) {
            match note.ended_at {
                None => {
                    calls.active.retain(|call| call.id != *id);
                    self.active -= 1;
                }
                Some(ended_at) => {
                    calls.ended.retain(|call| call.id != *id);
                    if let Some(after) = self.dissolve_after {
                        self.due.remove(&(ended_at.saturating_add(after), id.clone()));
                    }
                }
            }
            if calls.active.is_empty() && calls.ended.is_empty() {
                self.units.remove(unit);
            }
        }
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(unit: &str, ended_at: Option<Millis>) -> CallRecord {
        CallRecord { unit: Unit::new(unit).unwrap(), started_at: 1, ended_at, data: None, trace: None }
    }

    fn call(id: &str) -> CallId {
        CallId::new(id).unwrap()
    }

    #[test]
    fn a_call_begins_once_and_ends_once() {
        let mut book = CallBook::default();
        assert!(matches!(book.put(&call("c"), record("g", None)), Some(CallNews::Started(_))));
        assert_eq!(book.put(&call("c"), record("g", None)), None);
        assert_eq!(book.active_in("g").len(), 1);
        assert!(matches!(book.put(&call("c"), record("g", Some(9))), Some(CallNews::Ended(_))));
        assert_eq!(book.put(&call("c"), record("g", Some(9))), None);
        assert_eq!(book.put(&call("c"), record("g", None)), None, "an ended call never begins again");
        assert_eq!((book.active_in("g").len(), book.ended_in("g").len(), book.active_count()), (0, 1, 0));
        assert_eq!(book.gone(&call("c"), 20), None);
        assert!(book.calls.is_empty() && book.units.is_empty() && book.due.is_empty());
    }

    #[test]
    fn what_a_new_snapshot_does_not_mention_has_ended() {
        let mut book = CallBook::default();
        book.put(&call("stays"), record("g", None));
        book.put(&call("goes"), record("g", None));
        book.restarted();
        assert_eq!(book.put(&call("stays"), record("g", None)), None);
        let news = book.current(7);
        assert!(matches!(&news[..], [CallNews::Ended(note)] if note.id == call("goes") && note.ended_at == Some(7)));
        assert_eq!(book.active_count(), 1);
    }

    #[test]
    fn a_unit_dissolves_after_its_last_call_alone() {
        let mut book = CallBook::new(Some(Duration::from_millis(100)));
        book.put(&call("a"), record("d", Some(10)));
        book.put(&call("b"), record("d", None));
        assert_eq!(book.take_due(500), [], "b still goes on");
        book.put(&call("b"), record("d", Some(600)));
        assert_eq!(book.take_due(699), []);
        let due = Dissolved { unit: Unit::new("d").unwrap(), until: 700 };
        assert_eq!(book.take_due(700), [CallNews::Dissolved(due)]);
        assert_eq!(book.take_due(900), [], "once");
        assert_eq!(book.dissolved_until("d", 900), Some(700), "a new owner asks");
        book.put(&call("c"), record("d", None));
        assert_eq!(book.dissolved_until("d", 900), None);
    }
}

//! Stories of a member that loses everything again and again.

use super::*;

#[test]
fn whoever_loses_everything_again_and_again_rests_before_it_takes_anew() {
    let mut story = Story::with(&[]);
    story.own().grant();
    for in_a_row in 1..=4 {
        let held = story.state.held();
        assert!(story.state.covered());
        story.pass_deaf(1000 * MS);
        assert!(!story.state.covered(), "the leases still name it, and nobody works");
        assert_eq!(story.fencing(), Some((held.len(), Deafness::Unheard, in_a_row)));
        story.works_end(&held);
        story.log.clear();
        let begun = story.now;
        story.tell(Event::Echo(Echo { sent: story.now, revived: true }));
        let Action::Revived { pause } = story.log.remove(0) else { panic!("{:?}", story.log) };
        assert_eq!(pause > Duration::ZERO, in_a_row > 1);
        assert_eq!(story.state.rests(story.now), in_a_row > 1);
        while story.log.is_empty() {
            assert!(!story.state.covered(), "it is heard, and rests");
            story.pass(50 * MS);
        }
        let rested = story.now - begun;
        assert!((pause..pause + 150 * MS).contains(&rested), "{rested:?} instead of {pause:?}");
        assert!(
            story.log.iter().all(|action| matches!(action, Action::Take { .. })),
            "kept till then: {:?}",
            story.log
        );
        assert_eq!(story.grant().len(), usize::from(P));
    }
    story.pass(61_000 * MS).pass_deaf(1000 * MS);
    assert_eq!(story.fencing().map(|(_, _, in_a_row)| in_a_row), Some(1), "a minute later that is forgotten");
}

#[test]
fn work_that_sees_first_that_the_pulse_has_stopped_has_lost_its_lease_and_not_given_it_up() {
    let mut story = Story::with(&[]);
    story.own().grant();
    let held = story.state.held();
    story.now += 950 * MS;
    story.works_end(&held[..1]);
    assert_eq!(story.drain_losses(), held.len());
    assert!(story.fencing().is_some());
    assert_eq!(story.log, [], "it is not given back");
}

#[test]
fn an_echo_that_comes_late_of_a_heartbeat_that_was_sent_in_time_keeps_everything() {
    let mut story = Story::with(&[]);
    story.own().grant();
    story.log.clear();
    let sent = story.now + 250 * MS;
    story.now += 1000 * MS;
    story.tell(Event::Echo(Echo { sent, revived: false })).tell(Event::Tick);
    assert_eq!(story.log, []);
}

#[test]
fn what_is_not_to_be_ours_is_given_back_at_rest_too() {
    let mut story = Story::with(&[]);
    story.own().grant();
    for _ in 0..2 {
        let held = story.state.held();
        story.pass_deaf(1000 * MS);
        story.works_end(&held);
        story.log.clear();
        story.tell(Event::Echo(Echo { sent: story.now, revived: true }));
        if story.state.rests(story.now) {
            break;
        }
        story.pass(50 * MS);
        story.grant();
    }
    story.joins("b");
    story.tell(Event::Tick);
    let back = story.drain(|action| matches!(action, Action::GiveBack { .. }));
    assert_eq!(back.len(), usize::from(P) / 2);
    assert_eq!(story.drain(|action| matches!(action, Action::Take { .. })), []);
}

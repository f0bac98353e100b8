use std::collections::VecDeque;

use super::*;
use crate::config::Slot;
use crate::state::{KeyState, SlotMode};
use bench::{Bench, Kind};
use countersign_token::{Algorithm, RsaBits};
use proptest::prelude::*;

mod bench;

const DAY: u64 = 24 * 3_600;

fn restart(bench: &mut Bench, index: usize) {
    bench.nodes[index] = Node::new(u128::from(bench.now) << 64, Role::Rotator);
}

#[test]
fn i1_a_key_becomes_a_standby_only_when_no_cache_can_lack_it() {
    let mut bench = Bench::new(RingConfig::new([Slot::new("es256", Algorithm::Es256)]), 1);
    bench.pass(60);
    let kid = bench.kid(KeyState::Announced).unwrap();
    let confirmed = bench.ring().keys[&kid].confirmed_at.unwrap();
    while bench.kid(KeyState::Standby).is_none() {
        bench.pass(1);
    }
    let waited = bench.clock().wall.saturating_since(confirmed).as_secs();
    // C + P + ε, and at most a tick and the wait for one's turn.
    assert!((640..=656).contains(&waited), "{waited}");
}

#[test]
fn i1_what_was_published_and_cannot_be_read_back_is_not_announced() {
    let mut bench = Bench::running(1);
    bench.failing.insert(Kind::ReadBack, Failure::Unavailable);
    bench.pass(DAY + 2_000);
    assert!(bench.ring().keys.values().all(|key| key.state != KeyState::Announced || key.confirmed_at.is_none()));
    assert!(bench.alarms.contains(&Alarm::ReadBackFailing(Failure::Unavailable)));
}

#[test]
fn i1_a_name_that_is_read_back_with_another_key_behind_it_is_not_announced() {
    let mut bench = Bench::running(1);
    bench.failing.insert(Kind::ReadBack, Failure::Unavailable);
    bench.command(Command::Rotate { slots: Vec::new() });
    bench.pass(60);
    let kid = bench.kid(KeyState::Announced).unwrap();
    let set = bench.set.clone().unwrap().0;
    let text = String::from_utf8(set.to_vec()).unwrap();
    let (own, evil) =
        (format!(r#"{{"kid":"{kid}","kty":"EC"}}"#), format!(r#"{{"kid":"{kid}","kty":"EC","x":"evil"}}"#));
    for edited in [text.replace(&own, &evil), text.replace(&own, &format!("{own},{evil}"))] {
        assert_ne!(edited, text);
        bench.feed(0, Event::ReadBack(Ok(edited.into_bytes().into())));
        bench.pass(30);
        assert_eq!(bench.ring().keys[&kid].confirmed_at, None);
    }
    bench.feed(0, Event::ReadBack(Ok(set)));
    bench.pass(30);
    assert!(bench.ring().keys[&kid].confirmed_at.is_some());
}

#[test]
fn the_first_keys_of_a_ring_sign_as_soon_as_they_were_read_back() {
    let mut bench = Bench::new(RingConfig::new([Slot::new("es256", Algorithm::Es256)]), 1);
    bench.pass(30);
    assert!(bench.signs(0).is_ok());
    assert_eq!(bench.generated, 2);
}

#[test]
fn sixteen_nodes_on_an_empty_store_make_one_key_for_each_slot() {
    let slots = [Slot::new("es256", Algorithm::Es256), Slot::rsa("rs256", Algorithm::Rs256, RsaBits::B2048)];
    let mut bench = Bench::new(RingConfig::new(slots), 16);
    bench.pass(1_000);
    for slot in ["es256", "rs256"] {
        assert_eq!(bench.ring().keys_in(slot, KeyState::Active).count(), 1);
        assert_eq!(bench.ring().keys_in(slot, KeyState::Standby).count(), 1);
    }
    assert_eq!(bench.ring().keys.len() + bench.ring().tombstones.len(), 4);
    assert!((0..16).all(|index| bench.signs(index).is_ok()));
}

#[test]
fn i2_all_due_slots_are_rotated_in_one_version() {
    let slots = [Slot::new("es256", Algorithm::Es256), Slot::new("ed25519", Algorithm::Ed25519)];
    let mut bench = Bench::new(RingConfig::new(slots), 1);
    bench.pass(900);
    let before = bench.ring().clone();
    while bench.ring().active("es256") == before.active("es256") {
        let seq = bench.ring().seq;
        bench.pass(1);
        let is_rotated = bench.ring().active("es256") != before.active("es256");
        let other = bench.ring().active("ed25519") != before.active("ed25519");
        assert_eq!(is_rotated, other, "after version {seq}");
    }
}

#[test]
fn i3_nobody_signs_by_a_view_that_is_older_than_the_lease() {
    let mut bench = Bench::running(1);
    assert!(bench.signs(0).is_ok());
    bench.failing.insert(Kind::Load, Failure::Unavailable);
    bench.pass(20);
    assert!(bench.signs(0).is_ok());
    bench.pass(20);
    assert_eq!(bench.signs(0), Err(NotSigning::ViewTooOld));
    bench.failing.clear();
    bench.pass(90);
    assert!(bench.signs(0).is_ok());
}

#[test]
fn i4_a_key_stays_published_for_its_overlap_and_its_private_part_does_not_stay() {
    let mut bench = Bench::running(1);
    let old = bench.kid(KeyState::Active).unwrap();
    assert!(
        matches!(bench.command(Command::Rotate { slots: Vec::new() }), Reply::Rotated { now, .. } if now == ["es256"])
    );
    assert_eq!(bench.ring().fate(&old), Some(KeyState::Retiring));
    bench.pass(58);
    assert!(bench.privates.contains(&old), "somebody may still sign with it");
    // G + ε + K
    bench.pass(15);
    assert!(!bench.privates.contains(&old));
    bench.pass(DAY - 100);
    assert!(bench.published().contains(&old));
    bench.pass(130);
    assert_eq!(bench.ring().fate(&old), Some(KeyState::Retired));
    assert!(!bench.published().contains(&old));
}

#[test]
fn i4_a_key_is_deactivated_when_that_was_seen_not_when_the_write_was_prepared() {
    let mut bench = Bench::running(1);
    let old = bench.kid(KeyState::Active).unwrap();
    bench.command(Command::Rotate { slots: Vec::new() });
    let key = &bench.ring().keys[&old];
    assert!(key.deactivated_at >= bench.ring().active("es256").unwrap().1.activated_at);
}

#[test]
fn i5_no_token_outlives_the_key_that_it_is_signed_with() {
    let mut bench = Bench::running(1);
    let view = |bench: &Bench| bench.nodes[0].signing_view(&bench.config);
    let now = bench.clock();
    let exp = view(&bench).leave("es256", now).unwrap().latest_exp;
    assert_eq!(exp, now.wall.saturating_add(Duration::from_secs(3_600)));
    // The key has to go in ten minutes: whatever is signed now is accepted with W of leeway, by a clock that is ε
    // behind.
    let kid = bench.kid(KeyState::Active).unwrap();
    let end = now.wall.saturating_add(Duration::from_secs(600));
    let (state, number) = bench.state.clone().unwrap();
    let mut state = (*state).clone();
    state.keys.get_mut(&kid).unwrap().remove_at = Some(end);
    let standby = bench.kid(KeyState::Standby).unwrap();
    state.keys.get_mut(&standby).unwrap().state = KeyState::Abandoned;
    bench.state =
        Some((Arc::new(RingState { seq: state.seq + 1, nonce: "operator".to_owned(), ..state }), number + 1_000));
    bench.pass(11);
    let exp = view(&bench).leave("es256", bench.clock()).unwrap().latest_exp;
    assert_eq!(exp, end.saturating_sub(Duration::from_secs(90)));
    bench.pass(500);
    assert_eq!(bench.signs(0), Err(NotSigning::NoTimeLeft));
}

#[test]
fn i8_a_foreign_set_is_neither_emptied_nor_shrunk() {
    let mut bench = Bench::new(RingConfig::new([Slot::new("es256", Algorithm::Es256)]), 1);
    let foreign: Arc<[u8]> = br#"{"keys":[{"kid":"theirs","kty":"RSA"}]}"#.as_slice().into();
    bench.set = Some((foreign.clone(), 1));
    bench.pass(120);
    assert_eq!(bench.set.as_ref().unwrap().0, foreign);
    assert!(bench.state.is_none());
    assert!(bench.alarms.contains(&Alarm::StateLost));
}

#[test]
fn i8_a_foreign_set_is_known_as_one_whatever_it_has_beside_its_keys() {
    for foreign in [
        r#"{"keys":[{"kid":"theirs","kty":"RSA"}],"seq":"2026-11"}"#,
        r#"{"keys":[{"kid":"theirs","kty":"RSA"}],"seq":-1}"#,
        r#"{"keys":[{"kid":"theirs","kty":"RSA"}],"seq":7.5}"#,
        r#"{"keys":[{"kid":7,"kty":"RSA"}]}"#,
        r#"{"keys":[{"kid":"theirs","kid":"theirs","kty":"RSA"}]}"#,
    ] {
        let mut bench = Bench::new(RingConfig::new([Slot::new("es256", Algorithm::Es256)]), 1);
        bench.set = Some((foreign.as_bytes().into(), 1));
        bench.pass(120);
        assert_eq!(&*bench.set.as_ref().unwrap().0, foreign.as_bytes());
        assert!(bench.state.is_none() && bench.alarms.contains(&Alarm::StateLost), "{foreign}");
    }
}

#[test]
fn i9_a_compromised_key_is_gone_at_once_and_the_reply_says_what_remains() {
    let mut bench = Bench::running(1);
    let (old, next) = (bench.kid(KeyState::Active).unwrap(), bench.kid(KeyState::Standby).unwrap());
    let which = Compromised::Key(old.clone());
    let reply = bench.command(Command::Compromise { which, sign_at_once: false });
    let Reply::Revoked { kids, exposure, halted } = reply else { panic!("{reply:?}") };
    assert_eq!((kids, halted), (vec![old.clone()], Vec::<String>::new()));
    assert_eq!((exposure.with_feed.as_secs(), exposure.without_feed.as_secs()), (32, 640));
    assert_eq!(bench.signs(0), Ok(next));
    assert_eq!(bench.pushed, std::slice::from_ref(&old));
    assert!(!bench.published().contains(&old) && !bench.privates.contains(&old));
    bench.pass(2 * DAY);
    assert_eq!(bench.ring().fate(&old), Some(KeyState::Revoked), "for ever");
}

#[test]
fn i9_the_keys_that_sign_in_some_slots_are_revoked_and_no_other() {
    let mut bench = Bench::running(1);
    let (old, next) = (bench.kid(KeyState::Active).unwrap(), bench.kid(KeyState::Standby).unwrap());
    let order = |slots: &[&str]| {
        let which = Compromised::Signing(slots.iter().map(|slot| (*slot).to_owned()).collect());
        Command::Compromise { which, sign_at_once: false }
    };
    let refused = bench.command(order(&["es256", "none"]));
    assert_eq!(refused, Reply::Refused(Refusal::NoSuchSlot("none".to_owned())));
    assert_eq!(bench.signs(0), Ok(old.clone()), "nothing of it was done");
    let Reply::Revoked { kids, halted, .. } = bench.command(order(&["es256"])) else { panic!() };
    assert_eq!((kids, halted), (vec![old.clone()], Vec::<String>::new()));
    assert_eq!(bench.signs(0), Ok(next.clone()));
    // The next time, the slot has no standby yet.
    let Reply::Revoked { kids, halted, .. } = bench.command(order(&[])) else { panic!() };
    assert_eq!((kids, halted), (vec![next.clone()], vec!["es256".to_owned()]));
    let Reply::Revoked { kids, halted, .. } = bench.command(order(&[])) else { panic!() };
    assert_eq!((kids, halted), (Vec::new(), vec!["es256".to_owned()]), "nobody signs: there is nothing to revoke");
    assert!([old, next].iter().all(|kid| bench.ring().fate(kid) == Some(KeyState::Revoked)));
}

#[test]
fn i9_when_all_is_compromised_a_ring_halts_until_its_next_key_is_announced_or_signs_at_once() {
    for (sign_at_once, least, most) in [(false, 640, 700), (true, 0, 40)] {
        let mut bench = Bench::running(1);
        let reply = bench.command(Command::Compromise { which: Compromised::All, sign_at_once });
        let Reply::Revoked { kids, halted, .. } = reply else { panic!("{reply:?}") };
        assert_eq!((kids.len(), halted), (2, vec!["es256".to_owned()]));
        let since = bench.now;
        while bench.signs(0).is_err() {
            assert!(!bench.published().is_empty());
            bench.pass(1);
        }
        let waited = bench.now - since;
        assert!((least..=most).contains(&waited), "{waited}");
        assert!(bench.published().iter().all(|kid| bench.ring().fate(kid) != Some(KeyState::Revoked)));
    }
}

#[test]
fn i10_a_node_whose_clock_is_wrong_neither_signs_nor_rotates_and_says_so() {
    let mut bench = Bench::running(1);
    let seq = bench.ring().seq;
    for offset in [60, -60, 10_000_000] {
        bench.offset = offset;
        // Before the store was asked; what is ahead by more than the lease looks old as well.
        let refusal = bench.signs(0).unwrap_err();
        assert!(refusal == NotSigning::ClockUnsound || (offset > 30 && refusal == NotSigning::ViewTooOld), "{refusal}");
        bench.pass(300);
        assert!(!bench.nodes[0].is_clock_sound() && bench.signs(0).is_err());
        assert_eq!(bench.ring().seq, seq);
        assert!(bench.alarms.contains(&Alarm::ClockUnsound));
        bench.offset = 0;
        bench.pass(20);
        assert!(bench.signs(0).is_ok());
    }
}

#[test]
fn i11_an_overdue_rotation_happens_as_soon_as_it_can_and_is_an_alarm_before() {
    let mut bench = Bench::running(1);
    let old = bench.kid(KeyState::Active).unwrap();
    bench.failing.insert(Kind::Save, Failure::Unavailable);
    bench.pass(DAY + 100);
    assert_eq!(bench.signs(0), Ok(old.clone()), "it goes on");
    assert!(bench.alarms.contains(&Alarm::RotationOverdue("es256".to_owned())));
    bench.failing.clear();
    bench.pass(100);
    assert_eq!(bench.ring().fate(&old), Some(KeyState::Retiring));
}

#[test]
fn i11_no_key_signs_beyond_its_hard_limit() {
    let mut config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
    config.timing.hard_limit = Duration::from_secs(DAY + 3_600);
    let mut bench = Bench::new(config, 1);
    bench.pass(900);
    bench.failing.insert(Kind::Save, Failure::Denied);
    bench.pass(DAY + 3_600);
    assert_eq!(bench.signs(0), Err(NotSigning::HardLimit));
}

#[test]
fn if_publishing_fails_the_current_key_stays() {
    let mut bench = Bench::running(1);
    let old = bench.kid(KeyState::Active).unwrap();
    let standby = bench.kid(KeyState::Standby).unwrap();
    bench.failing.insert(Kind::Publish, Failure::Unavailable);
    // The standby was published long since; the next one cannot be.
    bench.pass(DAY + 100);
    assert_eq!(bench.ring().fate(&old), Some(KeyState::Retiring));
    assert_eq!(bench.signs(0), Ok(standby.clone()));
    bench.pass(DAY + 100);
    assert_eq!(bench.signs(0), Ok(standby));
    assert!(bench.alarms.contains(&Alarm::PublishFailing(Failure::Unavailable)));
    bench.failing.clear();
    bench.pass(5_000);
    assert!(bench.kid(KeyState::Standby).is_some());
}

#[test]
fn if_a_private_part_cannot_be_stored_nothing_harmful_happens_and_it_is_an_alarm() {
    let mut bench = Bench::running(1);
    bench.failing.insert(Kind::Seal, Failure::Denied);
    let old = bench.kid(KeyState::Active).unwrap();
    bench.command(Command::Rotate { slots: Vec::new() });
    bench.pass(60);
    let (active, announced) = (bench.kid(KeyState::Active).unwrap(), bench.kid(KeyState::Announced).unwrap());
    assert!(bench.alarms.contains(&Alarm::PrivateStoreFailed(announced.clone())));
    bench.pass(1_100);
    assert_eq!(bench.ring().fate(&announced), Some(KeyState::Abandoned), "after T_orphan");
    assert_eq!(bench.signs(0), Ok(active));
    assert!(bench.published().contains(&old));
    bench.failing.clear();
    bench.pass(2_500);
    assert!(bench.kid(KeyState::Standby).is_some());
}

#[test]
fn a_private_part_that_cannot_be_had_is_no_reason_to_rotate_and_one_that_is_gone_is() {
    for failure in [OpenFailure::Unavailable, OpenFailure::Denied, OpenFailure::Undecryptable] {
        let mut bench = Bench::running(2);
        let active = bench.kid(KeyState::Active).unwrap();
        bench.opening = Some(failure);
        restart(&mut bench, 1);
        bench.pass(3_600);
        assert_eq!(bench.kid(KeyState::Active), Some(active.clone()), "{failure:?}");
        assert_eq!(bench.ring().keys.len(), 2, "no key was made");
        assert_eq!((bench.signs(0), bench.signs(1)), (Ok(active.clone()), Err(NotSigning::KeyUnavailable)));
        assert!(bench.alarms.contains(&Alarm::PrivateUnavailable(active, failure)));
    }
    let mut bench = Bench::running(16);
    let (active, standby) = (bench.kid(KeyState::Active).unwrap(), bench.kid(KeyState::Standby).unwrap());
    bench.privates.remove(&active);
    for index in 0..15 {
        restart(&mut bench, index);
    }
    bench.pass(100);
    assert_eq!(bench.kid(KeyState::Active), Some(standby), "one rotation in the whole fleet");
    bench.pass(2_000);
    assert_eq!(bench.ring().keys.len(), 3);
}

#[test]
fn a_private_part_that_is_another_keys_is_an_alarm_and_takes_no_key_out_of_use_but_a_standby() {
    let mut bench = Bench::running(1);
    let (active, standby) = (bench.kid(KeyState::Active).unwrap(), bench.kid(KeyState::Standby).unwrap());
    bench.opening = Some(OpenFailure::Mismatch);
    restart(&mut bench, 0);
    bench.pass(60);
    assert!(bench.alarms.contains(&Alarm::PrivateUnavailable(active.clone(), OpenFailure::Mismatch)));
    assert_eq!(bench.ring().fate(&active), Some(KeyState::Active));
    assert_eq!(bench.ring().fate(&standby), Some(KeyState::Abandoned));
    assert_eq!(bench.signs(0), Err(NotSigning::KeyUnavailable));
}

#[test]
fn a_lost_key_without_a_standby_is_replaced_as_soon_as_a_new_one_may_sign() {
    let mut bench = Bench::running(1);
    let (active, standby) = (bench.kid(KeyState::Active).unwrap(), bench.kid(KeyState::Standby).unwrap());
    bench.command(Command::Abandon { kid: standby });
    bench.privates.remove(&active);
    restart(&mut bench, 0);
    bench.pass(60);
    assert_eq!(bench.signs(0), Err(NotSigning::KeyUnavailable));
    bench.pass(800);
    assert!(bench.signs(0).is_ok_and(|kid| kid != active));
    assert_eq!(bench.ring().fate(&active), Some(KeyState::Retiring), "its tokens are still good");
}

#[test]
fn a_key_whose_maker_has_died_is_given_up() {
    let mut bench = Bench::running(1);
    bench.failing.insert(Kind::ReadBack, Failure::Unavailable);
    bench.command(Command::Rotate { slots: Vec::new() });
    bench.pass(30);
    let orphan = bench.kid(KeyState::Announced).unwrap();
    restart(&mut bench, 0);
    bench.failing.clear();
    bench.pass(800);
    assert_eq!(bench.ring().fate(&orphan), Some(KeyState::Announced));
    bench.pass(400);
    assert_eq!(bench.ring().fate(&orphan), Some(KeyState::Abandoned));
    bench.pass(2_000);
    assert!(bench.kid(KeyState::Standby).is_some());
}

#[test]
fn a_write_that_was_made_is_found_to_have_been_made_whatever_the_answer_was() {
    for lie in [Failure::Conflict, Failure::Unknown] {
        let mut bench = Bench::running(1);
        bench.lying = Some(lie);
        let standby = bench.kid(KeyState::Standby).unwrap();
        let reply = bench.command(Command::Rotate { slots: Vec::new() });
        assert_eq!(reply, Reply::Rotated { now: vec!["es256".to_owned()], later: Vec::new() });
        assert_eq!(bench.signs(0), Ok(standby.clone()));
        bench.pass(900);
        assert_eq!(bench.signs(0), Ok(standby), "once, and not twice");
        assert!(bench.kid(KeyState::Standby).is_some(), "keys get through as well");
    }
}

#[test]
fn a_command_that_cannot_be_done_is_refused_and_one_whose_store_is_away_gives_up() {
    let mut bench = Bench::running(1);
    let active = bench.kid(KeyState::Active).unwrap();
    let refused = |reply: Reply| if let Reply::Refused(refusal) = reply { refusal } else { panic!("{reply:?}") };
    let reply = bench.command(Command::Rotate { slots: vec!["x".to_owned()] });
    assert_eq!(refused(reply), Refusal::NoSuchSlot("x".to_owned()));
    let reply = bench.command(Command::Abandon { kid: active.clone() });
    assert_eq!(refused(reply), Refusal::WrongState(active));
    let which = Compromised::Key("x".to_owned());
    let reply = bench.command(Command::Compromise { which, sign_at_once: false });
    assert_eq!(refused(reply), Refusal::NoSuchKey("x".to_owned()));
    bench.failing.insert(Kind::Save, Failure::Unavailable);
    bench.feed(0, Event::Command { id: 9, command: Command::Rotate { slots: Vec::new() } });
    bench.pass(200);
    assert_eq!(bench.replies.last(), Some(&Reply::Refused(Refusal::StoreFailed { is_doubtful: false })));
}

#[test]
fn what_is_ordered_while_the_state_is_read_waits_for_one_more_look_and_for_no_tick() {
    let bench = Bench::running(1);
    let (state, number) = bench.state.clone().unwrap();
    let later = |millis| {
        let now = bench.clock();
        let by = bench.config.timing.tick + Duration::from_millis(millis);
        Now { wall: now.wall.saturating_add(by), monotonic: now.monotonic + by }
    };
    let has_load = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Load));
    let (node, effects) = step(&bench.config, bench.nodes[0].clone(), later(0), Event::Tick);
    assert!(has_load(&effects));
    let order = Event::Command { id: 1, command: Command::Rotate { slots: Vec::new() } };
    let (node, effects) = step(&bench.config, node, later(1), order);
    assert!(!has_load(&effects), "one look at a time");
    let loaded = || {
        Event::Loaded(Ok(Loaded { state: Some((state.clone(), Version::new(number.to_string()))), store_time: None }))
    };
    let (node, effects) = step(&bench.config, node, later(2), loaded());
    assert!(has_load(&effects), "{effects:?}");
    let (_, effects) = step(&bench.config, node, later(3), loaded());
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Save { .. })), "{effects:?}");
}

#[test]
fn a_service_moves_in_with_its_keys_and_nobody_is_refused() {
    let mut bench = Bench::new(RingConfig::new([Slot::rsa("es256", Algorithm::Rs256, RsaBits::B2048)]), 1);
    let theirs = br#"{"keys":[{"kid":"old","kty":"RSA"},{"kid":"older","kty":"RSA"}]}"#;
    bench.set = Some((theirs.as_slice().into(), 1));
    let tokens_until = bench.clock().wall.saturating_add(Duration::from_secs(100_000));
    let adopted = |kid: &str, signs| Adopted {
        slot: "es256".to_owned(),
        jwk: PublicJwk::new(&serde_json::json!({ "kid": kid, "kty": "RSA" })).unwrap(),
        signs,
        tokens_until,
        remove_at: None,
    };
    let keys = vec![adopted("old", true), adopted("older", false)];
    let reply = bench.command(Command::Adopt { keys });
    assert_eq!(reply, Reply::Adopted);
    bench.pass(30);
    assert_eq!(bench.signs(0), Ok("old".to_owned()));
    assert!(["old", "older"].iter().all(|kid| bench.published().contains(&(*kid).to_owned())));
    // Its own next key waits until nobody can lack it, and those of the old service stay for as long as was said.
    bench.pass(DAY + 1_000);
    assert_eq!(bench.ring().fate("old"), Some(KeyState::Retiring));
    bench.pass(100_000 + 90 - DAY - 1_000 - 40);
    assert!(bench.published().contains(&"older".to_owned()));
    bench.pass(100);
    assert!(!bench.published().contains(&"older".to_owned()));
    let reply = bench.command(Command::Adopt { keys: vec![adopted("older", false)] });
    assert_eq!(reply, Reply::Refused(Refusal::KidUsed("older".to_owned())));
    let reply = bench.command(Command::Adopt { keys: vec![adopted("new", true)] });
    assert_eq!(reply, Reply::Refused(Refusal::SlotTaken("es256".to_owned())));
}

#[test]
fn an_older_state_in_the_place_of_a_later_one_is_noticed_and_brings_nothing_back() {
    let mut bench = Bench::running(2);
    let older = bench.state.clone().unwrap();
    let victim = bench.kid(KeyState::Active).unwrap();
    let which = Compromised::Key(victim.clone());
    bench.command(Command::Compromise { which, sign_at_once: false });
    bench.pass(60);
    let latest = bench.ring().seq;
    bench.state = Some((older.0, 1_000_000));
    bench.pass(60);
    assert!(bench.alarms.contains(&Alarm::StateRolledBack));
    assert!(bench.ring().seq > latest);
    assert_eq!(bench.ring().fate(&victim), Some(KeyState::Revoked));
    assert!(!bench.published().contains(&victim));
    assert!(bench.nodes.iter().all(|node| node.alarms().next().is_none()), "it is over");
}

#[test]
fn nobody_signs_or_publishes_by_an_older_state_that_was_put_back() {
    let mut bench = Bench::running(2);
    let older = bench.state.clone().unwrap();
    let old = bench.kid(KeyState::Active).unwrap();
    bench.command(Command::Rotate { slots: Vec::new() });
    bench.pass(120);
    let new = bench.kid(KeyState::Active).unwrap();
    assert_ne!(new, old);
    // Whoever puts back the state may put back the private part as well, and see to it that nobody can write.
    bench.privates.insert(old.clone());
    bench.state = Some((older.0, 1_000_000));
    bench.set = None;
    bench.failing.insert(Kind::Save, Failure::Unavailable);
    for _ in 0..1_000 {
        bench.pass(1);
        for index in 0..2 {
            assert_ne!(bench.signs(index), Ok(old.clone()));
        }
        assert!(bench.set.is_none(), "the set that follows from it lacks what signs");
    }
    assert!(bench.alarms.contains(&Alarm::StateRolledBack));
    bench.failing.clear();
    bench.pass(120);
    assert_eq!(bench.signs(0), Ok(new.clone()));
    assert!(bench.published().contains(&new));
}

#[test]
fn a_set_that_somebody_has_edited_is_noticed_and_replaced() {
    let mut bench = Bench::running(1);
    let good = bench.set.clone().unwrap();
    let text = String::from_utf8(good.0.to_vec()).unwrap();
    let edited = text.replacen("[", r#"[{"kid":"evil","kty":"EC"},"#, 1);
    bench.set = Some((edited.into_bytes().into(), 500));
    bench.pass(1_000);
    assert!(bench.alarms.contains(&Alarm::SetEdited));
    assert_eq!(bench.set.unwrap().0, good.0);
}

#[test]
fn a_set_that_claims_to_be_later_is_left_alone_until_somebody_removes_it() {
    for (evil, alarm) in [
        (r#"{"keys":[],"seq":18446744073709551615}"#, Alarm::SetAhead),
        (r#"{"keys":[{"kid":"evil","kty":"EC"}]}"#, Alarm::WouldShrink("evil".to_owned())),
    ] {
        let mut bench = Bench::running(1);
        let good = bench.published();
        bench.set = Some((evil.as_bytes().into(), 500));
        bench.pass(2_000);
        assert_eq!(&*bench.set.as_ref().unwrap().0, evil.as_bytes());
        assert!(bench.nodes[0].alarms().any(|it| *it == alarm), "{:?}", bench.nodes[0].alarms().collect::<Vec<_>>());
        bench.set = None;
        bench.pass(1_000);
        assert_eq!(bench.published(), good);
    }
}

#[test]
fn two_fleets_with_different_configurations_wait_for_the_longer_and_do_the_shorter() {
    let mut bench = Bench::running(1);
    let short = bench.config.clone();
    let mut long = short.clone();
    (long.timing.max_age, long.timing.max_lifetime) = (Duration::from_secs(1_200), Duration::from_secs(7_200));
    bench.config = long;
    bench.pass(30);
    assert_eq!(bench.ring().terms.max_age, Duration::from_secs(1_200));
    // Whoever has the shorter configuration goes by the longer from now on.
    bench.config = short;
    let exp = |bench: &Bench| {
        let now = bench.clock();
        bench.nodes[0].signing_view(&bench.config).leave("es256", now).unwrap().latest_exp.saturating_since(now.wall)
    };
    assert_eq!(exp(&bench), Duration::from_secs(3_600));
    let (old, standby) = (bench.kid(KeyState::Active).unwrap(), bench.kid(KeyState::Standby).unwrap());
    bench.pass(1_200);
    assert!(
        matches!(bench.command(Command::Rotate { slots: Vec::new() }), Reply::Rotated { now, .. } if now.len() == 1)
    );
    assert_eq!(bench.kid(KeyState::Active), Some(standby));
    let next = bench.kid(KeyState::Announced).unwrap();
    bench.pass(1_400);
    assert_eq!(bench.ring().fate(&next), Some(KeyState::Announced), "C is 1 500 s now, P and ε come on top");
    bench.pass(200);
    assert_eq!(bench.ring().fate(&next), Some(KeyState::Standby));
    assert_eq!(bench.ring().slots["es256"].max_lifetime, Duration::from_secs(7_200));
    assert_eq!(bench.ring().fate(&old), Some(KeyState::Retiring));
    assert_eq!(bench.ring().slots["es256"].mode, SlotMode::Running);
}

#[test]
fn an_unreadable_state_is_not_taken_for_none() {
    let mut bench = Bench::running(1);
    restart(&mut bench, 0);
    bench.failing.insert(Kind::Load, Failure::Unreadable);
    let before = bench.generated;
    bench.pass(200);
    assert_eq!(bench.generated, before);
    assert!(bench.alarms.contains(&Alarm::StoreFailing(Failure::Unreadable)));
}

#[test]
fn a_signer_writes_nothing_and_destroys_nothing() {
    let mut bench = Bench::running(1);
    let seq = bench.ring().seq;
    bench.nodes = vec![Node::new(99 << 64, Role::Signer)];
    bench.pass(2 * DAY);
    assert_eq!((bench.ring().seq, bench.privates.len()), (seq, 2));
    assert!(bench.signs(0).is_ok());
}

/// From an empty store to a ring that has rotated once and destroyed the first key's private part.
fn course(dies: Option<(u32, bool)>) -> Bench {
    let mut bench = Bench::new(RingConfig::new([Slot::new("es256", Algorithm::Es256)]), 1);
    bench.config.timing.rotation = Duration::from_secs(900);
    bench.dies = dies;
    let mut live: Option<String> = None;
    for _ in 0..300 {
        bench.now += 9;
        bench.pass(1);
        let Some((ring, _)) = &bench.state else { continue };
        assert_eq!(ring.check(), Ok(()));
        if let Some(kid) = live
            .iter()
            .chain(ring.active("es256").map(|(kid, _)| kid))
            .find(|kid| ring.fate(kid) == Some(KeyState::Active))
        {
            assert!(bench.published().contains(kid), "{kid} is active and not published");
        }
        live = ring.active("es256").map(|(kid, _)| kid.clone());
    }
    bench
}

#[test]
fn whatever_effect_a_node_dies_before_or_after_the_next_one_goes_on_and_nothing_is_lost() {
    let whole = course(None);
    assert!(whole.effects > 30, "{}", whole.effects);
    for at in 1..=whole.effects {
        for does_it in [false, true] {
            let bench = course(Some((at, does_it)));
            assert!(bench.signs(0).is_ok(), "{at} {does_it}: {:?}", bench.signs(0));
            assert!(
                bench.ring().seq >= 8 && bench.kid(KeyState::Retiring).is_some(),
                "{at} {does_it}: {:?}",
                bench.ring()
            );
            let unused =
                bench.privates.iter().filter(|kid| !bench.ring().fate(kid).is_some_and(KeyState::needs_private));
            assert_eq!(unused.count(), 0, "{at} {does_it}: {:?}", bench.privates);
        }
    }
}

/// What no shell in its right mind would say.
fn any_event() -> impl Strategy<Value = Event> {
    let failure = || {
        use Failure::{Conflict, Denied, NotFound, Unavailable, Unknown, Unreadable};
        proptest::sample::select(vec![NotFound, Conflict, Unknown, Unavailable, Denied, Unreadable])
    };
    let kid = || "es256-[1-4]";
    let jwk = |kid: String| PublicJwk::new(&serde_json::json!({ "kid": kid, "kty": "EC" })).unwrap();
    let version = || any::<u8>().prop_map(|number| Version::new(number.to_string()));
    let bytes = || proptest::collection::vec(any::<u8>(), 0..20).prop_map(Arc::<[u8]>::from);
    prop_oneof![
        Just(Event::Tick),
        failure().prop_map(|failure| Event::Loaded(Err(failure))),
        Just(Event::Loaded(Ok(Loaded { state: None, store_time: None }))),
        failure().prop_map(|failure| Event::Saved(Err(failure))),
        version().prop_map(|version| Event::Saved(Ok(version))),
        kid().prop_map(move |kid| Event::Generated { slot: "es256".to_owned(), key: Some(jwk(kid)) }),
        (bytes(), version()).prop_map(|read| Event::PublishedRead(Ok(Some(read)))),
        failure().prop_map(|failure| Event::Published(Err(failure))),
        version().prop_map(|version| Event::Published(Ok(version))),
        bytes().prop_map(|bytes| Event::ReadBack(Ok(bytes))),
        (kid(), failure()).prop_map(|(kid, failure)| Event::Sealed { kid, result: Err(failure) }),
        kid().prop_map(|kid| Event::Opened { kid, result: Err(OpenFailure::NotFound) }),
        kid().prop_map(|kid| Event::Destroyed { kid, result: Ok(()) }),
        kid().prop_map(|kid| Event::SealedListed(Ok(vec![kid]))),
        any::<u64>().prop_map(|id| {
            let command = Command::Compromise { which: Compromised::All, sign_at_once: id % 2 == 0 };
            Event::Command { id, command }
        }),
        any::<u64>().prop_map(|id| Event::Command { id, command: Command::Rotate { slots: Vec::new() } }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_node_is_told_it_neither_panics_nor_writes_what_does_not_follow(
        events in proptest::collection::vec((any_event(), 0_u64..100), 1..60),
    ) {
        let mut bench = Bench::new(RingConfig::new([Slot::new("es256", Algorithm::Es256)]), 1);
        bench.pass(700);
        for (event, seconds) in events {
            bench.now += seconds;
            let before = bench.state.clone();
            bench.feed(0, event);
            if let (Some((before, _)), Some((after, _))) = (before, &bench.state) {
                prop_assert!(after.seq >= before.seq);
                prop_assert_eq!(after.check(), Ok(()));
                for (kid, key) in &before.keys {
                    prop_assert!(after.fate(kid).is_some_and(|state| state >= key.state));
                }
            }
            prop_assert!(!bench.alarms.iter().any(|alarm| matches!(alarm, Alarm::Defect(_))));
        }
    }
}

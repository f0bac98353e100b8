//! What the tests of a list share. Each of them uses some of it.
#![allow(dead_code, reason = "no test uses all of it")]
#![allow(clippy::needless_pass_by_value, reason = "calls read better without borrows")]

use std::borrow::Cow;
use std::sync::mpsc;

use countersign_claims::UnixTime;
use countersign_claims::revocation::{Entry, Judged, Level, Revocations as _, Revoked, Revokes, Verdict};
use countersign_revocation::{Feed, Intake, ListOptions, RevocationList};

pub(crate) const START: UnixTime = UnixTime::from_secs(1_800_000_000);

pub(crate) fn at(secs: i64) -> UnixTime {
    UnixTime::from_secs(START.as_secs() + secs)
}

pub(crate) fn entry(revokes: Revokes, until: Option<UnixTime>) -> Entry {
    Entry { issuer: "issuer".into(), revokes, until }
}

/// A token that is revoked for ever.
pub(crate) fn token(jwt_id: impl ToString) -> Entry {
    entry(Revokes::Token { jwt_id: jwt_id.to_string().into() }, None)
}

pub(crate) fn key(kid: impl ToString) -> Entry {
    entry(Revokes::Key { kid: kid.to_string().into() }, None)
}

pub(crate) fn cut_off(level: Level, name: &str, issued_until: UnixTime) -> Entry {
    entry(Revokes::CutOff { level, name: name.into(), issued_until }, None)
}

/// Asks for a token of the issuer's with this `jti`.
pub(crate) fn judged(jwt_id: &str) -> Judged<'_> {
    let mut judged = Judged::at(START);
    (judged.issuer, judged.jwt_id) = (Some("issuer"), Some(jwt_id));
    judged
}

pub(crate) fn is_revoked(list: &RevocationList, jwt_id: impl ToString) -> bool {
    list.check(&judged(&jwt_id.to_string())) == Verdict::Revoked(Revoked::Token)
}

/// The defaults, but for a clock that stands.
pub(crate) fn options() -> ListOptions {
    ListOptions::new().clock(|| START)
}

/// A feed that does nothing by itself: its intake is the test's.
struct Told(&'static str, mpsc::Sender<Intake>);

impl Feed for Told {
    fn name(&self) -> Cow<'static, str> {
        self.0.into()
    }

    fn start(self, intake: Intake) {
        self.1.send(intake).expect("the list is being made");
    }
}

/// A list that follows feeds of these names, and their intakes.
pub(crate) fn list<const N: usize>(options: ListOptions, feeds: [&'static str; N]) -> (RevocationList, [Intake; N]) {
    let (tell, told) = mpsc::channel();
    let list = RevocationList::with(options);
    let list = feeds.iter().fold(list, |list, name| list.follow(Told(name, tell.clone())));
    (list, std::array::from_fn(|_| told.recv().expect("each has started")))
}

/// Replaces everything of a feed.
pub(crate) fn replace(intake: &Intake, entries: impl IntoIterator<Item = Entry>, as_of: UnixTime) {
    let mut snapshot = intake.snapshot();
    entries.into_iter().for_each(|entry| snapshot.push(&entry).expect("there is room"));
    intake.replace(snapshot, as_of).expect("it is newer");
}

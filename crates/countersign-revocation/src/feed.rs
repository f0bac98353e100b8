use std::borrow::Cow;

use crate::intake::Intake;

/// What brings revocations into a list.
///
/// A feed runs wherever it likes: in a task, in a thread, or nowhere, if somebody calls it. It hands on what it hears through its
/// [`Intake`], and ends when nobody [wants](Intake::is_wanted) that any more.
///
/// What a feed owes:
/// - everything it has ever said stays until it is over, or until the feed [replaces](Intake::replace) all of it;
/// - an `as_of` is a promise: everything that was revoked by then has been handed on. It is also what lets memory be used again: once
///   a feed has promised anything, what has ended is swept only when a promise is later than that, so it goes on promising;
/// - what it could not hand on it does not hide: [`Intake::failed`], and [`Intake::overflowed`] if it is lost.
pub trait Feed: Send + 'static {
    /// What it is called in status and log.
    fn name(&self) -> Cow<'static, str>;

    /// Begins. It is called once, by [`RevocationList::follow`](crate::RevocationList::follow), on the thread that calls that, so it does not
    /// block.
    fn start(self, intake: Intake);
}

//! What has come since is merged into the base, and what has ended is cleared away: beside everything else, and in no runtime.

use std::sync::{Arc, Weak};
use std::thread;

use crate::layered::{Base, Layered};
use crate::part::CutOff;
use crate::shared::Shared;
use crate::until::Until;

/// What of a part is due, as it was.
pub(crate) struct Work {
    pub(crate) at: usize,
    pub(crate) tokens: Option<Layered<Until>>,
    pub(crate) cut_offs: Option<Layered<CutOff>>,
    pub(crate) keys: Option<Layered<Until>>,
    /// What may be swept.
    pub(crate) over: Until,
    /// Whether that has become less since.
    pub(crate) fallen: u64,
}

/// Work, and what has come of it.
pub(crate) struct Done {
    pub(crate) work: Work,
    pub(crate) tokens: Option<Base<Until>>,
    pub(crate) cut_offs: Option<Base<CutOff>>,
    pub(crate) keys: Option<Base<Until>>,
}

impl Work {
    /// What takes long. The list is not needed for it.
    pub(crate) fn done(self, front_from: Option<usize>) -> Done {
        Done {
            tokens: self.tokens.as_ref().map(|tokens| tokens.merged(self.over, front_from)),
            cut_offs: self.cut_offs.as_ref().map(|cut_offs| cut_offs.merged(self.over, None)),
            keys: self.keys.as_ref().map(|keys| keys.merged(self.over, None)),
            work: self,
        }
    }
}

/// Begins, if something is due and nothing is being compacted. It does not wait for it.
pub(crate) fn begin(list: &Arc<Shared>) {
    let Some(work) = list.next_work(true) else { return };
    let weak = Arc::downgrade(list);
    let here = weak.clone();
    // A thread, because there need be no runtime, and because one for each compaction is nothing beside it.
    let spawned = thread::Builder::new().name("countersign-revocation".into()).spawn(move || go_on(work, &weak));
    if spawned.is_err() {
        // There is no thread to be had, and the work has gone with it. It is begun anew, and this caller waits for it.
        if let Some(work) = list.next_work(false) {
            go_on(work, &here);
        }
    }
}

/// Until nothing is due, or nobody wants it.
fn go_on(mut work: Work, list: &Weak<Shared>) {
    loop {
        let Some(front_from) = list.upgrade().map(|list| list.front_from()) else { return };
        // Meanwhile the list may be dropped.
        let done = work.done(front_from);
        let Some(list) = list.upgrade() else { return };
        list.settle(done);
        let Some(next) = list.next_work(false) else { return };
        work = next;
    }
}

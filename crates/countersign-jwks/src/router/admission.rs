//! Which tenants are let in, and who has to leave for that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Entries, Entry, Kind};
use crate::issuers::Admitted;

/// How many tenants that only a check has let in may be without keys at once. One that gets keys makes room for the next, so real
/// ones come in as fast as their keys do.
const MAX_UNPROVEN: usize = 64;

/// How long a tenant that has no keys is left in peace. With that many at once it is four made-up names a second at most,
/// and none starts anew, and forgets how long it was to wait, more often than this.
const PROBATION: Duration = Duration::from_secs(16);

/// A tenant with keys that had a token within this time is not let go of to make room for another.
const IN_USE: Duration = Duration::from_secs(60);

/// For how long it is believed that there is no room.
const FULL_BELIEVED: Duration = Duration::from_secs(1);

/// The books of who is in. Times are milliseconds since the router's epoch.
#[derive(Default)]
pub(super) struct Admission {
    tenants: usize,
    /// Those that only a check has let in, in the order in which they came, as long as it is not known that they have keys.
    unproven: VecDeque<Arc<Entry>>,
    /// Until when there is known to be no room: for listed ones, and for those that only a check lets in.
    full_until: [u64; 2],
}

/// Nobody can leave.
pub(super) struct Full;

impl Admission {
    /// Who must leave so that another tenant can come in, if somebody must.
    pub(super) fn room(
        &mut self,
        entries: &Entries,
        max_tenants: usize,
        admitted: Admitted,
        now: u64,
    ) -> Result<Option<Arc<str>>, Full> {
        let kind = usize::from(admitted == Admitted::Checked);
        if now < self.full_until[kind] {
            return Err(Full);
        }
        let is_over = |entry: &Entry| now.saturating_sub(entry.made) >= millis(PROBATION);
        let is_free = |entry: &Entry| match entry.has_usable_keys() {
            true => now.saturating_sub(entry.used.load(Ordering::Relaxed)) >= millis(IN_USE),
            // Nor does one that nobody has listed keep one out that somebody has.
            false => is_over(entry) || (admitted == Admitted::Listed && entry.is_checked),
        };
        let is_crowded = admitted == Admitted::Checked && {
            self.unproven.retain(|entry| !entry.is_gone.load(Ordering::Relaxed) && !entry.has_usable_keys());
            self.unproven.len() >= MAX_UNPROVEN
        };
        let leaves = if is_crowded {
            let oldest = self.unproven.front().filter(|entry| is_over(entry));
            oldest.and_then(|oldest| entries.iter().find(|(_, entry)| Arc::ptr_eq(entry, oldest)))
        } else if self.tenants >= max_tenants {
            // First one that never came to anything, then the one that was longest without a token.
            entries
                .iter()
                .filter(|(_, entry)| entry.kind == Kind::Tenant && is_free(entry))
                .min_by_key(|(_, entry)| (entry.has_usable_keys(), entry.used.load(Ordering::Relaxed)))
        } else {
            return Ok(None);
        };
        match leaves {
            Some((issuer, _)) => Ok(Some(Arc::clone(issuer))),
            None => {
                // To know it takes a look at all of them, which no flood of names may make us take again and again.
                self.full_until[kind] = now + millis(FULL_BELIEVED);
                Err(Full)
            }
        }
    }

    /// How many tenants there are.
    pub(super) fn tenants(&self) -> usize {
        self.tenants
    }

    pub(super) fn enters(&mut self, tenant: &Arc<Entry>) {
        self.tenants += 1;
        if tenant.is_checked {
            self.unproven.push_back(Arc::clone(tenant));
        }
    }

    /// This is no entry any more, if it was one.
    pub(super) fn leaves(&mut self, entry: Option<&Entry>) {
        let Some(entry) = entry else { return };
        entry.is_gone.store(true, Ordering::Relaxed);
        entry.source.store(None);
        self.tenants -= usize::from(entry.kind == Kind::Tenant);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

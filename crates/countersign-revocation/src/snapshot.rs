use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_claims::revocation::{Judged, Level, Revoked};
use tokio::time::Instant;

use crate::hash::{Hashing, OfIssuer};
use crate::layered::Layered;
use crate::part::{CutOff, Levels, Part};
use crate::set::Value as _;
use crate::until::Until;

/// Everything that is known at one moment; it never changes.
pub(crate) struct Snapshot {
    parts: Box<[Arc<Part>]>,
    /// What there is in any of the parts: nothing else is looked for.
    levels: Levels,
    has_keys: bool,
    has_tokens: bool,
    /// Whether no part ever gets old.
    is_timeless: bool,
}

impl Snapshot {
    pub(crate) fn new(parts: Box<[Arc<Part>]>) -> Self {
        Self {
            levels: parts.iter().fold(Levels::default(), |levels, part| levels.and(part.levels)),
            has_keys: parts.iter().any(|part| !part.keys.is_empty()),
            has_tokens: parts.iter().any(|part| !part.tokens.is_empty() || part.sealed.is_some()),
            is_timeless: parts.iter().all(|part| part.known.is_timeless()),
            parts,
        }
    }

    /// With another part in this one's place, or at the end.
    pub(crate) fn with(&self, at: usize, part: Part) -> Self {
        let part = Arc::new(part);
        let mut parts = self.parts.to_vec();
        match parts.get_mut(at) {
            Some(place) => *place = part,
            None => parts.push(part),
        }
        Self::new(parts.into_boxed_slice())
    }

    pub(crate) fn parts(&self) -> &[Arc<Part>] {
        &self.parts
    }

    pub(crate) fn part(&self, at: usize) -> Option<&Arc<Part>> {
        self.parts.get(at)
    }

    /// Why a token is revoked, if it is. It depends on nothing but what is known and the token's time.
    pub(crate) fn revokes(&self, hashing: &Hashing, token: &Judged<'_>) -> Option<Revoked> {
        if !(self.has_keys || self.has_tokens || self.levels.any()) {
            return None;
        }
        let over = Until::over(token.now);
        let issuer = hashing.issuer(token.issuer.unwrap_or_default());
        if self.has_keys && self.revokes_key(hashing, &issuer, token, over) {
            return Some(Revoked::Key);
        }
        if self.levels.any()
            && let Some((level, last)) = self.cut_off(&issuer, token, over)
            // In whole seconds: which came first in the same one nobody knows.
            && token.issued_at.is_none_or(|issued_at| issued_at.as_secs() <= last)
        {
            return Some(Revoked::CutOff { level, issued_until: UnixTime::from_secs(last) });
        }
        let jwt_id = token.jwt_id.filter(|_| self.has_tokens)?;
        let key = issuer.token(jwt_id);
        let revoked = self.parts.iter().any(|part| {
            part.tokens.get(key).is_some_and(|until| !until.has_ended(over))
                || part.sealed.as_ref().is_some_and(|(fuse, _)| fuse.may_have(key))
        });
        revoked.then_some(Revoked::Token)
    }

    /// How old the oldest part is; `None` if one has not delivered, or not everything.
    pub(crate) fn age(&self, now: UnixTime) -> Option<Duration> {
        if self.is_timeless {
            return Some(Duration::ZERO);
        }
        let instant = Instant::now();
        self.parts.iter().try_fold(Duration::ZERO, |oldest, part| Some(oldest.max(part.known.age(now, instant)?)))
    }

    fn revokes_key(&self, hashing: &Hashing, issuer: &OfIssuer<'_>, token: &Judged<'_>, over: Until) -> bool {
        let has = |of: fn(&Part) -> &Layered<Until>, key: u128| {
            let mut found = self.parts.iter().filter_map(|part| of(part).get(key));
            found.any(|until| !until.has_ended(over))
        };
        token.kid.is_some_and(|kid| {
            if token.issuer_is_certain {
                has(|part| &part.keys, issuer.key(kid))
            } else {
                has(|part| &part.kids, hashing.kid(kid))
            }
        }) || token.thumbprint.is_some_and(|thumbprint| has(|part| &part.keys, hashing.key_material(thumbprint)))
    }

    /// The latest of the cut-offs that fit the token, and its last second; of several the widest.
    fn cut_off(&self, issuer: &OfIssuer<'_>, token: &Judged<'_>, over: Until) -> Option<(Level, i64)> {
        let mut latest: Option<(Level, i64)> = None;
        for level in Level::ALL {
            let name = match level {
                // A token without one is of the issuer that has no name.
                Level::Issuer => Some(""),
                level => token.level(level),
            };
            let Some(name) = name.filter(|_| self.levels.has(level)) else { continue };
            let key = issuer.level(level, name);
            for part in &self.parts {
                let Some(found) = part.cut_offs.get(key) else { continue };
                let CutOff { issued_until, .. } = found;
                if !found.until().has_ended(over) && latest.is_none_or(|(_, last)| issued_until > last) {
                    latest = Some((level, issued_until));
                }
            }
        }
        latest
    }
}

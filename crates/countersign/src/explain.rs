//! Why a token was refused, for people: what the verifier says, and what the state of the keys and of the clocks has to do with it.

use std::fmt;
use std::time::Duration;

use countersign_claims::{ClaimError, Found, UnixTime};
use countersign_jwks::{KeyState, KeysHandle};
use countersign_token::{HeaderScratch, KeySource as _, UnverifiedToken};
use countersign_tower::Refusal;
use countersign_verifier::{Refusal as TokenRefusal, Report, Verdict};

use crate::handle::Handle;

/// The most sources of keys whose state is told.
const MAX_SOURCES: usize = 4;

impl Handle {
    /// What becomes of `token` now, step by step, and what to do about it: for people, such as behind an operator's command. The verdict is that
    /// of the verifier. If the token is accepted and does not satisfy what the layer [requires](crate::JwtAuth::require) of callers, a hint
    /// says so; what routes and handlers require is not known here. Nothing is waited for, and nothing is fetched for the token.
    ///
    /// The report shows neither token nor signature nor `sub`, but it tells how this service is set up: keep it from callers.
    ///
    /// ```
    /// use countersign::{Algorithm, JwtAuth, KeySet, SigningKey};
    ///
    /// # let issuer = SigningKey::generate(Algorithm::Es256)?.with_kid("2026-11");
    /// # let claims = serde_json::json!({ "iss": "https://login.example", "aud": "billing", "exp": 4_000_000_000_u64 });
    /// # let token = issuer.sign(&claims)?;
    /// let keys = KeySet::new([issuer.verifying_key()?]);
    /// let handle = JwtAuth::with_keys(keys).issuer("https://login.example").audience("orders").handle();
    /// let report = handle.explain(&token);
    /// println!("{report}");
    /// assert_eq!(report.refusal().map(|refusal| refusal.code()), Some("wrong_audience"));
    /// assert!(report.hints().any(|hint| hint.contains(r#"the token is for "billing", and this service is "orders""#)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn explain(&self, token: &str) -> Report {
        let mut report = self.verifier.explain(token, self.clock.now());
        match report.verdict().clone() {
            Verdict::Accepted => self.add_what_is_required(token, &mut report),
            Verdict::KeyNotThere | Verdict::Refused(TokenRefusal::KeyNotSought(_) | TokenRefusal::UnknownKey) => {
                self.add_state_of_keys(token, &mut report);
            }
            _ => {}
        }
        if let Verdict::Refused(refusal) = report.verdict().clone()
            && let Some(offset) = self.clock_to_blame(&Refusal::Token(refusal))
        {
            report.add_hint(of_the_clock(offset));
        }
        report
    }

    /// Of a good token: whether the layer would let its holder in.
    fn add_what_is_required(&self, token: &str, report: &mut Report) {
        let Some(required) = &self.required else { return };
        if let Ok(verified) = self.verifier.verify(token, self.clock.now())
            && let Err(denied) = required.check(&verified)
        {
            let status = if denied.is_step_up() { 401 } else { 403 };
            report.add_hint(format!("the token is good, and the layer still answers {status}: {denied}"));
        }
    }

    /// Why the key of this token may not be there.
    fn add_state_of_keys(&self, token: &str, report: &mut Report) {
        let mut scratch = HeaderScratch::new();
        // The verifier has taken it apart within its own limit.
        let Ok(token) = UnverifiedToken::parse(token, usize::MAX, &mut scratch) else { return };
        let parts = self.keys.parts();
        let of_issuer = token.with_unverified_issuer(|issuer| {
            parts.iter().find(|part| part.name().is_some_and(|name| issuer.is(name))).cloned()
        });
        let of_issuer = of_issuer.flatten();
        if self.verifier.keys().snapshot_for(&token).is_some() {
            let keys = of_issuer.as_ref().unwrap_or(&self.keys);
            report.add_hint(self.why_not_among(keys, token.header().kid()));
            return;
        }
        match of_issuer {
            Some(keys) => report.add_hint(state_of(&keys)),
            // A union would have had those keys: these are issuers of their own, and the token's is none of them.
            None if parts.iter().any(KeysHandle::is_ready) => {
                let names: Vec<Box<str>> = parts.iter().filter_map(|part| Some(part.name()?.into())).collect();
                report.compare_issuer_with(&names);
            }
            None if parts.is_empty() => report.add_hint(state_of(&self.keys)),
            None => parts.iter().take(MAX_SOURCES).for_each(|keys| report.add_hint(state_of(keys))),
        }
    }

    fn why_not_among(&self, keys: &KeysHandle, kid: Option<&str>) -> String {
        if self.verifier.keys().is_fixed() {
            return "the keys are configured here and do not change: the token is from elsewhere, or its key has to be added".into();
        }
        if let Some(kid) = kid
            && let Some(ago) = keys.withdrawn(kid)
        {
            return format!(
                "key {} was withdrawn {} ago: the caller has to get a new token",
                Found::new(kid),
                rounded(ago)
            );
        }
        format!(
            "the token is of a new key, which the next request with it looks for, or from another environment; {}",
            state_of(keys)
        )
    }

    /// What is behind a refusal, as far as can be said without its token: for people who ask why it was refused.
    ///
    /// If a time rule refused it, and by the provider's clock (its last `Date`) it would have passed, it says that the clock is to blame and
    /// not the token.
    ///
    /// ```
    /// use std::time::Duration;
    /// use countersign::claims::ClaimError;
    /// use countersign::{JwtAuth, KeySet, Refusal, UnixTime};
    ///
    /// let handle = JwtAuth::with_keys(KeySet::default()).handle();
    /// let (expired_at, now) = (UnixTime::from_secs(1000), UnixTime::from_secs(1040));
    /// let refusal = Refusal::Token(ClaimError::Expired { expired_at, now }.into());
    /// assert_eq!(handle.explain_refusal(&refusal).to_string(), refusal.to_string());
    /// ```
    #[must_use]
    pub fn explain_refusal(&self, refusal: &Refusal) -> Explanation {
        Explanation { refusal: refusal.to_string(), clock_offset: self.clock_to_blame(refusal) }
    }

    /// How far the provider's clock is ahead of ours, if by that clock the token would have passed.
    fn clock_to_blame(&self, refusal: &Refusal) -> Option<i64> {
        // Of several providers it is not known whose token it was: only what all of their clocks say is said.
        let parts = self.keys.parts();
        let clocks = if parts.is_empty() { vec![self.keys.clone()] } else { parts };
        let offsets: Vec<_> = clocks.iter().filter_map(|keys| keys.status().clock_offset).collect();
        let leeway = self.verifier.policy().leeway_in_force();
        let is_of_all = offsets.iter().all(|offset| is_of_the_clock(refusal, *offset, leeway));
        offsets.into_iter().min_by_key(|offset| offset.unsigned_abs()).filter(|_| is_of_all)
    }
}

/// Why a token was refused, for people. Made by [`Handle::explain_refusal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    refusal: String,
    clock_offset: Option<i64>,
}

impl Explanation {
    /// How far the provider's clock is ahead of ours, seconds, if that is why the token was refused.
    #[must_use]
    pub fn clock_offset(&self) -> Option<i64> {
        self.clock_offset
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.refusal)?;
        self.clock_offset.map_or(Ok(()), |seconds| write!(f, "; {}", of_the_clock(seconds)))
    }
}

fn of_the_clock(offset: i64) -> String {
    let which = if offset < 0 { "behind" } else { "ahead of" };
    format!("the clock, not the token: the provider's clock is {} s {which} ours", offset.unsigned_abs())
}

/// Whether the rule that refused would have been satisfied at the time that the provider's clock shows.
fn is_of_the_clock(refusal: &Refusal, offset: i64, leeway: Duration) -> bool {
    let fault = match refusal {
        Refusal::Token(TokenRefusal::Claim(fault)) => fault,
        Refusal::Token(TokenRefusal::KeyNotSought(fault)) => fault,
        _ => return false,
    };
    let by = Duration::from_secs(offset.unsigned_abs());
    let theirs = |now: UnixTime| if offset < 0 { now.saturating_sub(by) } else { now.saturating_add(by) };
    match fault {
        ClaimError::Expired { expired_at, now } => theirs(*now) < expired_at.saturating_add(leeway),
        ClaimError::NotYetValid { not_before: since, now }
        | ClaimError::IssuedInTheFuture { issued_at: since, now } => theirs(*now) >= since.saturating_sub(leeway),
        ClaimError::TooOld { issued_at, now, max_age } => {
            theirs(*now) < issued_at.saturating_add(*max_age).saturating_add(leeway)
        }
        _ => false,
    }
}

/// As people say it: minutes from two minutes on.
fn rounded(distance: Duration) -> String {
    match distance.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

/// The state of one source, in words.
fn state_of(keys: &KeysHandle) -> String {
    let status = keys.status();
    let state = match status.state {
        KeyState::Static => "configured here".into(),
        KeyState::Starting => "not yet fetched for the first time".into(),
        KeyState::Ready => "up to date".into(),
        KeyState::Stale => "older than their lifetime, and still used".into(),
        KeyState::Empty => "all withdrawn by the issuer".into(),
        KeyState::Unusable(reason) => format!("not usable: {reason}"),
        state => format!("{state:?}"),
    };
    let name = keys.name().map_or(String::new(), |name| format!(" of {}", Found::new(name)));
    let seen = status.last_success.map(|ago| format!(", last seen {} ago", rounded(ago)));
    let error = status.last_error.map(|error| format!("; the last fetch failed: {error}"));
    format!("the keys{name} are {state}{}{}", seen.unwrap_or_default(), error.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_to_blame_only_if_the_providers_would_have_let_the_token_pass() {
        let at = UnixTime::from_secs;
        let leeway = Duration::from_secs(30);
        let expired = ClaimError::Expired { expired_at: at(1000), now: at(1040) };
        let early = ClaimError::NotYetValid { not_before: at(1000), now: at(960) };
        let future = ClaimError::IssuedInTheFuture { issued_at: at(1000), now: at(960) };
        let max_age = Duration::from_secs(100);
        let old = ClaimError::TooOld { issued_at: at(900), now: at(1040), max_age };
        for (fault, offset, clock) in [
            (&expired, -11, true),
            (&expired, -10, false),
            (&expired, 0, false),
            (&expired, 600, false),
            (&early, 10, true),
            (&early, 9, false),
            (&early, -600, false),
            (&future, 10, true),
            (&future, 9, false),
            (&old, -11, true),
            (&old, -10, false),
            (&ClaimError::WrongSubject, -600, false),
        ] {
            for refusal in [TokenRefusal::Claim(fault.clone()), TokenRefusal::KeyNotSought(Box::new(fault.clone()))] {
                assert_eq!(is_of_the_clock(&Refusal::Token(refusal), offset, leeway), clock, "{fault:?} {offset}");
            }
        }
        assert!(!is_of_the_clock(&Refusal::NoCredentials, -600, leeway));
    }

    #[test]
    fn an_explanation_says_which_clock_is_ahead() {
        let explanation = |clock_offset| Explanation { refusal: "it expired".into(), clock_offset }.to_string();
        assert_eq!(explanation(None), "it expired");
        assert_eq!(
            explanation(Some(-45)),
            "it expired; the clock, not the token: the provider's clock is 45 s behind ours"
        );
        assert_eq!(
            explanation(Some(45)),
            "it expired; the clock, not the token: the provider's clock is 45 s ahead of ours"
        );
    }
}

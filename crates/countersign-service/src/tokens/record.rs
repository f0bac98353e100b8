//! What the audit log is told of tokens.

use std::time::{Duration, Instant};

use countersign::UnixTime;

use super::Wish;
use crate::audit::{self, Audit, Decision, Record, Time, TokenRecord};
use crate::authenticate::Caller;
use crate::problem::Problem;
use crate::service::{InForce, Inner};
use crate::wire::Answer;

impl Inner {
    /// Has the audit log written what was decided, before anything of it is told.
    pub(super) async fn write_down<'a>(
        &self,
        in_force: &InForce,
        caller: &Caller,
        begun: Instant,
        decided: impl Iterator<Item = (&'a Wish, &'a Result<Answer, Problem>)>,
    ) -> Result<(), Problem> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let (revision, took) = (in_force.policy.revision(), begun.elapsed());
        let case = Case { now: self.clock.now(), caller, revision, took };
        let records: Vec<_> = decided.map(|(wish, made)| wish.record(audit, &case, made)).collect();
        if records.is_empty() { Ok(()) } else { audit.record(records).await }
    }
}

impl Wish {
    fn record(&self, audit: &Audit, case: &Case<'_>, made: &Result<Answer, Problem>) -> Record {
        let Self { asked, decided, counted, .. } = self;
        let (decision, reason) = match (decided, made) {
            (Err(denied), _) => (Decision::Denied, Some(denied.code())),
            (Ok(_), Err(problem)) if counted.is_err() => (Decision::Denied, Some(problem.code())),
            (Ok(_), Err(problem)) => (Decision::Failed, Some(problem.code())),
            (Ok(_), Ok(_)) => (Decision::Signed, None),
        };
        let grant = match decided {
            Ok(granted) => Some(granted.grant().into()),
            Err(denied) => denied.grant.clone(),
        };
        let (aud, aud_more) = audit::audiences(asked.named_audiences());
        let made = made.as_ref().ok();
        Record::Token(Box::new(TokenRecord {
            time: Time(case.now),
            client: case.caller.client.clone(),
            method: case.caller.method,
            policy: case.revision.into(),
            decision,
            reason,
            grant,
            profile: audit::cut(asked.named_profile()),
            sub: audit.subject(asked.named_subject().unwrap_or(&case.caller.client)),
            aud,
            aud_more,
            ttl_asked: asked.asked_lifetime().map(|time| time.as_secs()),
            ttl: made.map(Answer::lifetime),
            kid: made.map(|made| made.kid().into()),
            jti: made.map(|made| made.jti().into()),
            latency_us: u64::try_from(case.took.as_micros()).unwrap_or(u64::MAX),
        }))
    }
}

/// What is the same of all that one request asks for.
struct Case<'a> {
    now: UnixTime,
    caller: &'a Caller,
    revision: &'a str,
    took: Duration,
}

//! Who is let in: recognised, for the first time, and not too often.

use countersign::claims::Replay;
use http::StatusCode;
use http::request::Parts;

use super::{InForce, Inner};
use crate::authenticate::{ASSERTION_WINDOW, Caller};
use crate::problem::Problem;
use crate::serve::Peer;
use crate::signed;

impl Inner {
    /// Who is asking, for the first time and not too often. Whoever has signed the request is [admitted](Self::admit_signed) when its
    /// body is there.
    pub(crate) async fn admit(&self, in_force: &InForce, head: &Parts) -> Result<Caller, Problem> {
        let peer = head.extensions.get::<Peer>();
        let admitted = self.judge(in_force, head, peer).await.map_err(|problem| self.failed(peer, problem));
        let is_all = !admitted.as_ref().is_ok_and(|caller| caller.signed.is_some());
        if is_all {
            self.numbers.authenticated(admitted.as_ref().map(|caller| caller.method).map_err(Problem::status));
        }
        admitted
    }

    /// What is told to whoever is not recognised, in whatever way that was tried: the problem, or, if too many credentials that
    /// are not good have come from there, to wait. Good ones never get here.
    pub(crate) fn failed(&self, peer: Option<&Peer>, problem: Problem) -> Problem {
        let limit = self.failures.as_ref().filter(|_| problem.blames_credentials());
        match limit.and_then(|limit| limit.refuse(peer.map(|peer| peer.address.ip()))) {
            None => problem,
            Some(after) => {
                let detail = "too many credentials that are not good have come from this address";
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(after)
            }
        }
    }

    /// Whether the certificate of the connection, if there is one, is no other client's.
    pub(crate) fn agree(&self, in_force: &InForce, caller: &Caller, head: &Parts) -> Result<(), Problem> {
        let certificate = head.extensions.get::<Peer>().and_then(|peer| peer.certificate.as_deref());
        certificate.map_or(Ok(()), |certificate| {
            in_force.authenticator.certificates().agree(certificate, caller, self.clock.now())
        })
    }

    async fn judge(&self, in_force: &InForce, head: &Parts, peer: Option<&Peer>) -> Result<Caller, Problem> {
        let caller = in_force.authenticator.recognise(&in_force.policy, &head.headers, peer, &*self.clock).await?;
        tracing::debug!(target: "countersign::service", client = &*caller.client, method = caller.method, "client recognised");
        if let Some(verified) = &caller.signed {
            self.signed.begin(verified, head, self.clock.now())?;
            return Ok(caller);
        }
        let Some(once) = &caller.once else {
            in_force.count(&caller.client)?;
            return Ok(caller);
        };
        let used = || {
            let detail = "the assertion was used before, or may have been: it is older than this process";
            Problem::unknown_client(detail, "Bearer error=\"invalid_token\"")
        };
        let now = self.clock.now();
        // What a process before this one has taken is not known. It says that it was made before then, or it ends within the
        // window and the leeway, which is in `born` already.
        let is_old = once.issued_at.is_none_or(|issued_at| issued_at < self.born);
        if is_old && now < self.born.saturating_add(ASSERTION_WINDOW) || self.replays.is_used(&caller.client, &once.jti)
        {
            return Err(used());
        }
        // Before it is used up, so that it can be shown again; not before that is asked, or whoever has seen one could
        // have its client refused.
        in_force.count(&caller.client)?;
        self.replays.admit(&caller.client, &once.jti, once.until, now).map_err(|why| match why {
            Replay::Full => Problem::unavailable("temporarily_unavailable", "too many assertions are remembered"),
            _ => used(),
        })?;
        Ok(caller)
    }

    /// The rest, of a request that its client has signed. Counted only now, or whoever has seen its token could use its rate up.
    pub(crate) fn admit_signed(
        &self,
        in_force: &InForce,
        caller: &Caller,
        head: &Parts,
        body: &[u8],
    ) -> Result<(), Problem> {
        let Some(verified) = &caller.signed else { return Ok(()) };
        let used_up = signed::check_body(verified, body)
            .and_then(|()| in_force.count(&caller.client))
            .and_then(|()| self.signed.use_up(verified, self.clock.now()))
            .map_err(|problem| self.failed(head.extensions.get::<Peer>(), problem));
        self.numbers.authenticated(used_up.as_ref().map(|()| caller.method).map_err(Problem::status));
        used_up
    }
}

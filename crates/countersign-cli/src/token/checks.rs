//! What a token is held to, and where the keys are.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use countersign::token::FetchError;
use countersign::{Algorithm, AlgorithmSet, Clock, Handle, JwtAuth, KeyEvent, Keys, Local, SystemClock, UnixTime};

use crate::exit::Failure;
use crate::input;
use crate::output::Screen;

/// How long is waited for keys: the first fetch ends within 5 s, and the name of its host may have to be looked up.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Checks {
    /// The keys: a JWK Set (RFC 7517), in a file or at a URL.
    #[arg(long, value_name = "FILE|URL")]
    jwks: Option<OsString>,

    /// Who must have issued it: its `iss`. Again: or they.
    #[arg(long, value_name = "ISSUER")]
    issuer: Vec<String>,

    /// Whom it must be for: one member of its `aud`. Again: or they.
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,

    /// An algorithm that is allowed, and no other. Again: or that. [default: all that have public keys]
    #[arg(long, value_name = "ALG", value_parser = algorithms())]
    alg: Vec<Algorithm>,

    /// How far clocks may disagree, seconds; at most 300.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    leeway: u64,

    /// One more `typ` that is allowed, besides none, `JWT` and `at+jwt`. Again: or that.
    #[arg(long, value_name = "TYPE")]
    typ: Vec<String>,

    /// The time to judge it by, seconds since 1970, in place of the clock's.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    now: Option<i64>,
}

pub(crate) fn algorithms() -> impl clap::builder::TypedValueParser<Value = Algorithm> {
    let names = PossibleValuesParser::new(Algorithm::ALL.map(Algorithm::name));
    names.try_map(|name| Algorithm::from_name(&name).ok_or("not an algorithm"))
}

impl Checks {
    /// The verifier, with its keys at hand. Needs a runtime.
    pub(crate) async fn begin(&self, screen: &Screen) -> Result<(JwtAuth, Handle), Failure> {
        let auth = self.auth()?;
        auth.check().map_err(|error| Failure::usage(error.to_string()))?;
        let handle = auth.handle();
        for warning in self.warnings(&handle) {
            screen.warn(&warning);
        }
        load(&handle).await?;
        Ok((auth, handle))
    }

    /// What lets too much through.
    pub(crate) fn warnings(&self, handle: &Handle) -> Vec<String> {
        let option = |warning: &countersign::Warning| match warning {
            countersign::Warning::AnyAudience => {
                "no --audience: a token that is meant for others is accepted".to_owned()
            }
            countersign::Warning::AnyIssuer => "no --issuer: the `iss` of the token is not looked at".to_owned(),
            other => other.to_string(),
        };
        handle.warnings().iter().map(option).collect()
    }

    /// What time it is.
    pub(crate) fn clock(&self) -> impl Clock + use<> {
        let now = self.now;
        move || now.map_or_else(|| SystemClock.now(), UnixTime::from_secs)
    }

    fn auth(&self) -> Result<JwtAuth, Failure> {
        let auth = self.issuer.iter().fold(self.source()?, |auth, issuer| auth.issuer(issuer.as_str()));
        let auth = self.audience.iter().fold(auth, |auth, audience| auth.audience(audience.as_str()));
        let auth = auth.leeway(Duration::from_secs(self.leeway)).without_token_cache();
        let auth = auth.policy(|policy| self.typ.iter().fold(policy, |policy, typ| policy.accept_type(typ.as_str())));
        let auth = match self.alg.as_slice() {
            [] => auth,
            algorithms => auth.algorithms(algorithms.iter().copied().collect::<AlgorithmSet>()),
        };
        Ok(auth.clock(self.clock()))
    }

    fn source(&self) -> Result<JwtAuth, Failure> {
        let invalid = |what: &str, error: &dyn std::fmt::Display| Failure::usage(format!("{what}: {error}"));
        match (&self.jwks, self.issuer.as_slice()) {
            (Some(place), _) => match input::url(place) {
                Some(url) => JwtAuth::try_new(url).map_err(|error| invalid("--jwks", &error)),
                None => Ok(JwtAuth::from_keys(Keys::local(Local::jwks(place)))),
            },
            (None, [issuer]) => JwtAuth::try_discover(issuer).map_err(|error| invalid("--issuer", &error)),
            (None, _) => Err(Failure::usage("where are the keys? Give --jwks, or one --issuer whose metadata says")),
        }
    }
}

/// Waits for keys, and not for those of a source that has just failed: whoever typed this can do so again. One that was only
/// too slow, as this machine may be, is asked again meanwhile.
async fn load(handle: &Handle) -> Result<(), Failure> {
    let mut events = handle.events();
    let failed = async {
        loop {
            match events.next().await {
                Some(KeyEvent::Failed { error }) if error.ends_with(&FetchError::TimedOut.to_string()) => {}
                Some(KeyEvent::Failed { error } | KeyEvent::Refused { reason: error }) => return error,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        biased;
        ready = handle.ready_within(PATIENCE) => ready.map_err(|error| unavailable(&error.to_string())),
        error = failed => Err(unavailable(&error)),
    }
}

fn unavailable(error: &str) -> Failure {
    Failure::unavailable("keys_unavailable", format!("no keys: {error}"))
}

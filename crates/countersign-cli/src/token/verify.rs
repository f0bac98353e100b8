//! `countersign token verify`.

use clap::Args;
use countersign::verifier::Fault;
use countersign::{Verified, verifier};
use serde::Serialize;
use serde_json::value::RawValue;

use super::checks::Checks;
use super::decode::lines;
use crate::exit::{Answer, Exit, Failure};
use crate::output::{Screen, shown};
use crate::{input, runtime};

#[derive(Args)]
pub(crate) struct Verify {
    /// The token; `-` or none: it is read from standard input.
    #[arg(value_name = "TOKEN")]
    token: Option<String>,

    #[command(flatten)]
    checks: Checks,
}

#[derive(Serialize)]
struct Accepted<'a> {
    accepted: bool,
    alg: &'static str,
    kid: Option<&'a str>,
    claims: &'a RawValue,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Refused {
    accepted: bool,
    reason: &'static str,
    message: String,
    warnings: Vec<String>,
}

impl Verify {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let token = input::token(self.token.as_deref(), screen)?;
        runtime::wait(self.judge(&token, screen))?
    }

    async fn judge(&self, token: &str, screen: &Screen) -> Result<Answer, Failure> {
        let (auth, handle) = self.checks.begin(screen).await?;
        let warnings = self.checks.warnings(&handle);
        match auth.verifier().verify_or_wait(token, &self.checks.clock()).await {
            Ok(verified) => accepted(&verified, warnings, screen),
            Err(refusal) if refusal.fault() == Fault::Token => Ok(refused(&refusal, warnings, screen)),
            Err(refusal) => Err(Failure::unavailable(refusal.code(), refusal.to_string())),
        }
    }
}

fn accepted(verified: &Verified, warnings: Vec<String>, screen: &Screen) -> Result<Answer, Failure> {
    // It was read as JSON before; this only keeps it as it stands there.
    let claims: &RawValue = serde_json::from_slice(verified.payload())
        .map_err(|_| Failure::refused("payload_not_an_object", "the payload is not JSON"))?;
    let kid = verified.key().kid();
    let key =
        kid.map_or_else(|| "a key without a name".to_owned(), |kid| format!("key {}", shown(&format!("{kid:?}"))));
    let heading = format!("{}: signed by {key}, {}\n", screen.paint().good("accepted"), verified.algorithm());
    let document = Accepted { accepted: true, alg: verified.algorithm().name(), kid, claims, warnings };
    Ok(Answer::new(Exit::Good, heading + &lines(verified.payload()), &document))
}

fn refused(refusal: &verifier::Refusal, warnings: Vec<String>, screen: &Screen) -> Answer {
    let (reason, message) = (refusal.code(), refusal.to_string());
    let text = format!("{}: {reason}: {}\n", screen.paint().bad("refused"), shown(&message));
    Answer::new(Exit::Refused, text, &Refused { accepted: false, reason, message, warnings })
}

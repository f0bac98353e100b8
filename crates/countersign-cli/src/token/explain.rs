//! `countersign token explain`.

use std::collections::BTreeMap;

use clap::Args;
use countersign::verifier::{Outcome, Refusal, Step};
use countersign::{Report, Verdict};
use serde::Serialize;

use super::checks::Checks;
use crate::exit::{Answer, Exit, Failure};
use crate::output::{Screen, shown};
use crate::{input, runtime};

#[derive(Args)]
pub(crate) struct Explain {
    /// The token; `-` or none: it is read from standard input.
    #[arg(value_name = "TOKEN")]
    token: Option<String>,

    #[command(flatten)]
    checks: Checks,
}

#[derive(Serialize)]
struct Explained<'a> {
    accepted: bool,
    reason: Option<&'static str>,
    message: Option<String>,
    steps: Vec<Explanation<'a>>,
    header: BTreeMap<&'static str, &'a str>,
    claims: BTreeMap<&'static str, &'a str>,
    claims_are_signed: bool,
    hints: Vec<&'a str>,
}

#[derive(Serialize)]
struct Explanation<'a> {
    step: &'static str,
    outcome: &'static str,
    detail: &'a str,
}

impl Explain {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let token = input::token(self.token.as_deref(), screen)?;
        runtime::wait(self.explain(&token, screen))?
    }

    async fn explain(&self, token: &str, screen: &Screen) -> Result<Answer, Failure> {
        let (auth, handle) = self.checks.begin(screen).await?;
        // So that its key was looked for; what comes of it the report says.
        drop(auth.verifier().verify_or_wait(token, &self.checks.clock()).await);
        Ok(answer(&handle.explain(token), screen))
    }
}

fn answer(report: &Report, screen: &Screen) -> Answer {
    let exit = match report.verdict() {
        Verdict::Accepted => Exit::Good,
        Verdict::KeyNotThere => Exit::Unavailable,
        _ => Exit::Refused,
    };
    let refusal = report.refusal();
    let document = Explained {
        accepted: exit == Exit::Good,
        reason: refusal.map(Refusal::code),
        message: refusal.map(ToString::to_string),
        steps: report.steps().map(explanation).collect(),
        header: report.header().collect(),
        claims: report.claims().collect(),
        claims_are_signed: report.claims_are_signed(),
        hints: report.hints().collect(),
    };
    // The report escapes what is the token's; a line that is not is only longer for this.
    let text = report.to_string();
    let mut lines = text.lines().map(shown);
    let verdict = lines.next().unwrap_or_default();
    let verdict = if exit == Exit::Good { screen.paint().good(&verdict) } else { screen.paint().bad(&verdict) };
    let text = std::iter::once(verdict).chain(lines).map(|line| line + "\n").collect();
    Answer::new(exit, text, &document)
}

fn explanation(step: &Step) -> Explanation<'_> {
    let outcome = match step.outcome() {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::WouldPass => "would_pass",
        Outcome::WouldFail => "would_fail",
        Outcome::NotReached => "not_reached",
    };
    Explanation { step: step.name(), outcome, detail: step.detail() }
}

use crate::Result;

/// What has passed and what has failed. A failure is printed at once, with its reason.
#[derive(Default)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    pub(crate) fn check(&mut self, what: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                self.failed += 1;
                println!("FAILED: {what}: {error}");
            }
        }
    }

    pub(crate) fn expect(&mut self, what: &str, holds: bool) {
        self.check(what, if holds { Ok(()) } else { Err("it is not so".into()) });
    }

    /// Nothing is left out in silence, and nothing that need not be.
    pub(crate) fn skip(&mut self, who: &str, algorithm: &str, reason: &str, allowed: bool) {
        println!("skipped: {who}, {algorithm} ({reason})");
        if !allowed {
            self.check(&format!("{who}, {algorithm}"), Err("may not be skipped".into()));
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    pub(crate) fn passed(&self) -> usize {
        self.passed
    }

    pub(crate) fn failed(&self) -> usize {
        self.failed
    }
}

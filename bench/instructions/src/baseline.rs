//! Counts that are stored, and others beside them.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::Failure;

/// By how much a count may be larger than the stored one. The same program, counted again and again, differs from itself by up to 3.3 %: where its allocations
/// and its maps' secrets happen to fall.
const TOLERANCE: f64 = 0.05;

/// The same where it was counted with something else than what is stored was: a new standard library, LLVM or glibc moves counts by a
/// few per cent, and that is no reason to fail; what it hides is only for as long as nobody renews what is stored.
const WIDE: f64 = 0.15;

/// And so many whatever the percentage: of a hundred instructions 5 % are fewer than another order of the same few.
const SLACK: u64 = 8;

/// Instructions per call.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    /// All but those of the crypto library, whose code depends on the processor.
    pub ours: u64,
    /// Those of the crypto library, for information.
    pub crypto: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// With what it was counted: a name and a value each.
    pub provenance: Vec<(String, String)>,
    pub rows: Vec<Row>,
}

impl Baseline {
    pub fn beside(&self, stored: &Self) -> Comparison {
        let others: Vec<_> = self
            .provenance
            .iter()
            .filter(|(name, value)| stored.provenance.iter().all(|(theirs, then)| (theirs, then) != (name, value)))
            .map(|(name, value)| {
                let then =
                    stored.provenance.iter().find(|(theirs, _)| theirs == name).map_or("nothing", |(_, then)| then);
                format!("{name} is \"{value}\", and was \"{then}\"")
            })
            .collect();
        let tolerance = if others.is_empty() { TOLERANCE } else { WIDE };
        let mut lines: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let then = stored.rows.iter().find(|then| then.name == row.name).map(|then| then.ours);
                (row.name.clone(), then, Some(row.ours), judge(then, Some(row.ours), tolerance))
            })
            .collect();
        for then in &stored.rows {
            if self.rows.iter().all(|row| row.name != then.name) {
                lines.push((then.name.clone(), Some(then.ours), None, judge(Some(then.ours), None, tolerance)));
            }
        }
        Comparison { others, tolerance, lines }
    }

    /// For people, beside the row without the layer, which is the first.
    pub fn table(&self) -> String {
        let mut table =
            String::from("| | instructions | less the handler's own | of the crypto library |\n|---|---:|---:|---:|\n");
        let handler = self.rows.first().map_or(0, |row| row.ours);
        for (at, row) in self.rows.iter().enumerate() {
            // Look-ups are no whole calls.
            let whole = at > 0 && !row.name.contains("look-up") && !row.name.starts_with("revocation");
            let less = if whole { (row.ours.saturating_sub(handler)).to_string() } else { String::new() };
            table.push_str(&format!("| {} | {} | {less} | {} |\n", row.name, row.ours, row.crypto));
        }
        let with: Vec<_> = self.provenance.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        format!("{table}\nCounted with {}.\n", with.join("; "))
    }
}

const HEAD: &str = "\
# Instructions per call: of all but the crypto library, which are compared; of the crypto library, for information; of what.
# Written by `bench/instructions/run --renew`, compared by `bench/instructions/run`.
";

impl Display for Baseline {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for (name, value) in &self.provenance {
            writeln!(f, "{name}: {value}")?;
        }
        for row in &self.rows {
            writeln!(f, "{:>8} {:>8}  {}", row.ours, row.crypto, row.name)?;
        }
        Ok(())
    }
}

impl FromStr for Baseline {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let mut baseline = Self { provenance: Vec::new(), rows: Vec::new() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with(|first: char| first.is_ascii_alphabetic()) {
                let (name, value) = line.split_once(": ").ok_or("a name, and a value")?;
                baseline.provenance.push((name.into(), value.into()));
            } else {
                let row = || -> Option<_> {
                    let (ours, rest) = line.trim_start().split_once(' ')?;
                    let (crypto, name) = rest.trim_start().split_once(' ')?;
                    Some((ours.parse().ok()?, crypto.parse().ok()?, name.trim_start().into()))
                };
                let (ours, crypto, name) = row().ok_or_else(|| format!("not two numbers and a name: {line:?}"))?;
                baseline.rows.push(Row { name, ours, crypto });
            }
        }
        if baseline.rows.is_empty() {
            return Err("nothing is stored".into());
        }
        Ok(baseline)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Judgement {
    Fine,
    More,
    /// Not a failure; but what was won is only kept if it is stored.
    Less,
    /// Only one of the two has it.
    Alone,
}

fn judge(then: Option<u64>, now: Option<u64>, tolerance: f64) -> Judgement {
    let (Some(then), Some(now)) = (then, now) else { return Judgement::Alone };
    let allowed = SLACK.max((then as f64 * tolerance) as u64);
    if now > then + allowed {
        Judgement::More
    } else if now + allowed < then {
        Judgement::Less
    } else {
        Judgement::Fine
    }
}

pub struct Comparison {
    others: Vec<String>,
    tolerance: f64,
    lines: Vec<(String, Option<u64>, Option<u64>, Judgement)>,
}

impl Comparison {
    /// Whether nothing takes more than it may, and the same things were counted.
    pub fn holds(&self) -> bool {
        self.lines.iter().all(|(.., judgement)| matches!(judgement, Judgement::Fine | Judgement::Less))
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for other in &self.others {
            writeln!(f, "{other}: compared less closely; renew what is stored")?;
        }
        writeln!(f, "{:>8} {:>8} {:>7}", "stored", "now", "")?;
        for (name, then, now, judgement) in &self.lines {
            let number = |number: &Option<u64>| number.map_or("-".into(), |number| number.to_string());
            let change = match (then, now) {
                (Some(then), Some(now)) => format!("{:+.1} %", (*now as f64 / (*then).max(1) as f64 - 1.0) * 100.0),
                _ => String::new(),
            };
            let word = match judgement {
                Judgement::Fine => "",
                Judgement::More => "  MORE",
                Judgement::Less => "  less: renew, so that it stays so",
                Judgement::Alone => "  NOT IN BOTH: renew",
            };
            writeln!(f, "{:>8} {:>8} {change:>7}  {name}{word}", number(then), number(now))?;
        }
        let verdict = if self.holds() { "fine" } else { "FAILED: what is meant to take more is stored with --renew" };
        writeln!(f, "within {:.0} %: {verdict}", self.tolerance * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Baseline {
        "# a comment\nrustc: rustc 1.95.0 (a b)\nlibc: glibc 2.36\n    1000        0  handler\n   20000   500000  ES256, first sight\n     100        0  key look-up, 1: there\n"
            .parse()
            .unwrap()
    }

    fn changed(at: usize, ours: u64) -> Baseline {
        let mut now = stored();
        now.rows[at].ours = ours;
        now
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(stored().to_string().parse::<Baseline>().unwrap(), stored());
        assert_eq!(stored().rows[1], Row { name: "ES256, first sight".into(), ours: 20_000, crypto: 500_000 });
    }

    #[test]
    fn the_same_counts_hold() {
        assert!(stored().beside(&stored()).holds());
    }

    #[test]
    fn more_than_the_tolerance_fails_and_as_much_does_not() {
        assert!(changed(1, 21_000).beside(&stored()).holds());
        let more = changed(1, 21_001).beside(&stored());
        assert!(!more.holds());
        assert!(more.to_string().contains("ES256, first sight  MORE"), "{more}");
    }

    #[test]
    fn of_few_instructions_a_few_more_are_no_failure() {
        assert!(changed(2, 108).beside(&stored()).holds());
        assert!(!changed(2, 109).beside(&stored()).holds());
    }

    #[test]
    fn every_row_of_the_file_that_is_stored_can_fail() {
        let stored: Baseline = include_str!("../baseline.txt").parse().unwrap();
        assert!(stored.beside(&stored).holds());
        for at in 0..stored.rows.len() {
            let mut slower = stored.clone();
            slower.rows[at].ours += slower.rows[at].ours / 19 + SLACK;
            assert!(!slower.beside(&stored).holds(), "{}", stored.rows[at].name);
        }
    }

    #[test]
    fn less_holds_and_asks_to_be_stored() {
        let less = changed(1, 10_000).beside(&stored());
        assert!(less.holds());
        assert!(less.to_string().contains("less: renew"), "{less}");
    }

    #[test]
    fn another_compiler_is_said_and_compared_less_closely() {
        let mut now = changed(1, 22_900);
        now.provenance[0].1 = "rustc 1.96.0 (c d)".into();
        let other = now.beside(&stored());
        assert!(other.holds());
        assert!(
            other.to_string().contains("rustc is \"rustc 1.96.0 (c d)\", and was \"rustc 1.95.0 (a b)\""),
            "{other}"
        );
        now.rows[1].ours = 23_100;
        assert!(!now.beside(&stored()).holds());
    }

    #[test]
    fn what_only_one_of_the_two_has_fails() {
        let mut fewer = stored();
        fewer.rows.pop();
        assert!(!fewer.beside(&stored()).holds());
        assert!(!stored().beside(&fewer).holds());
    }

    #[test]
    fn the_crypto_library_is_not_compared() {
        let mut now = stored();
        now.rows[1].crypto *= 10;
        assert!(now.beside(&stored()).holds());
    }

    #[test]
    fn a_stored_file_without_rows_is_an_error() {
        assert!("# nothing\nrustc: rustc 1.95.0\n".parse::<Baseline>().is_err());
        assert!("   12 \n".parse::<Baseline>().is_err());
        assert!("  x 1  name\n".parse::<Baseline>().is_err());
    }
}

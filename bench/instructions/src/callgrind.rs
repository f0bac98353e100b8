//! Runs what is counted below callgrind, and reads what callgrind wrote.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::baseline::Row;

/// The one function whose instructions are collected, and after each call of which they are written down. In full, because of two
/// options with the same pattern callgrind heeds one.
const MEASURED: &str = "countersign_instructions::counted::measured";

/// All functions of the crypto library that others can call begin like this, and with a version after it.
const CRYPTO: &str = "aws_lc_";

/// The Rust in front of the crypto library, which is the same on all machines.
const NOT_CRYPTO: &str = "aws_lc_rs::";

/// All rows, and what the processor said it has, in the order in which they were counted.
pub fn count() -> Result<(String, Vec<Row>), Failure> {
    let directory = std::env::temp_dir().join(format!("countersign-instructions-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let counted = count_in(&directory);
    std::fs::remove_dir_all(&directory)?;
    counted
}

fn count_in(directory: &Path) -> Result<(String, Vec<Row>), Failure> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--dump-after={MEASURED}"))
        .arg(format!("--callgrind-out-file={}", directory.join("part").display()))
        .arg(std::env::current_exe()?)
        .arg("--counted")
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !output.status.success() {
        return Err(format!("what is counted ended with {}", output.status).into());
    }
    let mut lines = std::str::from_utf8(&output.stdout)?.lines();
    let features = lines.next().ok_or("it said nothing")?.to_string();
    let mut rows = Vec::new();
    for (at, line) in lines.enumerate() {
        let (calls, name) = line.split_once(' ').ok_or("a line is a number and a name")?;
        let part = std::fs::read_to_string(directory.join(format!("part.{}", at + 1)))
            .map_err(|error| format!("callgrind wrote nothing for {name:?} ({error}): does it know {MEASURED}?"))?;
        let (all, crypto) = instructions(&part)?;
        let calls: u64 = calls.parse()?;
        rows.push(Row { name: name.into(), ours: (all - crypto) / calls, crypto: crypto / calls });
    }
    if rows.iter().all(|row| row.crypto == 0) {
        return Err(
            format!("nothing called the crypto library: does its functions' name still begin with {CRYPTO}?").into()
        );
    }
    Ok((features, rows))
}

/// All instructions of one part, and those from where the crypto library was called to where it returned.
fn instructions(part: &str) -> Result<(u64, u64), Failure> {
    let (mut names, mut inside, mut callee, mut called) = (HashMap::new(), "", "", false);
    let (mut all, mut calls) = (None, Vec::new());
    for line in part.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            inside = resolve(&mut names, name)?;
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = resolve(&mut names, name)?;
        } else if line.starts_with("calls=") {
            called = true;
        } else if called {
            // The line after a call: where, and how many instructions it took with all that it called.
            called = false;
            let (_, cost) = line.split_once(' ').ok_or("a call has a cost")?;
            calls.push((inside, callee, cost.parse::<u64>()?));
        } else if let Some(total) = line.strip_prefix("totals: ") {
            all = Some(total.trim().parse()?);
        }
    }
    let within = within_crypto(&calls);
    let from_outside = |caller, callee| is_crypto(callee) && !within.contains(caller);
    let crypto = calls.iter().filter(|(caller, callee, _)| from_outside(caller, callee)).map(|(.., cost)| cost).sum();
    Ok((all.ok_or("a part without its sum")?, crypto))
}

/// The crypto library's functions, and all that they call: its own that others cannot call have names like anybody's.
fn within_crypto<'p>(calls: &[(&'p str, &'p str, u64)]) -> HashSet<&'p str> {
    let mut within: HashSet<_> =
        calls.iter().map(|(_, callee, _)| *callee).filter(|callee| is_crypto(callee)).collect();
    loop {
        let more: Vec<_> = calls
            .iter()
            .filter(|(caller, callee, _)| within.contains(caller) && !within.contains(callee))
            .map(|(_, callee, _)| *callee)
            .collect();
        if more.is_empty() {
            return within;
        }
        within.extend(more);
    }
}

/// `(7) name` where a name comes first, `(7)` afterwards.
fn resolve<'p>(names: &mut HashMap<&'p str, &'p str>, text: &'p str) -> Result<&'p str, Failure> {
    match text.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            Ok(name)
        }
        None => Ok(names.get(text).ok_or("a function without a name")?),
    }
}

fn is_crypto(function: &str) -> bool {
    function.starts_with(CRYPTO) && !function.starts_with(NOT_CRYPTO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: &str = "\
events: Ir
fl=(1) service.rs
fn=(1) countersign_instructions::counted::measured
10 5
cfn=(2) <countersign_token::key::VerifyingKey>::verify
calls=2 0
11 930

fn=(2)
20 20
+1 10
cfn=(3) aws_lc_rs::hmac::verify
calls=2 0
* 900

fn=(3)
1 100
cfn=(4) aws_lc_0_99_0_HMAC
calls=2 0
* 800

fn=(4)
1 200
cfn=(5) own_to_one_file
calls=2 0
* 600

fn=(5)
1 100
cfn=(6) aws_lc_0_99_0_SHA256
calls=2 0
* 500

fn=(6)
1 500

totals: 935
";

    #[test]
    fn what_the_crypto_library_calls_of_itself_is_taken_off_once() {
        assert_eq!(instructions(PART).unwrap(), (935, 800));
    }

    #[test]
    fn a_part_that_was_cut_short_is_an_error() {
        assert!(instructions(&PART[..PART.len() - 12]).is_err());
    }

    #[test]
    fn a_number_that_was_never_given_a_name_is_an_error() {
        assert!(instructions("fn=(7)\n1 1\ntotals: 1\n").is_err());
    }
}

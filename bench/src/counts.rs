//! How often is allocated, and how much. A counting allocator takes time, so one binary counts and another looks at the clock: the latter has the former
//! go through the same section before, and is told what it has counted, in order.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::Failure;
use crate::program::said_by;

/// What some work has allocated.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub allocations: u64,
    pub bytes: u64,
    /// What it has not given back, bytes.
    pub kept: i64,
}

/// Counts what a piece of work allocates.
pub type Counter = fn(&mut dyn FnMut()) -> Counts;

static COUNTER: OnceLock<Counter> = OnceLock::new();
static TOLD: Mutex<VecDeque<Counts>> = Mutex::new(VecDeque::new());

/// Makes this process the one that counts.
pub fn count_with(counter: Counter) {
    // The first stays; there is no other.
    let _ = COUNTER.set(counter);
}

/// Whether this process counts, so that what it would measure of time means nothing.
pub fn is_counting() -> bool {
    COUNTER.get().is_some()
}

/// Does the work, and says what that allocates.
pub fn count(mut work: impl FnMut()) -> Counts {
    match COUNTER.get() {
        Some(counter) => {
            let Counts { allocations, bytes, kept } = counter(&mut work);
            println!("{allocations} {bytes} {kept}");
            Counts { allocations, bytes, kept }
        }
        None => {
            work();
            TOLD.lock().unwrap_or_else(PoisonError::into_inner).pop_front().expect("as many as are asked for")
        }
    }
}

/// Has another program, which goes the same way with an allocator that counts, count what this one will ask for.
///
/// # Errors
/// That there is no such program, or that it fails.
pub fn have_counted(package: &str, program: &str, arguments: &[&str]) -> Result<(), Failure> {
    let said = said_by(package, program, arguments)?;
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.clear();
    for line in said.lines() {
        let mut numbers = line.split(' ');
        let mut next = || numbers.next().ok_or("three numbers in a line");
        told.push_back(Counts { allocations: next()?.parse()?, bytes: next()?.parse()?, kept: next()?.parse()? });
    }
    Ok(())
}

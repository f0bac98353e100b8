//! The choice of the crate that keeps verified tokens: a look-up by token in each.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::hint::black_box;
use std::sync::Arc;

use countersign::{Algorithm, SigningKey};
use quick_cache::Equivalent;

use crate::cached::MANY;
use crate::request::tokens;
use crate::timing::{Contender, Effort, medians};
use crate::verification::raw;
use crate::{Failure, unix_seconds};

/// Room for all, with as much again to spare.
const CAPACITY: usize = 2 * MANY;

/// A token, of which the end is hashed: of its signature, which nobody can choose.
#[derive(Clone, PartialEq, Eq)]
struct ByTail(Arc<str>);

struct Tail<'t>(&'t str);

impl Hash for Tail<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0.as_bytes()[self.0.len() - 24..]);
    }
}

impl Hash for ByTail {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Tail(&self.0).hash(state);
    }
}

impl Equivalent<ByTail> for Tail<'_> {
    fn equivalent(&self, key: &ByTail) -> bool {
        *self.0 == *key.0
    }
}

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let signer = SigningKey::generate(Algorithm::Rs256)?.with_kid("3f0c6a52-2026-11");
    let tokens = tokens(&signer, unix_seconds()?, MANY)?;
    let quick = quick_cache::sync::Cache::new(CAPACITY);
    let quick_by_tail = quick_cache::sync::Cache::new(CAPACITY);
    let moka = moka::sync::Cache::new(CAPACITY as u64);
    let value = Arc::new(());
    for token in &tokens {
        quick.insert(Arc::<str>::from(&**token), Arc::clone(&value));
        quick_by_tail.insert(ByTail((&**token).into()), Arc::clone(&value));
        moka.insert(Arc::<str>::from(&**token), Arc::clone(&value));
    }
    moka.run_pending_tasks();
    let mut contenders = vec![Contender::new("raw RS256", raw(Algorithm::Rs256, &signer, &tokens[..1])?)];
    for (of, at) in [("one token", 1), ("10,000 in turn", MANY)] {
        let turn = Cell::new(0);
        let next = move || {
            turn.set((turn.get() + 1) % at);
            turn.get()
        };
        let (quick, quick_by_tail, moka, tokens) = (&quick, &quick_by_tail, &moka, &tokens);
        let name = |cache: &str| -> &'static str { format!("{cache}, {of}").leak() };
        let [one, two, three] = [next.clone(), next.clone(), next];
        contenders.push(Contender::new(name("`quick_cache`, the end hashed"), move || {
            assert!(black_box(quick_by_tail.get(&Tail(&tokens[one()]))).is_some());
        }));
        contenders.push(Contender::new(name("`quick_cache`, all of it hashed"), move || {
            assert!(black_box(quick.get(&*tokens[two()])).is_some());
        }));
        contenders.push(Contender::new(name("`moka`, all of it hashed"), move || {
            assert!(black_box(moka.get(&*tokens[three()])).is_some());
        }));
    }
    let medians = medians(&mut contenders, effort);
    let mut table = String::from("### A look-up by token\n\n| | × raw | µs |\n|---|---:|---:|\n");
    for (contender, median) in contenders.iter().zip(&medians) {
        table.push_str(&format!("| {} | {:.4} | {median:.3} |\n", contender.name, median / medians[0]));
    }
    Ok(table)
}

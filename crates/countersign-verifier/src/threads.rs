use std::sync::atomic::{AtomicUsize, Ordering};

/// Which thread this is, in the order in which threads ask: whoever writes for every request chooses by it where, so that the threads of a runtime, which
/// start one after the other, write in a place each.
#[doc(hidden)]
#[must_use]
pub fn number_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

use std::sync::Arc;

use crate::verified::Verified;

/// The same thing a few times over, each with a reference count of its own. One that every request writes would be a line of memory that every core
/// has to own, in turn; requests with different tokens find different ones here.
#[derive(Debug)]
pub struct Stripes<T: ?Sized>([Arc<T>; COUNT]);

/// As many as there are cores on most machines.
const COUNT: usize = 16;

impl<T: ?Sized> Stripes<T> {
    /// What `make` makes; equal each time.
    #[must_use]
    pub fn new(mut make: impl FnMut() -> Arc<T>) -> Self {
        Self(std::array::from_fn(|_| make()))
    }

    /// One of them.
    #[must_use]
    pub fn any(&self) -> &Arc<T> {
        &self.0[0]
    }

    /// The one for this token.
    #[must_use]
    pub fn of(&self, token: &Verified) -> Arc<T> {
        // Places differ in the middle; the upper bits of a product have a part in all.
        let at = (token.place_in_memory() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - COUNT.ilog2());
        Arc::clone(&self.0[at as usize])
    }
}

// By hand, because `T` need not be `Clone`.
impl<T: ?Sized> Clone for Stripes<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

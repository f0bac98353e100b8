//! Where a ring is kept.

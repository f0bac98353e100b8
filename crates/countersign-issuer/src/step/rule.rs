/// The rules that tests have the core break, one at a time, to see that they notice. Nothing else breaks one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// That a key was published is believed when it was read back, not when a write returned.
    ReadBack,
    /// Whoever waits for another node's time waits for the difference of the clocks too.
    ClockError,
    /// A conflict may be one's own success.
    ConflictIsDoubted,
    /// Whose write it was says the nonce, not the number.
    NonceIsCompared,
    /// A key stays published for as long as its tokens live.
    Retention,
    /// A set is published only over the one that was looked at. It is the shell that breaks this one.
    PublishIsConditional,
    /// Only what is certainly missing is missing.
    OnlyMissingRotates,
    /// Nobody signs by an old view.
    ViewIsYoung,
    /// A key is deactivated when that was seen, not when the write was prepared.
    DeactivationIsSeen,
    /// A new key waits until nobody can lack it.
    Announcement,
    /// A node whose clock is wrong does nothing.
    ClockIsSound,
    /// A private part is destroyed only after whoever may still sign has noticed.
    LeaseBeforeDestruction,
}

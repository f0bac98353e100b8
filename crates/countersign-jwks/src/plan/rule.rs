/// The rules that the plan's own tests have it break, one at a time, to see that they notice. Nothing else breaks one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The distance between forced fetches counts from failed ones too.
    SpacingCountsFailures,
    /// What was looked for and not found is remembered.
    AbsenceIsRemembered,
    /// What goes with a set is known to be absent as soon as the next one is in force.
    WithdrawnIsAbsent,
    /// A set without a usable key is believed the second time only.
    EmptinessIsConfirmed,
    /// No more than so many wait.
    WaitersAreBounded,
    /// A set that is older than the one in force is not believed.
    OlderIsDisbelieved,
    /// The next request is conditional on what the set in force said about itself, not on what a refused one said.
    ValidatorsAreOfTheSetInForce,
    /// An answer that was on its way while the machine stood still is not believed.
    OutlivedIsDisbelieved,
    /// The clocks are compared.
    ClocksAreCompared,
    /// A clock that has just been set does not say when an answer was generated.
    SetClocksAreDoubted,
    /// A remembered set that is older than may be trusted is not believed.
    RestoredIsYoung,
    /// What was fetched is not replaced by what somebody remembers.
    FetchedOutweighsRestored,
}

#[cfg(test)]
impl Rule {
    pub(crate) const ALL: [Self; 12] = [
        Self::SpacingCountsFailures,
        Self::AbsenceIsRemembered,
        Self::WithdrawnIsAbsent,
        Self::EmptinessIsConfirmed,
        Self::WaitersAreBounded,
        Self::OlderIsDisbelieved,
        Self::ValidatorsAreOfTheSetInForce,
        Self::OutlivedIsDisbelieved,
        Self::ClocksAreCompared,
        Self::SetClocksAreDoubted,
        Self::RestoredIsYoung,
        Self::FetchedOutweighsRestored,
    ];
}

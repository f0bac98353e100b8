use std::fmt;

use countersign::UnixTime;

use super::{Denial, Denied, Policy};

/// What a client may do to the ring, and see of it. No grant gives it, and none follows from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AdminRight {
    /// `keys:read`: which keys there are, and how far each has come.
    ReadKeys,
    /// `keys:rotate`: to have the standbys sign.
    RotateKeys,
    /// `keys:revoke`: to make worthless whatever keys have signed.
    RevokeKeys,
}

impl AdminRight {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ReadKeys, Self::RotateKeys, Self::RevokeKeys];

    /// As it is written in a policy.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadKeys => "keys:read",
            Self::RotateKeys => "keys:rotate",
            Self::RevokeKeys => "keys:revoke",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.name() == name)
    }
}

impl fmt::Display for AdminRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether `client` has that right at the time `now`.
///
/// # Errors
/// [`Denied`].
pub fn decide_admin(policy: &Policy, client: &str, right: AdminRight, now: UnixTime) -> Result<(), Denied> {
    let entry = policy.valid_client(client, now)?;
    if entry.admin.contains(&right) { Ok(()) } else { Err(Denied::of_client(Denial::AdminRight(right))) }
}

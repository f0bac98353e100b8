use std::fmt;

use countersign_token::Thumbprint;

use crate::time::UnixTime;

/// One revocation: what of an issuer is revoked, and until when that has to be remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The `iss` of the tokens concerned, to the letter. Empty: those that have none.
    pub issuer: Box<str>,
    /// What is revoked.
    pub revokes: Revokes,
    /// The `exp` of the last token that it concerns. From then on (and leeways later) the entry says nothing, because those tokens are
    /// refused anyway. `None`: for good, which a key wants: whoever has stolen it makes tokens that are as young as they like.
    pub until: Option<UnixTime>,
}

/// What an [`Entry`] revokes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revokes {
    /// One token.
    Token {
        /// Its `jti`.
        jwt_id: Box<str>,
    },
    /// All tokens that the issuer's key of this name has verified, whenever they were issued. Whoever has stolen the key chooses their `iss`: where it is
    /// [not certain](super::Judged::issuer_is_certain) whose key it was, those of any key of this name.
    Key {
        /// The name that the issuer has published the key by.
        kid: Box<str>,
    },
    /// All tokens that this key has signed, whatever its name and its issuer.
    KeyMaterial {
        /// Of the public key (RFC 7638).
        thumbprint: Thumbprint,
    },
    /// Everything of one level that was issued up to a time.
    CutOff {
        /// Of what.
        level: Level,
        /// Of which one; empty for [`Level::Issuer`], where the issuer says it already.
        name: Box<str>,
        /// The last second that is cut off; its fraction is of no account, because `iat` has none.
        issued_until: UnixTime,
    },
}

/// What a cut-off is of: what many tokens have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// `iss`.
    Issuer,
    /// `tid`, unless the policy [names another claim](crate::Policy::level_claim).
    Tenant,
    /// `client_id`, or else `azp`, unless the policy names another claim.
    Client,
    /// `sub`.
    Subject,
    /// `sid`, unless the policy names another claim.
    Session,
    /// `family`, unless the policy names another claim: what one login has led to.
    Family,
}

impl Level {
    /// All, from what concerns most tokens to what concerns fewest.
    pub const ALL: [Self; 6] = [Self::Issuer, Self::Tenant, Self::Client, Self::Subject, Self::Session, Self::Family];

    /// A word for it: `issuer`, `tenant`, …
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Tenant => "tenant",
            Self::Client => "client",
            Self::Subject => "subject",
            Self::Session => "session",
            Self::Family => "family",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

use std::fmt;

use countersign_token::Thumbprint;

use super::Level;
use crate::time::UnixTime;
use crate::verified::Verified;

/// What there is to know of a token when it is asked whether it has been revoked: signature and claims are good already.
///
/// All of it is borrowed; making one costs nothing. What a token does not say is `None`.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Judged<'v> {
    /// `iss`, which is the configured issuer, or that of the key, where one is.
    pub issuer: Option<&'v str>,
    /// Whether it is the issuer of the key for certain: the only one that is configured, or the one that the key is bound to. Otherwise whoever has a key can
    /// write another, so a key that is revoked by its name is revoked whoever's it is said to be.
    pub issuer_is_certain: bool,
    /// The name of the key that *verified* the token, not the one in its header.
    pub kid: Option<&'v str>,
    /// That key's thumbprint.
    pub thumbprint: Option<&'v Thumbprint>,
    /// `jti`.
    pub jwt_id: Option<&'v str>,
    /// `sub`.
    pub subject: Option<&'v str>,
    /// [`Verified::client`].
    pub client: Option<&'v str>,
    /// [`Verified::session`].
    pub session: Option<&'v str>,
    /// [`Verified::family`].
    pub family: Option<&'v str>,
    /// [`Verified::tenant`].
    pub tenant: Option<&'v str>,
    /// `iat`.
    pub issued_at: Option<UnixTime>,
    /// `exp`.
    pub expires_at: Option<UnixTime>,
    /// The time of the check.
    pub now: UnixTime,
}

impl<'v> Judged<'v> {
    /// A token that says nothing, at the time `now`: to be filled in by hand.
    #[must_use]
    pub fn at(now: UnixTime) -> Self {
        Self {
            issuer: None,
            issuer_is_certain: true,
            kid: None,
            thumbprint: None,
            jwt_id: None,
            subject: None,
            client: None,
            session: None,
            family: None,
            tenant: None,
            issued_at: None,
            expires_at: None,
            now,
        }
    }

    /// A token at the time `now`.
    #[must_use]
    pub fn of(verified: &'v Verified, now: UnixTime) -> Self {
        let key = verified.key();
        Self {
            issuer: verified.issuer(),
            issuer_is_certain: verified.issuer_is_certain(),
            kid: key.kid(),
            thumbprint: Some(key.thumbprint()),
            jwt_id: verified.jwt_id(),
            subject: verified.subject(),
            client: verified.client(),
            session: verified.session(),
            family: verified.family(),
            tenant: verified.tenant(),
            issued_at: verified.issued_at(),
            expires_at: verified.expires_at(),
            now,
        }
    }

    /// Which one of this level it is of.
    #[must_use]
    pub fn level(&self, level: Level) -> Option<&'v str> {
        match level {
            Level::Issuer => self.issuer,
            Level::Tenant => self.tenant,
            Level::Client => self.client,
            Level::Subject => self.subject,
            Level::Session => self.session,
            Level::Family => self.family,
        }
    }
}

/// As [`Verified`]'s: who, and no more.
impl fmt::Debug for Judged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judged")
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .field("kid", &self.kid)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

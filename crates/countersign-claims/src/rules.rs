//! Every rule of a policy asked by itself, for whoever explains a refusal: a judgement ends with the first that is broken.

use countersign_token::json::Members;
use countersign_token::{UnverifiedToken, VerifyingKey};

use crate::error::ClaimError;
use crate::policy::{Policy, in_any_memory, unreadable};
use crate::registered::Registered;
use crate::time::UnixTime;

/// One of the rules for claims, in the order in which [`Policy::judge`] applies them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// One JSON object, each name once, each registered claim of its type.
    Payload,
    /// `typ`, and that it is no token of another kind.
    Kind,
    /// `exp`.
    Expiry,
    /// `nbf`.
    NotBefore,
    /// `iat`.
    IssuedAt,
    /// [`Policy::max_age`].
    Age,
    /// [`Policy::max_lifetime`].
    Lifetime,
    /// `iss`.
    Issuer,
    /// `aud`.
    Audience,
    /// [`Policy::require_claim`].
    RequiredClaims,
    /// [`Policy::access_token_profile`].
    Profile,
    /// That the key is one of the token's issuer.
    IssuerOfKey,
    /// [`Policy::subject`].
    Subject,
    /// `cnf`.
    KeyBinding,
}

impl Rule {
    /// All, in that order.
    pub const ALL: [Self; 14] = [
        Self::Payload,
        Self::Kind,
        Self::Expiry,
        Self::NotBefore,
        Self::IssuedAt,
        Self::Age,
        Self::Lifetime,
        Self::Issuer,
        Self::Audience,
        Self::RequiredClaims,
        Self::Profile,
        Self::IssuerOfKey,
        Self::Subject,
        Self::KeyBinding,
    ];
}

impl Policy {
    /// Each rule asked of this token by itself: what [`judge`](Self::judge) would say if it were the only one. The first that is broken
    /// is what `judge` says.
    ///
    /// `key` is the one that has verified the token; without it, the claims are anybody's, and the rule about the key and the user's own
    /// ([`subject`](Self::subject)) are left out. So are all behind [`Rule::Payload`], if that is broken. None at all if the payload is not
    /// strict base64url.
    #[must_use]
    pub fn rules(
        &self,
        token: &UnverifiedToken<'_>,
        key: Option<&VerifyingKey>,
        now: UnixTime,
    ) -> Vec<(Rule, Result<(), ClaimError>)> {
        let ask = |payload: &[u8]| {
            let mut claims = Registered::default();
            let mut members = Members::new();
            let read = std::str::from_utf8(payload).map_err(|_| ClaimError::NotAnObject).and_then(|text| {
                members.read(text).map_err(unreadable)?;
                Ok((text, claims.read(text, &members, self.required()).map_err(in_any_memory)?))
            });
            let (payload, present) = match read {
                Ok(read) => read,
                Err(error) => return vec![(Rule::Payload, Err(error))],
            };
            let asked = |rule| {
                Some(match (rule, key) {
                    (Rule::Payload, _) => Ok(()),
                    (Rule::Kind, _) => self.check_kind(&claims, token.header().typ()),
                    (Rule::Expiry, _) => self.check_exp(&claims, now),
                    (Rule::NotBefore, _) => self.check_nbf(&claims, now),
                    (Rule::IssuedAt, _) => self.check_iat(&claims, now),
                    (Rule::Age, _) => self.check_age(&claims, now),
                    (Rule::Lifetime, _) => self.check_lifetime(&claims),
                    (Rule::Issuer, _) => self.check_iss(&claims, payload),
                    (Rule::Audience, _) => self.check_aud(&claims, payload),
                    (Rule::RequiredClaims, _) => self.check_required(present),
                    (Rule::Profile, _) => self.check_profile(&claims, payload),
                    (Rule::IssuerOfKey, Some(key)) => self.check_issuer_of_key(&claims, payload, key),
                    (Rule::Subject, Some(_)) => self.check_subject(&claims, payload),
                    (Rule::IssuerOfKey | Rule::Subject, None) => return None,
                    (Rule::KeyBinding, _) => self.check_binding_to_key(&claims),
                })
            };
            Rule::ALL.into_iter().filter_map(|rule| Some((rule, asked(rule)?))).collect()
        };
        token.look_at_unverified_payload(ask).unwrap_or_default()
    }
}

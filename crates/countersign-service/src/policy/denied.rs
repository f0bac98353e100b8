use std::fmt;
use std::time::Duration;

use super::{AdminRight, ClaimKind};

/// Why nothing is signed, and by which grant. Names rules, and claims by their names; never what a request or a
/// document says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denied {
    /// The rule.
    pub denial: Denial,
    /// The grant that the request came furthest in; `None` if it came into none.
    pub grant: Option<Box<str>>,
}

/// The rules, in the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// There is no such client.
    UnknownClient,
    /// The client is not valid yet, or not any more.
    ClientNotValid,
    /// No grant of the client has this profile.
    Profile,
    /// The grant is not valid yet, or not any more.
    GrantNotValid,
    /// `sub`.
    Subject,
    /// `aud` is not there.
    NoAudience,
    /// One of `aud`.
    Audience,
    /// One of `scope`.
    Scope,
    /// `alg`.
    Algorithm,
    /// `key_bits`.
    KeySize,
    /// `ttl`.
    Lifetime {
        /// What would do.
        most: Duration,
    },
    /// `nbf_delay`.
    Delay {
        /// What would do.
        most: Duration,
    },
    /// `cnf`: another key, or a kind of key, that tokens of the grant are not bound to.
    Confirmation,
    /// Tokens of the grant are bound to a key, and there is none: no `jkt`, or no certificate.
    ConfirmationMissing,
    /// A claim that is not on the list. Its name, as the request has it.
    Claim(Box<str>),
    /// A claim of another type.
    ClaimType(Box<str>, ClaimKind),
    /// A claim that is too long.
    ClaimTooLarge(Box<str>, usize),
    /// A claim with a value that is not on its list.
    ClaimValue(Box<str>),
    /// A claim that has to be there.
    ClaimMissing(Box<str>),
    /// The client lacks a right over the ring: asked of nothing that is to be signed.
    AdminRight(AdminRight),
}

impl Denied {
    pub(super) fn of_client(denial: Denial) -> Self {
        Self { denial, grant: None }
    }

    /// A stable name of the rule, for answers, metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.denial.code()
    }
}

impl Denial {
    /// All [codes](Self::code), in order.
    pub const CODES: [&str; 20] = [
        "unauthorized_client",
        "client_not_valid",
        "profile_not_permitted",
        "grant_not_valid",
        "subject_not_permitted",
        "audience_missing",
        "invalid_target",
        "invalid_scope",
        "alg_not_permitted",
        "key_size_not_permitted",
        "ttl_exceeds_policy",
        "nbf_delay_exceeds_policy",
        "cnf_not_permitted",
        "cnf_missing",
        "claim_not_permitted",
        "claim_type_not_permitted",
        "claim_too_large",
        "claim_value_not_permitted",
        "claim_missing",
        "admin_right_missing",
    ];

    /// A stable name, for answers, metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        Self::CODES[usize::from(self.step())]
    }

    /// How far a request came that is refused for this.
    pub(super) fn step(&self) -> u8 {
        match self {
            Self::UnknownClient => 0,
            Self::ClientNotValid => 1,
            Self::Profile => 2,
            Self::GrantNotValid => 3,
            Self::Subject => 4,
            Self::NoAudience => 5,
            Self::Audience => 6,
            Self::Scope => 7,
            Self::Algorithm => 8,
            Self::KeySize => 9,
            Self::Lifetime { .. } => 10,
            Self::Delay { .. } => 11,
            Self::Confirmation => 12,
            Self::ConfirmationMissing => 13,
            Self::Claim(_) => 14,
            Self::ClaimType(..) => 15,
            Self::ClaimTooLarge(..) => 16,
            Self::ClaimValue(_) => 17,
            Self::ClaimMissing(_) => 18,
            Self::AdminRight(_) => 19,
        }
    }
}

/// Characters of a claim's name that are told to whoever has sent it.
pub(super) const MAX_SHOWN: usize = 64;

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.denial.fmt(f)?;
        self.grant.as_ref().map_or(Ok(()), |grant| write!(f, " (grant `{grant}`)"))
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownClient => f.write_str("there is no such client"),
            Self::ClientNotValid => f.write_str("the client is not valid at this time"),
            Self::Profile => f.write_str("the client has no grant for this profile"),
            Self::GrantNotValid => f.write_str("the grant is not valid at this time"),
            Self::Subject => f.write_str("the grant does not allow this `sub`"),
            Self::NoAudience => f.write_str("a token needs an `aud`"),
            Self::Audience => f.write_str("the grant does not allow one of `aud`"),
            Self::Scope => f.write_str("the grant does not allow one of `scope`"),
            Self::Algorithm => f.write_str("the grant and the profile do not allow this `alg`"),
            Self::KeySize => f.write_str("the grant and the profile do not allow this `key_bits`"),
            Self::Lifetime { most } => write!(f, "`ttl` may be {} at most", most.as_secs()),
            Self::Delay { most } => write!(f, "`nbf_delay` may be {} at most", most.as_secs()),
            Self::Confirmation => f.write_str("the grant does not allow this `cnf`"),
            Self::ConfirmationMissing => {
                f.write_str("the grant demands a key for the token to be bound to: a certificate, or `jkt`")
            }
            Self::Claim(name) => {
                // A stranger's text: shown as far as any name that means something goes.
                let shown: String = name.escape_debug().take(MAX_SHOWN).collect();
                write!(f, "the grant does not allow the claim `{shown}`")
            }
            Self::ClaimType(name, kind) => write!(f, "the claim `{name}` must be {kind}"),
            Self::ClaimTooLarge(name, most) => write!(f, "the claim `{name}` may have {most} bytes at most"),
            Self::ClaimValue(name) => write!(f, "the grant does not allow this value of the claim `{name}`"),
            Self::ClaimMissing(name) => write!(f, "the grant demands the claim `{name}`"),
            Self::AdminRight(right) => write!(f, "the client does not have the right `{right}`"),
        }
    }
}

impl std::error::Error for Denied {}

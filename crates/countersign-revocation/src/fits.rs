use countersign_claims::revocation::{Entry, Level, Revokes, SinkError};
use countersign_token::DEFAULT_MAX_TOKEN_BYTES;

/// The longest name of anything, in octets: no token has a longer one, unless a verifier is told to take longer tokens than by default, and
/// servers cut headers off there.
pub const MAX_NAME_BYTES: usize = DEFAULT_MAX_TOKEN_BYTES;

/// Whether there could be a token with these names: the same for whoever publishes an entry, carries it, or takes it in. A kind that is not known
/// here is theirs to refuse.
pub(crate) fn fits(entry: &Entry) -> Result<(), SinkError> {
    let name = |what, name: &str| match name.len() {
        1..=MAX_NAME_BYTES => Ok(()),
        _ => Err(SinkError::Unfit(what)),
    };
    // It may be empty: of tokens that have none.
    if entry.issuer.len() > MAX_NAME_BYTES {
        return Err(SinkError::Unfit("the issuer"));
    }
    match &entry.revokes {
        Revokes::Token { jwt_id } => name("the `jti`", jwt_id),
        Revokes::Key { kid } => name("the `kid`", kid),
        // With a name it is a mistake for another level, and would cut off everybody.
        Revokes::CutOff { level: Level::Issuer, name, .. } if name.is_empty() => Ok(()),
        Revokes::CutOff { level: Level::Issuer, .. } => {
            Err(SinkError::Unfit("the name in an issuer's cut-off, which has none,"))
        }
        Revokes::CutOff { level, name: of, .. } => name(level.name(), of),
        _ => Ok(()),
    }
}

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::grant::Grant;
use super::{Denial, Request};

/// The key that whoever shows a token must prove to have (`cnf`, RFC 7800).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirmation {
    /// That of the certificate with this `x5t#S256` (RFC 8705 §3.1).
    Certificate(Box<str>),
    /// The one with this thumbprint, `jkt` (RFC 9449 §6.1).
    Key(Box<str>),
}

/// As a token has it.
impl Serialize for Confirmation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, value) = match self {
            Self::Certificate(thumbprint) => ("x5t#S256", thumbprint),
            Self::Key(thumbprint) => ("jkt", thumbprint),
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(name, value)?;
        map.end()
    }
}

/// What the tokens of a grant are bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Binding {
    /// To nothing.
    #[default]
    None,
    /// All of them to the certificate of the connection that they are asked for over.
    Certificate,
    /// All of them to a key that the request names.
    Key,
    /// To either, if the request says so.
    Any,
}

impl Grant {
    /// A certificate is never another than that of the connection; a key may be anybody's, who then is the only one that
    /// can use the token.
    pub(super) fn check_confirmation(&self, request: &Request) -> Result<Option<Confirmation>, Denial> {
        use Confirmation::{Certificate, Key};
        let shown = request.certificate.clone();
        match (self.binding, &request.confirmation) {
            (Binding::None | Binding::Any, None) => Ok(None),
            (Binding::Certificate, None) => shown.map(Certificate).map(Some).ok_or(Denial::ConfirmationMissing),
            (Binding::Key, None) => Err(Denial::ConfirmationMissing),
            (Binding::Certificate | Binding::Any, Some(Certificate(wanted))) => {
                let own = shown.filter(|shown| shown == wanted).map(Certificate);
                own.map(Some).ok_or(Denial::Confirmation)
            }
            (Binding::Key | Binding::Any, Some(key @ Key(_))) => Ok(Some(key.clone())),
            (Binding::None, Some(_)) | (Binding::Certificate, Some(Key(_))) | (Binding::Key, Some(Certificate(_))) => {
                Err(Denial::Confirmation)
            }
        }
    }
}

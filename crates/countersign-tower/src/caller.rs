use std::sync::Arc;

use countersign_claims::Verified;
use http::Extensions;

use crate::answers::Answers;
use crate::handler::ExtractError;
use crate::refusal::Refusal;

/// Who sends a request, where a token is [not needed](crate::RequireJwtLayer::optional).
///
/// ```
/// use countersign_tower::Caller;
///
/// fn greeting(caller: &Caller) -> String {
///     match caller {
///         Caller::Authenticated(verified) => format!("Hello, {}!", verified.subject().unwrap_or("stranger")),
///         Caller::Anonymous => "Hello!".into(),
///         Caller::Invalid(_) => "Hello! Your session has ended.".into(),
///     }
/// }
/// # assert_eq!(greeting(&Caller::Anonymous), "Hello!");
/// ```
#[derive(Clone, Debug)]
pub enum Caller {
    /// The token is good.
    Authenticated(Verified),
    /// There was no token, or nobody looked for one.
    Anonymous,
    /// There was a token, and it is not valid: only behind
    /// [`dangerous_treat_invalid_as_anonymous`](crate::RequireJwtLayer::dangerous_treat_invalid_as_anonymous).
    Invalid(Refusal),
}

impl Caller {
    /// Who sends the request that these extensions are of.
    ///
    /// # Errors
    /// [`ExtractError::NoLayer`], [`ExtractError::Shadow`]: nobody has looked, or nobody may know what was found.
    pub fn from_extensions(extensions: &Extensions) -> Result<Self, ExtractError> {
        if let Some(verified) = extensions.get::<Verified>() {
            return Ok(Self::Authenticated(verified.clone()));
        }
        match extensions.get::<Anonymous>() {
            Some(anonymous) => Ok(match &anonymous.refusal {
                Some(refusal) => Self::Invalid((**refusal).clone()),
                None => Self::Anonymous,
            }),
            None => Err(nobody(extensions)),
        }
    }

    /// The token, if it is good.
    #[must_use]
    pub fn verified(&self) -> Option<&Verified> {
        match self {
            Self::Authenticated(verified) => Some(verified),
            Self::Anonymous | Self::Invalid(_) => None,
        }
    }
}

/// In the extensions of a request that a layer has let through without a caller.
#[derive(Clone)]
pub(crate) struct Anonymous {
    /// Why its token is not good, if it has shown one.
    refusal: Option<Box<Refusal>>,
    answers: Arc<Answers>,
}

/// In the extensions of a request that a layer has only watched.
#[derive(Clone, Copy)]
pub(crate) struct Shadowed;

/// Beside it, where that layer answers otherwise than handlers do that know of none.
#[derive(Clone)]
pub(crate) struct ShadowedBy(pub(crate) Arc<Answers>);

impl Anonymous {
    pub(crate) fn new(refusal: Option<Box<Refusal>>, answers: Arc<Answers>) -> Self {
        Self { refusal, answers }
    }

    pub(crate) fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }
}

/// Why there is no verified token in these extensions.
pub(crate) fn nobody(extensions: &Extensions) -> ExtractError {
    if let Some(anonymous) = extensions.get::<Anonymous>() {
        let refusal = anonymous.refusal.as_deref().cloned();
        ExtractError::Anonymous(refusal.unwrap_or(Refusal::NoCredentials))
    } else if extensions.get::<Shadowed>().is_some() {
        ExtractError::Shadow
    } else {
        ExtractError::NoLayer
    }
}

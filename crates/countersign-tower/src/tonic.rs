//! `tonic::Status` for what handlers answer, so that `?` does in a service method.

use std::sync::Arc;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

#[cfg(feature = "tokio")]
use crate::deadline::Ended;
use crate::fresh::RevocationRefusal;
use crate::handler::{ExtractError, Forbidden};
use crate::refusal::Refusal;
use crate::response::whole_seconds;

/// The same code, message and `retry-after` that the layer answers gRPC requests with. The refusal itself is the status's
/// [`source`](std::error::Error::source), where only this process can see it.
impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = Self::new(Code::from(i32::from(refusal.grpc_code())), refusal.grpc_message());
        if let Some(retry_after) = refusal.retry_after() {
            status.metadata_mut().insert("retry-after", MetadataValue::from(whole_seconds(retry_after)));
        }
        status.set_source(Arc::new(refusal));
        status
    }
}

/// 7 `PERMISSION_DENIED`, with the scopes that are needed, or 16 `UNAUTHENTICATED` where the caller has to authenticate anew or better.
///
/// ```
/// use countersign_claims::scope;
/// use countersign_tower::{Authenticated, Claims};
/// use tonic::{Request, Response, Status};
///
/// #[derive(serde::Deserialize)]
/// struct MyClaims {
///     sub: String,
/// }
///
/// fn cancel(request: Request<()>) -> Result<Response<String>, Status> {
///     Authenticated::from_extensions(request.extensions())?.require(&scope("orders:write"))?;
///     let claims = Claims::<MyClaims>::from_extensions(request.extensions())?;
///     Ok(Response::new(format!("cancelled by {}", claims.sub)))
/// }
/// # assert_eq!(cancel(Request::new(())).unwrap_err().code(), tonic::Code::Internal);
/// ```
impl From<Forbidden> for Status {
    fn from(forbidden: Forbidden) -> Self {
        forbidden.reported().into()
    }
}

/// 14 `UNAVAILABLE` if it is not known well enough what has been revoked, 16 `UNAUTHENTICATED` if the token is, 13
/// `INTERNAL` if nobody can be asked.
impl From<RevocationRefusal> for Status {
    fn from(not_fresh: RevocationRefusal) -> Self {
        ExtractError::RevocationRefusal(not_fresh).into()
    }
}

/// 16 `UNAUTHENTICATED` if there is no caller or the claims do not fit their type, as [`Forbidden`] if a
/// [`Permit`](crate::handler::Permit) is denied, 13 `INTERNAL` if there is no layer, or only one that watches. Of a
/// permit that is denied, and of a token that is [`RevocationRefusal`], the layer's [observers](crate::Observer) hear, of the
/// others they do not.
impl From<ExtractError> for Status {
    fn from(error: ExtractError) -> Self {
        if let ExtractError::Denied(forbidden) = error {
            return forbidden.into();
        }
        if let ExtractError::RevocationRefusal(not_fresh) = &error {
            not_fresh.report();
        }
        if let Some(refusal) = error.refusal() {
            return refusal.into();
        }
        let mut status = Self::internal(error.to_string());
        status.set_source(Arc::new(error));
        status
    }
}

/// 16 `UNAUTHENTICATED`, or 14 `UNAVAILABLE` where it is not known well enough what has been revoked: what the layer
/// would answer to the same token now.
#[cfg(feature = "tokio")]
impl From<Ended> for Status {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Expired | Ended::Revoked => Self::unauthenticated(ended.reason()),
            Ended::RevocationsStale => Self::unavailable(ended.reason()),
        }
    }
}

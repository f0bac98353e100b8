use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use countersign_claims::{Denied, Permission, Verified};
use http::Extensions;

use crate::handler::{ExtractError, Forbidden, verified};

/// Proof that the caller may do `P`: who holds one need not check, and who has not checked holds none.
///
/// Functions that do what is protected take a `&Permit<P>`, and so cannot be called by a handler that forgot. Under axum it is an
/// extractor (with the feature `axum`); elsewhere it comes [from the request's extensions](Self::from_extensions), or
/// [from a verified token](Self::of).
///
/// ```
/// use countersign_claims::{permission, scope};
/// use countersign_tower::handler::Permit;
///
/// permission! {
///     /// May cancel orders.
///     pub CancelOrders = scope("orders:write");
/// }
///
/// fn cancel(order: u64, permit: &Permit<CancelOrders>) -> String {
///     format!("order {order} cancelled by {}", permit.subject().unwrap_or("somebody"))
/// }
/// ```
///
/// One for something else does not do:
///
/// ```compile_fail,E0308
/// # use countersign_claims::{permission, scope};
/// # use countersign_tower::handler::Permit;
/// # permission! { pub ListOrders = scope("orders:read"); pub CancelOrders = scope("orders:write"); }
/// fn cancel(permit: Permit<CancelOrders>) {}
///
/// fn list(permit: Permit<ListOrders>) {
///     cancel(permit);
/// }
/// ```
///
/// There is no other way to get one:
///
/// ```compile_fail,E0451
/// # use countersign_claims::{permission, scope, Verified};
/// # use countersign_tower::handler::Permit;
/// # permission! { pub CancelOrders = scope("orders:write"); }
/// fn forge(verified: Verified) -> Permit<CancelOrders> {
///     Permit { verified, of: std::marker::PhantomData }
/// }
/// ```
pub struct Permit<P: Permission> {
    verified: Verified,
    of: PhantomData<fn() -> P>,
}

impl<P: Permission> Permit<P> {
    /// Checks that `verified` satisfies what `P` [requires](Permission::requirement).
    ///
    /// In a handler, [`Authenticated::permit`](crate::handler::Authenticated::permit) is the same check, with an error that answers as the layer
    /// does and that its observers hear of.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn of(verified: &Verified) -> Result<Self, Denied> {
        P::requirement().check(verified)?;
        Ok(Self { verified: verified.clone(), of: PhantomData })
    }

    /// Checks the caller of the request that these extensions are of.
    ///
    /// # Errors
    /// [`ExtractError`]: there is no caller, or the caller may not.
    pub fn from_extensions(extensions: &Extensions) -> Result<Self, ExtractError> {
        let verified = verified(extensions)?;
        Self::of(verified).map_err(|denied| ExtractError::Denied(Forbidden::new(denied, verified)))
    }

    /// The verified token.
    #[must_use]
    pub fn verified(&self) -> &Verified {
        &self.verified
    }
}

impl<P: Permission> Deref for Permit<P> {
    type Target = Verified;

    fn deref(&self) -> &Verified {
        &self.verified
    }
}

impl<P: Permission> Clone for Permit<P> {
    fn clone(&self) -> Self {
        Self { verified: self.verified.clone(), of: PhantomData }
    }
}

impl<P: Permission> fmt::Debug for Permit<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.verified).finish()
    }
}

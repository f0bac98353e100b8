use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use crate::requirement::{Denied, Requirement};
use crate::verified::Verified;

/// A requirement with a name that is a type, so that a function can demand proof of it ([`Permit`]). Made by [`permission!`](crate::permission).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a permission",
    label = "not a permission",
    note = "declare it: `countersign::permission! {{ pub {Self} = scope(\"…\"); }}`"
)]
pub trait Permission: Send + Sync + 'static {
    /// What it demands; the same every time.
    fn requirement() -> &'static Requirement;
}

/// Declares [`Permission`]s: types without values, each with a requirement, which is put together when it is first asked for.
///
/// A requirement that panics while it is put together (a name that is no scope) does so then: ask for it when the service
/// starts, or demand it in a layer.
///
/// ```
/// use countersign_claims::{Permission, Permit, claim, permission, scope};
///
/// permission! {
///     /// May change orders.
///     pub WriteOrders = scope("orders:write");
///     /// May see what others ordered.
///     pub(crate) Audit = scope("orders:read").and(claim("department").equals("audit"));
/// }
///
/// fn cancel(permit: &Permit<WriteOrders>, order: u64) -> String {
///     format!("{order} cancelled by {}", permit.subject().unwrap_or("somebody"))
/// }
/// # assert_eq!(WriteOrders::requirement().scopes_to_ask_for(), "orders:write");
/// # assert_eq!(Audit::requirement().scopes_to_ask_for(), "orders:read");
/// ```
#[macro_export]
macro_rules! permission {
    ($($(#[$meta:meta])* $vis:vis $name:ident = $requirement:expr;)+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug)]
            $vis enum $name {}

            impl $crate::Permission for $name {
                fn requirement() -> &'static $crate::Requirement {
                    static REQUIREMENT: ::std::sync::LazyLock<$crate::Requirement> =
                        ::std::sync::LazyLock::new(|| $requirement);
                    &REQUIREMENT
                }
            }
        )+
    };
}

/// A token that satisfies the requirement of `P`: whoever has one has checked it. It is the [`Verified`] token as well.
///
/// [`Permit::of`] is the only way to one:
///
/// ```compile_fail
/// use countersign_claims::{Permit, Verified, permission, scope};
///
/// permission! { WriteOrders = scope("orders:write"); }
///
/// fn forged(verified: Verified) -> Permit<WriteOrders> {
///     Permit { verified, permission: std::marker::PhantomData }
/// }
/// ```
///
/// And one for something else does not do:
///
/// ```compile_fail,E0308
/// use countersign_claims::{Permit, permission, scope};
///
/// permission! {
///     ReadOrders = scope("orders:read");
///     WriteOrders = scope("orders:write");
/// }
///
/// fn cancel(permit: Permit<WriteOrders>) {}
///
/// fn list(permit: Permit<ReadOrders>) {
///     cancel(permit);
/// }
/// ```
pub struct Permit<P: Permission> {
    verified: Verified,
    /// Of a function, because no value of `P` is in here.
    permission: PhantomData<fn() -> P>,
}

impl<P: Permission> Permit<P> {
    /// Checks the requirement of `P`.
    ///
    /// # Errors
    /// [`Denied`], as [`Requirement::check`] says.
    pub fn of(verified: &Verified) -> Result<Self, Denied> {
        P::requirement().check(verified)?;
        Ok(Self { verified: verified.clone(), permission: PhantomData })
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
        Self { verified: self.verified.clone(), permission: PhantomData }
    }
}

impl<P: Permission> fmt::Debug for Permit<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("requirement", P::requirement()).field("verified", &self.verified).finish()
    }
}

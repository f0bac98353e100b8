use crate::requirement::Requirement;

/// A requirement with a name that is a type, so that a function can demand proof of it (`Permit` of countersign-tower, which the
/// facade has too). Made by [`permission!`](crate::permission).
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
/// use countersign_claims::{Permission, claim, permission, scope};
///
/// permission! {
///     /// May change orders.
///     pub WriteOrders = scope("orders:write");
///     /// May see what others ordered.
///     pub(crate) Audit = scope("orders:read").and(claim("department").equals("audit"));
/// }
///
/// assert_eq!(WriteOrders::requirement().scopes_to_ask_for(), "orders:write");
/// assert_eq!(Audit::requirement().scopes_to_ask_for(), "orders:read");
/// ```
#[macro_export]
macro_rules! permission {
    ($($(#[$meta:meta])* $vis:vis $name:ident = $requirement:expr);+ $(;)?) => {
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

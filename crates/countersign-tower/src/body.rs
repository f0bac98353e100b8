/// A response body that can be empty, as that of a refusal is. Implemented for everything that has a
/// [`Default`]: there is nothing to implement.
///
/// The bodies of axum and tonic have it, and so have `Full`, `Empty`, `BoxBody` and `UnsyncBoxBody` of `http-body-util`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the body of a refusal, which is empty",
    label = "a response body without `Default`",
    note = "map the response's body into a type that has a `Default`, such as `http_body_util::combinators::UnsyncBoxBody` \
            or `axum::body::Body`: `service.map_response(|response| response.map(BodyExt::boxed_unsync))`"
)]
pub trait EmptyBody: Default {}

// Or the compiler would name `Default`, and not what is said above.
#[diagnostic::do_not_recommend]
impl<B: Default> EmptyBody for B {}

//! The code of `MIGRATING.md` and `INTROSPECTION.md`: what is there before, and what is there after. `tests/all` runs both and holds
//! the pages to it.

pub mod axum_jwt_auth;
pub mod hand_written;
pub mod introspection;
pub mod jwt_authorizer;
pub mod tower_oauth2_resource_server;

//! The code of `MIGRATING.md`: for each origin what is there before, and what is there after. `tests/page.rs` runs both and holds
//! the page to it.

pub mod axum_jwt_auth;
pub mod hand_written;
pub mod introspection;
pub mod jwt_authorizer;
pub mod tower_oauth2_resource_server;

//! What `JwtAuth` adds to a service and to its future when the keys come from a URL. What is in these numbers is told in
//! the test of the same name of `countersign-tower`.
#![cfg(target_pointer_width = "64")]

use std::mem::size_of;

use axum::body::Body;
use axum::routing::Route;
use countersign::middleware::ResponseFuture;
use countersign::token::KeySource;
use countersign::{Keys, RequireJwt};
use http::Request;
use tower::Service;

#[test]
fn a_protected_axum_route_and_its_future_do_not_grow() {
    assert_eq!(size_of::<Route>(), 16, "axum's own");
    assert_eq!(size_of::<RequireJwt<Route, Keys>>(), 16 + 8, "and a pointer to the settings");

    assert_eq!(size_of::<<Route as Service<Request<Body>>>::Future>(), 320, "axum's own");
    assert_eq!(size_of::<Request<Body>>(), 240, "axum's own");
    // A receiver and a timer, which is most of it.
    assert_eq!(size_of::<<Keys as KeySource>::Waiting>(), 144);
    // The largest state is a wait: the request, the clone of the route, the settings, and what is waited for.
    assert_eq!(size_of::<ResponseFuture<Route, Keys, Body>>(), 240 + 16 + 8 + 144);
}

//! A node that mints, serves its set, and protects an API with it.

use std::convert::Infallible;
use std::time::Duration;

use countersign_claims::Policy;
use countersign_issuer::step::Compromised;
use countersign_issuer::{Mint, MintError};
use countersign_tower::RequireJwtLayer;
use countersign_verifier::Verifier;
use http::header::{AUTHORIZATION, ETAG};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::support::{ISSUER, World, config};

fn mint() -> Mint {
    Mint::new(Duration::from_secs(3_600)).subject("ada").client_id("web").audience("orders")
}

#[tokio::test(start_paused = true)]
async fn what_a_ring_mints_is_let_in_by_it_through_rotations_and_not_after_a_compromise() {
    let world = World::new();
    let ring = world.settled(config()).await;
    let minter = ring.minter();
    let clock = world.clock;
    let policy = Policy::new().issuer(ISSUER).audience("orders").access_token_profile();
    let layer = RequireJwtLayer::new(Verifier::new(ring.keys(), policy)).clock(move || clock.wall());
    let api = layer.layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(()))));
    let status = async |token: &str| {
        let request = Request::builder().header(AUTHORIZATION, format!("Bearer {token}")).body(()).unwrap();
        api.clone().oneshot(request).await.unwrap().status().as_u16()
    };

    let first = minter.mint("es256", &mint()).unwrap();
    assert_eq!(status(&first.token).await, 200);
    ring.rotate(["es256"]).await.unwrap();
    let second = minter.mint("es256", &mint()).unwrap();
    assert_ne!(second.kid, first.kid);
    assert_eq!((status(&first.token).await, status(&second.token).await), (200, 200));
    // Good to its last second, although its key has not signed for an hour.
    sleep(Duration::from_secs(3_590)).await;
    assert_eq!(status(&first.token).await, 200);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(status(&first.token).await, 401);

    let third = minter.mint("es256", &mint()).unwrap();
    assert_eq!(status(&third.token).await, 200);
    ring.compromise(Compromised::Key(third.kid.clone()), false).await.unwrap();
    assert_eq!(status(&third.token).await, 401);
    let fourth = minter.mint("es256", &mint()).unwrap();
    assert_eq!(status(&fourth.token).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_node_serves_what_is_published_and_says_so_until_it_can() {
    let world = World::new();
    let ring = world.start(config()).await;
    let get = async || {
        let response = ring.jwks().oneshot(Request::builder().body(()).unwrap()).await.unwrap();
        let etag = response.headers().get(ETAG).cloned();
        (response.status().as_u16(), etag, response.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(get().await.0, 503);
    assert!(matches!(ring.minter().mint("es256", &mint()), Err(MintError::NotSigning(_))));
    ring.ready_within(Duration::from_secs(60)).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    let (status, etag, body) = get().await;
    assert_eq!((status, &*body), (200, &*world.jwks()));
    // A rotation by itself changes no set; the next standby does.
    sleep(Duration::from_secs(3 * 3_600)).await;
    let (status, later, body) = get().await;
    assert_eq!((status, &*body), (200, &*world.jwks()));
    assert!(later.is_some() && later != etag);
}

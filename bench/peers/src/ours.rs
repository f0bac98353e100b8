//! This project's layer, and the handler without it.

use std::time::Duration;

use axum::body::Body;
use countersign::handler::Claims;
use countersign::{Algorithm, JwtAuth, KeySet, Keys, Remote, RequireJwt, Verified};
use countersign_bench::Failure;
use countersign_bench::request::{AUDIENCE, ISSUER};
use http::{Extensions, StatusCode};
use tower_layer::Layer as _;

use crate::call::{Calls, Contend, Inner, MyClaims, Token};
use crate::contenders::{Made, Setup};

/// As the README has it, with the claims read into a type by the layer.
pub fn default_configuration(setup: &Setup<'_>) -> Made {
    let service =
        auth(&keys(setup)?, setup.issuer.algorithm).with_claims::<MyClaims>().layer(Inner::looking(has_claims));
    Ok(Box::new(Calls::<RequireJwt<Inner<Body>, Keys>>::new(service)?))
}

/// The same at the first sight of each token: it is made anew before each of its rounds, and in a round no token comes
/// twice. As in a process that runs, the keys are there and other tokens have come before, each twice, so that whatever
/// is to be remembered of them is.
pub fn first_sight(setup: &Setup<'_>) -> Made {
    let keys = keys(setup)?;
    let algorithm = setup.issuer.algorithm;
    let make =
        move || -> Service { auth(&keys, algorithm).with_claims::<MyClaims>().layer(Inner::looking(has_claims)) };
    Ok(Box::new(Anew { calls: Calls::new(make())?, make, others: setup.issuer.tokens(OTHERS, FIRST_OF_OTHERS)? }))
}

/// How many tokens [`first_sight`] has seen before.
const OTHERS: usize = 500;

/// Beyond the numbers of those that are measured.
const FIRST_OF_OTHERS: usize = 1_000_000;

/// The layer verifies, and the handler reads the claims that it wants.
pub fn read_by_the_handler(setup: &Setup<'_>) -> Made {
    let service: Service = auth(&keys(setup)?, setup.issuer.algorithm).layer(Inner::looking(|extensions| {
        Claims::<MyClaims>::from_extensions(extensions).is_ok_and(|claims| !claims.sub.is_empty())
    }));
    Ok(Box::new(Calls::new(service)?))
}

/// What a request costs without any of them.
pub fn handler_alone(_: &Setup<'_>) -> Made {
    Ok(Box::new(Calls::new(Inner::<Body>::looking(|_| true))?))
}

type Service = RequireJwt<Inner<Body>, Keys>;

struct Anew<F> {
    calls: Calls<Service>,
    make: F,
    others: Vec<Token>,
}

impl<F: Fn() -> Service> Contend for Anew<F> {
    fn once(&mut self, token: &Token) -> StatusCode {
        self.calls.once(token)
    }

    fn before_round(&mut self) {
        self.calls.replace((self.make)());
        for token in self.others.iter().chain(&self.others) {
            self.calls.once(token);
        }
    }
}

fn auth(keys: &Keys, algorithm: Algorithm) -> JwtAuth {
    let auth = JwtAuth::from_keys(keys.clone()).issuer(ISSUER).audience(AUDIENCE);
    // HMAC is there for those who ask for it.
    if algorithm.is_symmetric() { auth.algorithms(algorithm) } else { auth }
}

/// Those of the JWKS URL; secrets are not taken from one.
fn keys(setup: &Setup<'_>) -> Result<Keys, Failure> {
    let issuer = setup.issuer;
    if issuer.algorithm.is_symmetric() {
        return Ok(Keys::fixed(KeySet::new([issuer.signer.verifying_key()?, issuer.next.verifying_key()?])));
    }
    let keys = Keys::remote(Remote::new(&setup.provider.jwks_url)?.dangerous_allow_http());
    setup.runtime.block_on(keys.handle().ready_within(Duration::from_secs(10)))?;
    Ok(keys)
}

fn has_claims(extensions: &Extensions) -> bool {
    let verified = extensions.get::<Verified>();
    verified.and_then(|verified| verified.claims::<MyClaims>().ok()).is_some_and(|claims| !claims.sub.is_empty())
}

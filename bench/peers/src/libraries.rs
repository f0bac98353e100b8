//! Libraries that decode tokens, called as plain functions; and the service that one writes around such a library.

use std::collections::HashSet;

use countersign::Algorithm;
use countersign_bench::request::{AUDIENCE, ISSUER};
use jwt_simple::prelude::{
    ECDSAP256PublicKeyLike as _, ES256PublicKey, Ed25519PublicKey, EdDSAPublicKeyLike as _, HS256Key, JWTClaims,
    MACLike as _, RS256PublicKey, RSAPublicKeyLike as _, VerificationOptions,
};
use serde::Deserialize;

use crate::bare::status;
use crate::call::Token;
use crate::contenders::{Made, Setup};

/// The same for each version of jsonwebtoken.
macro_rules! jsonwebtoken {
    ($module:ident, $version:ident) => {
        pub mod $module {
            use std::hint::black_box;

            use countersign_bench::Failure;
            use countersign_bench::request::{AUDIENCE, ISSUER};
            use $version::{DecodingKey, Validation, decode as decoded, jwk::Jwk};

            use crate::bare::status;
            use crate::call::{MyClaims, Token};
            use crate::contenders::{Made, Setup};

            /// Key and rules, made beforehand.
            pub fn prepared(setup: &Setup<'_>) -> Result<(DecodingKey, Validation), Failure> {
                let key = DecodingKey::from_jwk(&serde_json::from_value::<Jwk>(setup.issuer.jwk()?)?)?;
                let mut validation = Validation::new(setup.issuer.algorithm.name().parse()?);
                validation.validate_nbf = true;
                validation.set_issuer(&[ISSUER]);
                validation.set_audience(&[AUDIENCE]);
                validation.set_required_spec_claims(&["exp", "iss", "aud"]);
                Ok((key, validation))
            }

            pub fn decode(setup: &Setup<'_>) -> Made {
                let (key, validation) = prepared(setup)?;
                Ok(Box::new(move |token: &Token| {
                    status(black_box(decoded::<MyClaims>(&token.text, &key, &validation)).is_ok())
                }))
            }
        }
    };
    ($module:ident, $version:ident, by hand) => {
        pub mod $module {
            jsonwebtoken!(decoding, $version);

            use std::convert::Infallible;
            use std::future::{Ready, ready};
            use std::sync::Arc;
            use std::task::{Context, Poll};

            use axum::body::Body;
            use futures_util::future::Either;
            use http::{Request, Response, StatusCode, header};
            use tower_service::Service;

            pub use decoding::decode;

            use crate::call::{Calls, Inner, MyClaims};
            use crate::contenders::{Made, Setup};

            /// With one static key, and no look at `kid`.
            pub fn by_hand(setup: &Setup<'_>) -> Made {
                let rules = Arc::new(decoding::prepared(setup)?);
                let inner: Inner<Body> = Inner::looking(|extensions| {
                    extensions.get::<MyClaims>().is_some_and(|claims| !claims.sub.is_empty())
                });
                Ok(Box::new(Calls::new(ByHand { inner, rules })?))
            }

            #[derive(Clone)]
            struct ByHand<S> {
                inner: S,
                rules: Arc<($version::DecodingKey, $version::Validation)>,
            }

            impl<S> Service<Request<Body>> for ByHand<S>
            where
                S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
            {
                type Response = Response<Body>;
                type Error = Infallible;
                type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

                fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                    self.inner.poll_ready(context)
                }

                fn call(&mut self, mut request: Request<Body>) -> Self::Future {
                    let header = request.headers().get(header::AUTHORIZATION);
                    let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
                    let (key, validation) = &*self.rules;
                    match token.map(|token| $version::decode::<MyClaims>(token, key, validation)) {
                        Some(Ok(decoded)) => {
                            request.extensions_mut().insert(decoded.claims);
                            Either::Left(self.inner.call(request))
                        }
                        _ => {
                            let mut response = Response::new(Body::empty());
                            *response.status_mut() = StatusCode::UNAUTHORIZED;
                            Either::Right(ready(Ok(response)))
                        }
                    }
                }
            }
        }
    };
}

jsonwebtoken!(v9, jsonwebtoken_9);
jsonwebtoken!(v11, jsonwebtoken_11, by hand);
jsonwebtoken!(v12, jsonwebtoken_12, by hand);

/// jwt-simple has the registered claims in a type of its own.
#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the work")]
struct CustomClaims {
    azp: String,
    roles: Vec<String>,
}

/// jwt-simple, with the pure Rust back end: by default it links BoringSSL, whose symbols are those of the OpenSSL that two
/// of the peers link.
pub fn jwt_simple(setup: &Setup<'_>) -> Made {
    let issuer = setup.issuer;
    let options = || VerificationOptions {
        allowed_issuers: Some(HashSet::from([ISSUER.to_owned()])),
        allowed_audiences: Some(HashSet::from([AUDIENCE.to_owned()])),
        ..VerificationOptions::default()
    };
    type Verified = Result<JWTClaims<CustomClaims>, jwt_simple::Error>;
    let verify: Box<dyn Fn(&str) -> Verified> = match issuer.algorithm {
        Algorithm::Rs256 => {
            let key = RS256PublicKey::from_components(&issuer.member("n")?, &issuer.member("e")?)?;
            Box::new(move |token| key.verify_token(token, Some(options())))
        }
        Algorithm::Es256 => {
            let key = ES256PublicKey::from_bytes(&[vec![4], issuer.member("x")?, issuer.member("y")?].concat())?;
            Box::new(move |token| key.verify_token(token, Some(options())))
        }
        Algorithm::EdDsa => {
            let key = Ed25519PublicKey::from_bytes(&issuer.member("x")?)?;
            Box::new(move |token| key.verify_token(token, Some(options())))
        }
        Algorithm::Hs256 => {
            let key = HS256Key::from_bytes(issuer.secret());
            Box::new(move |token| key.verify_token(token, Some(options())))
        }
        algorithm => return Err(format!("no row for {algorithm}").into()),
    };
    Ok(Box::new(move |token: &Token| status(std::hint::black_box(verify(&token.text)).is_ok())))
}

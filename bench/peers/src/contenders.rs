//! Who is measured, in the order of the tables. A new row is a line here and a function in the module that it names.

use countersign_bench::Failure;
use tokio::runtime::Runtime;

use crate::back_end::{BackEnd, With};
use crate::call::Contend;
use crate::issuer::Issuer;
use crate::provider::Provider;
use crate::versions::of as version;
use crate::{bare, extractors, libraries, middleware, ours};

/// What a contender is made from.
pub struct Setup<'a> {
    pub issuer: &'a Issuer,
    pub provider: &'a Provider,
    pub runtime: &'a Runtime,
}

/// A contender, or why there is none.
pub type Made = Result<Box<dyn Contend>, Failure>;

/// What sort of row it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The bare signature check: a plain function call.
    Raw,
    /// Decoding a token: a plain function call.
    Library,
    /// The handler, with nothing in front of it.
    Open,
    /// A `tower::Service` call.
    Service,
    /// The same, of this project.
    Ours,
    /// The same, which begins each of its rounds as a process does that has seen no token; it has no place among
    /// tokens that have been seen.
    OursAnew,
}

/// A row that is to be.
pub struct Entrant {
    pub name: String,
    pub kind: Kind,
    pub back_end: BackEnd,
    make: fn(&Setup<'_>) -> Made,
}

impl Entrant {
    /// Makes it, with its back end switched on.
    pub fn enter(&self, setup: &Setup<'_>) -> Result<With, Failure> {
        self.back_end.switch_on();
        Ok(With { back_end: self.back_end, contender: (self.make)(setup)? })
    }
}

/// All of them. The first is what the others are compared with.
pub fn all() -> Result<Vec<Entrant>, Failure> {
    use BackEnd::{AwsLc, None, Ring, RustCrypto};

    let one = |name: String, kind, back_end, make| Entrant { name, kind, back_end, make };
    let raw = |name: &str, back_end, make| one(name.to_owned(), Kind::Raw, back_end, make);
    let library = |name: &str, major, back_end, make| -> Result<Entrant, Failure> {
        Ok(one(format!("{name} {}", version(name, major)?), Kind::Library, back_end, make))
    };
    let service = |name: &str, back_end, make| -> Result<Entrant, Failure> {
        Ok(one(format!("{name} {}", version(name, "")?), Kind::Service, back_end, make))
    };
    let by_hand = |major, make| -> Result<Entrant, Failure> {
        let name = format!("a tower service by hand, jsonwebtoken {}", version("jsonwebtoken", major)?);
        Ok(one(name, Kind::Service, AwsLc, make))
    };
    Ok(vec![
        raw("bare signature check, prepared key", AwsLc, bare::prepared),
        raw("bare signature check, key parsed each time", AwsLc, bare::unprepared),
        raw("bare signature check, ring", Ring, bare::ring),
        one("countersign".to_owned(), Kind::Ours, AwsLc, ours::default_configuration),
        one("countersign, first sight".to_owned(), Kind::OursAnew, AwsLc, ours::first_sight),
        one("countersign, claims read by the handler".to_owned(), Kind::Ours, AwsLc, ours::read_by_the_handler),
        by_hand("12", libraries::v12::by_hand)?,
        by_hand("11", libraries::v11::by_hand)?,
        service("tower-jwt", Ring, middleware::tower_jwt)?,
        service("tower-oauth2-resource-server", AwsLc, middleware::tower_oauth2_resource_server)?,
        service("tower-oauth2-resource-server", RustCrypto, middleware::tower_oauth2_resource_server)?,
        service("jwt-authorizer", Ring, middleware::jwt_authorizer)?,
        service("axum-jwt-oidc", Ring, middleware::axum_jwt_oidc)?,
        service("axum-jose", AwsLc, middleware::axum_jose)?,
        service("axum-keycloak-auth", Ring, middleware::axum_keycloak_auth)?,
        service("oauth-resource-server", Ring, middleware::oauth_resource_server)?,
        service("axum-jwks", Ring, extractors::axum_jwks)?,
        service("axum-jwt-auth", RustCrypto, extractors::axum_jwt_auth)?,
        library("jsonwebtoken", "12", AwsLc, libraries::v12::decode)?,
        library("jsonwebtoken", "12", RustCrypto, libraries::v12::decode)?,
        library("jsonwebtoken", "11", AwsLc, libraries::v11::decode)?,
        library("jsonwebtoken", "11", RustCrypto, libraries::v11::decode)?,
        library("jsonwebtoken", "9", Ring, libraries::v9::decode)?,
        library("jwt-simple", "", RustCrypto, libraries::jwt_simple)?,
        one("(the handler alone)".to_owned(), Kind::Open, None, ours::handler_alone),
        one("(the handler alone, as axum's)".to_owned(), Kind::Open, None, extractors::handler_alone),
    ])
}

//! Every kind of refusal, with what is said to the caller: the same on every stack.

use std::future::Ready;
use std::time::Duration;

use countersign::token::{Answer, Ask, KeySource, Miss, Unready};
use countersign::{Algorithm, KeySet, Policy, RequireJwtLayer, Verifier, scope};
use countersign_testkit::{TestKey, Token};

/// The audience of all tokens here.
pub const AUDIENCE: &str = "orders";

/// Keys that do not change, and one answer for everybody who looks for others.
#[derive(Debug)]
pub struct Fixed {
    keys: Option<KeySet>,
    answer: Answer,
}

impl KeySource for Fixed {
    type Snapshot<'a> = &'a KeySet;
    type Waiting = Ready<Answer>;

    fn snapshot(&self) -> Option<&KeySet> {
        self.keys.as_ref()
    }

    fn ask(&self, _: Miss<'_>) -> Ask<Self::Waiting> {
        Ask::Answered(self.answer)
    }
}

/// A refusal, how to get it, and what it says.
#[derive(Debug)]
pub struct RefusalCase {
    /// [`Refusal::code`](countersign::Refusal::code).
    pub name: &'static str,
    /// Refuses a request with the `authorization` below.
    pub layer: RequireJwtLayer<Fixed>,
    /// One `Authorization` header for each.
    pub authorization: Vec<String>,
    /// Over HTTP.
    pub status: u16,
    /// Over HTTP; whatever the server itself adds comes on top.
    pub headers: &'static [(&'static str, &'static str)],
    /// Over gRPC.
    pub grpc_status: i32,
    /// Over gRPC, decoded.
    pub grpc_message: &'static str,
    /// Over both, in seconds.
    pub retry_after: Option<&'static str>,
}

/// A layer for [`AUDIENCE`], with the key of [`token`].
#[must_use]
pub fn layer() -> RequireJwtLayer<Fixed> {
    layer_over(Some(KeySet::new([key().verifying_key()])), Answer::Absent)
}

/// A good token, without any scope.
pub fn token() -> Token {
    Token::new(&key()).audience(AUDIENCE).without("scope")
}

/// The value of `Authorization` that shows this token.
#[must_use]
pub fn bearer(token: &Token) -> String {
    format!("Bearer {}", token.sign())
}

fn key() -> TestKey {
    TestKey::nth(Algorithm::Es256, 0)
}

fn layer_over(keys: Option<KeySet>, answer: Answer) -> RequireJwtLayer<Fixed> {
    RequireJwtLayer::new(Verifier::new(Fixed { keys, answer }, Policy::new().audience(AUDIENCE))).realm("orders")
}

/// One of each.
#[must_use]
pub fn refusal_cases() -> Vec<RefusalCase> {
    let good = bearer(&token());
    let not_yet = Answer::NotYet { retry_after: Duration::from_millis(1500) };
    let unavailable = Answer::Unavailable { reason: Unready::NeverFetched, retry_after: Duration::from_secs(5) };
    let others = KeySet::new([TestKey::nth(Algorithm::Es256, 1).verifying_key()]);
    let base = RefusalCase {
        name: "no_credentials",
        layer: layer(),
        authorization: Vec::new(),
        status: 401,
        headers: &[("www-authenticate", r#"Bearer realm="orders""#)],
        grpc_status: 16,
        grpc_message: "a Bearer token is needed",
        retry_after: None,
    };
    vec![
        RefusalCase {
            name: "many_credentials",
            layer: layer(),
            authorization: vec![good.clone(), good.clone()],
            status: 400,
            headers: &[(
                "www-authenticate",
                "Bearer realm=\"orders\", error=\"invalid_request\", \
                 error_description=\"there is more than one set of credentials\"",
            )],
            grpc_message: "there is more than one set of credentials",
            ..base
        },
        RefusalCase {
            name: "malformed_credentials",
            layer: layer(),
            authorization: vec![format!("{good}, {good}")],
            status: 400,
            headers: &[(
                "www-authenticate",
                "Bearer realm=\"orders\", error=\"invalid_request\", \
                 error_description=\"the credentials are malformed\"",
            )],
            grpc_message: "the credentials are malformed",
            ..base
        },
        RefusalCase {
            name: "wrong_audience",
            layer: layer(),
            authorization: vec![bearer(&token().audience("billing"))],
            headers: &[(
                "www-authenticate",
                "Bearer realm=\"orders\", error=\"invalid_token\", error_description=\"the token is not valid\"",
            )],
            grpc_message: "the token is not valid",
            ..base
        },
        RefusalCase {
            name: "unknown_issuer",
            layer: layer_over(None, Answer::UnknownIssuer),
            authorization: vec![good.clone()],
            headers: &[(
                "www-authenticate",
                "Bearer realm=\"orders\", error=\"invalid_token\", error_description=\"the token is not valid\"",
            )],
            grpc_message: "the token is not valid",
            ..base
        },
        RefusalCase {
            name: "expired",
            layer: layer(),
            authorization: vec![bearer(&token().expired(Duration::from_secs(3600)))],
            headers: &[(
                "www-authenticate",
                "Bearer realm=\"orders\", error=\"invalid_token\", error_description=\"the token has expired\"",
            )],
            grpc_message: "the token has expired",
            ..base
        },
        RefusalCase {
            name: "insufficient_scope",
            layer: layer().require(scope("orders:write").and(scope("50%"))),
            authorization: vec![good.clone()],
            status: 403,
            headers: &[(
                "www-authenticate",
                "Bearer realm=\"orders\", error=\"insufficient_scope\", \
                 error_description=\"the token does not grant the scope needed\", scope=\"orders:write 50%\"",
            )],
            grpc_status: 7,
            grpc_message: "the token does not grant the scope needed: orders:write 50%",
            ..base
        },
        RefusalCase {
            name: "key_not_checked_yet",
            layer: layer_over(Some(others), not_yet),
            authorization: vec![good.clone()],
            status: 429,
            headers: &[("retry-after", "2")],
            grpc_status: 14,
            grpc_message: "the token could not be checked yet",
            retry_after: Some("2"),
        },
        RefusalCase {
            name: "keys_never_fetched",
            layer: layer_over(None, unavailable),
            authorization: vec![good],
            status: 503,
            headers: &[("retry-after", "5")],
            grpc_status: 14,
            grpc_message: "tokens cannot be checked at present",
            retry_after: Some("5"),
        },
        base,
    ]
}

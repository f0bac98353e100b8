//! The rows of the first table.

use std::time::Duration;

use countersign::claims::revocation::{RevocationCheck, Revoked, Verdict};
use countersign::token::{Answer, Unready};
use countersign::{
    Policy, RefusalLimit, Refused, RequireJwtLayer, TokenPlace, Verifier, acr, authenticated_within, claim, scope,
};

use super::{AUDIENCE, Fixed, Handler, Known, RefusalCase, bearer, case, layer, layer_over, other_keys, token};

/// Where the metadata of the resource are.
const METADATA: &str = "https://orders.example/.well-known/oauth-protected-resource";

/// Says to everybody who is refused that it is too much.
struct Always;

impl RefusalLimit for Always {
    fn retry_after(&self, _: &Refused<'_>) -> Option<Duration> {
        Some(Duration::from_secs(20))
    }
}

pub(super) fn cases() -> Vec<RefusalCase> {
    let of_all = [without_a_token(), with_a_bad_token(), without_the_right(), revoked(), in_the_handler()];
    of_all.into_iter().flatten().collect()
}

/// The name as the cases have it; of none, that one.
pub(super) fn named(name: &str) -> &'static str {
    cases().into_iter().map(|case| case.name).find(|known| *known == name).unwrap_or("no such case")
}

fn without_a_token() -> Vec<RefusalCase> {
    let good = bearer(&token());
    let raw = token().sign();
    let places = [TokenPlace::bearer(), TokenPlace::query("access_token")];
    let unnamed = Verifier::new(Fixed { keys: None, answer: Answer::Absent }, Policy::new().audience(AUDIENCE));
    vec![
        case("has no token", layer(), vec![]),
        case("has no token, and scopes are needed", with_scopes(), vec![]),
        case("has no token, and no realm is configured", RequireJwtLayer::new(unnamed), vec![]),
        case("has no token, and there is resource metadata", with_scopes().resource_metadata(METADATA), vec![]),
        case("has other credentials", layer(), vec!["Basic YTpi".into()]),
        RefusalCase {
            query: format!("?access_token={raw}"),
            ..case("has a token in the query, where none may be", layer(), vec![])
        },
        case("has malformed credentials", layer(), vec![format!("{good}, {good}")]),
        case("has two tokens", layer(), vec![good.clone(), good.clone()]),
        RefusalCase {
            query: format!("?access_token={raw}"),
            ..case("has a token in each of two places", layer().token_from(places), vec![good])
        },
    ]
}

fn with_a_bad_token() -> Vec<RefusalCase> {
    let good = bearer(&token());
    let bad = bearer(&token().audience("billing"));
    let not_yet = Answer::NotYet { retry_after: Duration::from_millis(1500) };
    let unavailable = Answer::Unavailable { reason: Unready::NeverFetched, retry_after: Duration::from_secs(5) };
    vec![
        case("has a bad token", layer(), vec![bad.clone()]),
        case(
            "has a bad token, scopes are needed, and there is resource metadata",
            with_scopes().resource_metadata(METADATA),
            vec![bad.clone()],
        ),
        case("has an expired token", layer(), vec![bearer(&token().expired(Duration::from_secs(3600)))]),
        case("has a token whose key could not be looked for", layer_over(other_keys(), not_yet), vec![good.clone()]),
        case("comes while there are no keys", layer_over(None, unavailable), vec![good]),
        case("is refused once too often", layer().limit_refusals(Always), vec![bad]),
    ]
}

fn without_the_right() -> Vec<RefusalCase> {
    let writes = || scope("orders:write").and(scope("50%"));
    let reader = || vec![bearer(&token().scope("orders:read"))];
    let strong = || acr(["hardware", "mfa"]).and(authenticated_within(Duration::from_secs(300)));
    let staff = || claim("/roles").contains("staff");
    vec![
        case("lacks scopes", layer().require(writes()), vec![bearer(&token())]),
        case("lacks one scope of several", layer().require(scope("orders:read").and(writes())), reader()),
        case("lacks a scope, and there is resource metadata", with_scopes().resource_metadata(METADATA), reader()),
        case("lacks a role", layer().require(staff()), reader()),
        case("lacks a role and a scope", layer().require(staff().and(scope("orders:write"))), reader()),
        case("is of a weak authentication", layer().require(acr(["hardware", "mfa"])), reader()),
        case(
            "is of an old authentication",
            layer().require(authenticated_within(Duration::from_secs(300))),
            vec![bearer(&token().claim("auth_time", 1_000_000_000))],
        ),
        case(
            "is of a weak authentication, lacks a scope, and there is resource metadata",
            with_scopes().require(strong()).resource_metadata(METADATA),
            reader(),
        ),
        RefusalCase {
            handler: Handler::Route(scope("orders:write")),
            ..case("lacks a scope that its route needs", layer().require(scope("orders:read")), reader())
        },
        RefusalCase {
            handler: Handler::Asks(scope("orders:write")),
            ..case("lacks a scope that its handler asks for", layer().require(scope("orders:read")), reader())
        },
        RefusalCase {
            handler: Handler::Permit,
            ..case("lacks a scope that its handler's permit needs", layer().require(scope("orders:read")), reader())
        },
        RefusalCase {
            handler: Handler::Asks(strong()),
            ..case("is of a weak authentication, says its handler", layer().resource_metadata(METADATA), reader())
        },
    ]
}

fn revoked() -> Vec<RefusalCase> {
    let good = || vec![bearer(&token())];
    let second = Duration::from_secs(1);
    let revoked = Verdict::Revoked(Revoked::Token);
    let stale = RevocationCheck::by(Known::always(Verdict::Stale { age: None })).refuse_stale();
    let of_a_minute = || layer().revocation(Known::aged(second * 60));
    vec![
        case("has a revoked token", layer().revocation(Known::always(revoked)), good()),
        case("comes while it is not known what is revoked", layer().revocation(stale), good()),
        RefusalCase {
            handler: Handler::Fresh(second),
            ..case(
                "has a token that was revoked before it came to its route",
                layer().revocation(Known::later(revoked)),
                good(),
            )
        },
        RefusalCase {
            handler: Handler::Fresh(second * 59),
            ..case("comes to a route that must know better what is revoked", of_a_minute(), good())
        },
        RefusalCase {
            handler: Handler::AsksFresh(second * 59),
            ..case("comes to a handler that must know better what is revoked", of_a_minute(), good())
        },
        RefusalCase {
            handler: Handler::Fresh(second),
            ..case("comes to a route that must know what is revoked, and whose layer asks nobody", layer(), good())
        },
    ]
}

fn in_the_handler() -> Vec<RefusalCase> {
    let good = || vec![bearer(&token())];
    let invalid = layer().optional().dangerous_treat_invalid_as_anonymous();
    vec![
        RefusalCase {
            handler: Handler::Caller,
            ..case("is anonymous, and its handler needs a caller", layer().optional(), vec![])
        },
        RefusalCase {
            handler: Handler::Permit,
            ..case("is anonymous, and its handler needs a permit", layer().optional(), vec![])
        },
        RefusalCase {
            handler: Handler::Route(scope("orders:write")),
            ..case("is anonymous, and its route needs a scope", layer().optional(), vec![])
        },
        RefusalCase {
            handler: Handler::Caller,
            ..case(
                "has a bad token that passes for none, and its handler needs a caller",
                invalid,
                vec![bearer(&token().audience("billing"))],
            )
        },
        RefusalCase { handler: Handler::Claims, ..case("has claims that its handler cannot read", layer(), good()) },
        RefusalCase { handler: Handler::WithoutLayer, ..case("comes to a handler without a layer", layer(), good()) },
        RefusalCase {
            handler: Handler::Caller,
            ..case("comes to a handler behind a layer that only watches", layer().shadow(), good())
        },
    ]
}

/// A layer that needs two scopes.
fn with_scopes() -> RequireJwtLayer<Fixed> {
    layer().require(scope("orders:read").and(scope("orders:write")))
}

//! `WWW-Authenticate` as a client reads it that believes nothing: by a parser of its own, of RFC 9110 §11.6.1 and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use common::{AUDIENCE, Issuer, NOW, ScriptedKeys, layer, request};
use countersign_claims::{Requirement, acr, authenticated_within, scope, scopes};
use countersign_token::{Answer, KeySource};
use countersign_tower::handler::{Authenticated, ExtractError};
use countersign_tower::{Refusal, RequireJwtLayer, require};
use http::{HeaderMap, Method, Request, Response};
use proptest::prelude::*;
use serde_json::json;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

/// Scheme and parameters of one challenge, which is all that there is; names in lower case. Anything that the grammar has not, a
/// parameter twice, and a second challenge, is an error.
fn parse(header: &str) -> Result<(String, BTreeMap<String, String>), String> {
    let (scheme, mut rest) = token(header)?;
    let mut parameters = BTreeMap::new();
    rest = rest.strip_prefix(' ').ok_or("no space behind the scheme")?;
    loop {
        let (name, behind) = token(rest.trim_start_matches(' '))?;
        let behind = behind.strip_prefix('=').ok_or_else(|| format!("no `=` behind {name}"))?;
        let (value, behind) = if behind.starts_with('"') { quoted(behind)? } else { token(behind)? };
        if parameters.insert(name.to_ascii_lowercase(), value).is_some() {
            return Err(format!("{name} twice"));
        }
        if behind.is_empty() {
            return Ok((scheme, parameters));
        }
        rest =
            behind.trim_start_matches([' ', '\t']).strip_prefix(',').ok_or_else(|| format!("{behind:?} behind it"))?;
    }
}

/// RFC 9110 §5.6.2.
fn token(text: &str) -> Result<(String, &str), String> {
    let is_tchar = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet);
    let end = text.bytes().position(|octet| !is_tchar(octet)).unwrap_or(text.len());
    if end == 0 { Err(format!("no token at {text:?}")) } else { Ok((text[..end].to_owned(), &text[end..])) }
}

/// RFC 9110 §5.6.4, without its obsolete octets.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[index + 1..])),
            '\\' => value.push(characters.next().ok_or("nothing behind a backslash")?.1),
            '\t' | ' '..='~' => value.push(character),
            other => return Err(format!("{other:?} between quotes")),
        }
    }
    Err("no closing quote".into())
}

#[test]
fn the_parser_is_strict() {
    let (scheme, parameters) = parse(r#"Bearer realm="a, b=\"c\"", Error=x"#).unwrap();
    assert_eq!((scheme.as_str(), &*parameters["realm"], &*parameters["error"]), ("Bearer", r#"a, b="c""#, "x"));
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer realm",
        "Bearer realm=",
        "Bearer realm=\"a",
        "Bearer realm=\"a\\",
        "Bearer realm=\"a\"b",
        "Bearer realm=\"a\" error=x",
        "Bearer realm=\"a\", realm=b",
        "Bearer realm=\"a\", REALM=b",
        "Bearer realm=\"a\", Basic realm=\"b\"",
        "Bearer realm=\"a\",",
        "Bearer realm=\"\u{e9}\"",
        "Bearer realm=\"\r\n\"",
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}

/// Whether a value is out of the set that RFC 6750 §3 (and RFC 9470 §3 for `acr_values`) gives its parameter.
fn is_allowed(name: &str, value: &str) -> bool {
    let is_plain = |text: &str| text.bytes().all(|octet| matches!(octet, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~'));
    let is_list = |text: &str| is_plain(text) && text.split(' ').all(|part| !part.is_empty());
    match name {
        // Narrower than its quoted string would be, because many clients undo no escapes.
        "realm" | "error_description" => is_plain(value),
        "error" => ["invalid_request", "invalid_token", "insufficient_scope", "insufficient_user_authentication"]
            .contains(&value),
        "scope" | "acr_values" => is_list(value),
        "max_age" => value.parse::<u64>().is_ok_and(|seconds| seconds.to_string() == value),
        "resource_metadata" => value.starts_with("http") && is_plain(value) && !value.contains(' '),
        _ => false,
    }
}

/// The parameters of the one challenge of a response.
fn challenge<B>(response: &Response<B>) -> BTreeMap<String, String> {
    let values: Vec<_> = response.headers().get_all("www-authenticate").iter().collect();
    let [value] = &values[..] else { panic!("{values:?}") };
    let told = value.to_str().unwrap();
    let (scheme, parameters) = parse(told).unwrap_or_else(|error| panic!("{told}: {error}"));
    assert_eq!(scheme, "Bearer");
    for (name, value) in &parameters {
        assert!(is_allowed(name, value), "{name}: {told}");
    }
    parameters
}

/// A handler that demands something itself, by hand.
fn handler(demands: Requirement) -> impl Service<Request<()>, Response = Response<String>, Error = Infallible> + Clone {
    service_fn(move |request: Request<()>| {
        let demands = demands.clone();
        async move {
            let (head, ()) = request.into_parts();
            let refused = |error: ExtractError| error.into_response(&head.method, &head.headers, &head.extensions);
            Ok(match Authenticated::from_extensions(&head.extensions) {
                Err(error) => refused(error),
                Ok(caller) => match caller.require(&demands) {
                    Err(forbidden) => forbidden.into_response(&head.method, &head.headers, None),
                    Ok(()) => Response::new(String::from("in")),
                },
            })
        }
    })
}

async fn send<K: KeySource>(
    layer: &RequireJwtLayer<K>,
    demands: &Requirement,
    request: Request<()>,
) -> Response<String> {
    layer.layer(handler(demands.clone())).oneshot(request).await.unwrap()
}

/// Text that looks for a way out of a parameter.
fn hostile_text() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "x y",
        "\"",
        "\\",
        "\\\"",
        "\", error=\"none",
        "\r\n",
        "\r\nset-cookie: a=b",
        ",",
        ", Basic realm=x",
        "=",
        "%22",
        "'",
        "\t",
        "\0",
        "\u{7f}",
        "\u{e9}",
        "\u{2028}",
        ";",
        "<",
        "scope",
        " ",
    ];
    prop_oneof![
        proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..8).prop_map(|parts| parts.concat()),
        any::<String>(),
    ]
}

/// A name of a scope, or of an authentication context: all that RFC 6749 §3.3 lets in.
fn name() -> impl Strategy<Value = String> {
    "[!#-\\[\\]-~]{1,12}"
}

/// One that is let in by no constructor.
fn panics(make: impl FnOnce() -> Requirement + std::panic::UnwindSafe) -> bool {
    std::panic::catch_unwind(make).is_err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn statement_10_and_11_no_configured_text_breaks_out_of_a_challenge(
        realm in hostile_text(),
        path in hostile_text(),
        layers in proptest::collection::vec(name(), 1..4),
        routes in proptest::collection::vec(name(), 1..4),
        contexts in proptest::collection::vec(name(), 1..4),
        age in any::<u32>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let issuer = Issuer::new();
        let url = format!("https://a.example/{path}");
        // What could break out is found when the layer is put together, or taken out.
        let is_quotable = |text: &str| text.bytes().all(|octet| matches!(octet, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        prop_assert_eq!(issuer.layer().realm(&*realm).check().is_ok(), !realm.is_empty() && is_quotable(&realm));
        if issuer.layer().resource_metadata(&*url).check().is_ok() {
            prop_assert!(is_quotable(&url) && !url.contains(' '), "{:?}", url);
        }
        let mut layer = issuer.layer().require(scopes(&layers));
        for changed in [layer.clone().realm(&*realm), layer.clone().resource_metadata(&*url)] {
            if changed.check().is_ok() {
                layer = changed;
            }
        }
        let strong = acr(&contexts).and(authenticated_within(Duration::from_secs(age.into())));
        let demands = scopes(&routes).and(strong);
        runtime.block_on(async {
            let granted = layers.join(" ");
            for (sent, status) in [
                (Request::new(()), 401),
                (request("a.b.c"), 401),
                (request(""), 400),
                (request(&issuer.token("")), 403),
                (request(&issuer.token(&granted)), 401),
            ] {
                let told = send(&layer, &demands, sent).await;
                assert_eq!(told.status(), status);
                let told = challenge(&told);
                // A name is told as it is, or the client would ask for another.
                if let Some(named) = told.get("scope") {
                    let known = [&layers[..], &routes[..]].concat();
                    assert!(named.split(' ').all(|name| known.iter().any(|known| known == name)), "{named}");
                }
                if let Some(values) = told.get("acr_values") {
                    assert_eq!(values, &contexts.join(" "));
                    assert_eq!(told["max_age"], age.to_string());
                }
            }
        });
        // Whoever words a refusal by hand is not asked whether the realm is one.
        let by_hand: Response<String> = Refusal::NoCredentials.into_response(&Method::GET, &HeaderMap::new(), Some(&realm));
        challenge(&by_hand);
    }

    #[test]
    fn statement_11_what_is_no_name_is_no_requirement(text in hostile_text()) {
        let is_name = !text.is_empty() && text.bytes().all(|octet| matches!(octet, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        prop_assert_eq!(panics({ let text = text.clone(); move || scope(text) }), !is_name);
        prop_assert_eq!(panics({ let text = text.clone(); move || acr([text]) }), !is_name);
    }

    #[test]
    fn statement_11_nothing_of_a_token_is_told(text in hostile_text()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let issuer = Issuer::new();
        let marked = format!("mark{text}mark");
        let good = json!({
            "aud": AUDIENCE, "exp": NOW + 60, "sub": marked, "client_id": marked, "acr": marked, "jti": marked, "roles": [marked],
        });
        let layer = issuer.layer().require(scope("needed")).resource_metadata("https://a.example/m");
        let step_up = issuer.layer().require(acr(["gold"]));
        runtime.block_on(async {
            for (member, value) in [("tenant", json!(marked)), ("scope", json!(marked)), ("aud", json!(marked)), ("iss", json!(marked))] {
                let mut claims = good.clone();
                claims[member] = value;
                let token = issuer.sign(&claims);
                for layer in [&layer, &step_up] {
                    let response = send(layer, &scope("needed"), request(&token)).await;
                    assert!(matches!(response.status().as_u16(), 401 | 403));
                    let told = challenge(&response);
                    assert!(told.values().all(|value| !value.contains("mark")), "{told:?}");
                }
            }
        });
    }
}

/// Every refusal that other credentials would change names where the metadata are, beside all parameters of RFC 9470.
#[tokio::test]
async fn statement_12_a_challenge_names_the_resource_metadata() {
    const URL: &str = "https://a.example/.well-known/oauth-protected-resource/mcp";
    let issuer = Issuer::new();
    let base = issuer.layer().require(scope("read")).resource_metadata(URL);
    let strong = acr(["gold"]).and(authenticated_within(Duration::from_secs(60)));
    for (layer, sent, status) in [
        (base.clone(), Request::new(()), 401),
        (base.clone(), request("a.b.c"), 401),
        (base.clone(), request(""), 400),
        (base.clone(), request(&issuer.token("")), 403),
        (base.clone().require(strong.clone()), request(&issuer.token("read")), 401),
        (base.clone().optional(), Request::new(()), 401),
        (base.clone(), request(&issuer.token("read")), 401),
    ] {
        let response = send(&layer, &strong, sent).await;
        assert_eq!(response.status(), status);
        let told = challenge(&response);
        assert_eq!(told["resource_metadata"], URL);
        if told.get("error").is_some_and(|error| error == "insufficient_user_authentication") {
            assert_eq!((&*told["acr_values"], &*told["max_age"]), ("gold", "60"));
        }
    }
    // Nothing that the client could mend.
    let keys = ScriptedKeys::answering(Answer::NotYet { retry_after: Duration::ZERO });
    let response = send(&layer(keys).resource_metadata(URL), &strong, request(&issuer.token(""))).await;
    assert_eq!((response.status().as_u16(), response.headers().get("www-authenticate")), (429, None));
}

#[tokio::test]
async fn statement_13_all_scopes_of_an_operation_are_told_at_once_by_401_and_403() {
    let issuer = Issuer::new();
    let needed = scopes(["a", "b", "offline_access"]);
    let layer = issuer.layer().require(needed);
    let nothing = scopes(Vec::<String>::new());
    for (token, status) in
        [(None, 401), (Some("x.y.z".to_owned()), 401), (Some(issuer.token("")), 403), (Some(issuer.token("b")), 403)]
    {
        let sent = token.map_or_else(|| Request::new(()), |token| request(&token));
        let response = send(&layer, &nothing, sent).await;
        assert_eq!((response.status().as_u16(), &*challenge(&response)["scope"]), (status, "a b"));
    }
    // What a route and its layer need are one operation.
    let layer = issuer.layer().require(scope("a"));
    let inside = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let route = layer.layer(require(scopes(["b", "c", "offline_access"])).layer(inside));
    let response = route.oneshot(request(&issuer.token("a b"))).await.unwrap();
    let told = challenge(&response);
    let mut named: Vec<_> = told["scope"].split(' ').collect();
    named.sort_unstable();
    assert_eq!((response.status().as_u16(), named), (403, vec!["a", "b", "c"]));
}

#[tokio::test]
async fn statement_15_weak_or_old_authentication_is_401_with_what_is_needed() {
    let issuer = Issuer::new();
    let layer =
        issuer.layer().require(acr(["gold", "silver"]).and(authenticated_within(Duration::from_millis(60_900))));
    let nothing = scopes(Vec::<String>::new());
    let with = |acr: &str, auth_time: i64| {
        request(&issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60, "acr": acr, "auth_time": auth_time })))
    };
    assert_eq!(send(&layer, &nothing, with("silver", NOW)).await.status(), 200);
    for sent in [with("bronze", NOW), with("gold", NOW - 3600), request(&issuer.token(""))] {
        let response = send(&layer, &nothing, sent).await;
        let told = challenge(&response);
        assert_eq!((response.status().as_u16(), &*told["error"]), (401, "insufficient_user_authentication"));
        assert_eq!((&*told["acr_values"], &*told["max_age"]), ("gold silver", "60"));
    }
}

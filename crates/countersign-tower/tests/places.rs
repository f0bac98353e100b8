//! Where a token may be: what is found there, what is refused, and what an inner service still sees of it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]

mod common;

use std::convert::Infallible;

use common::{AUDIENCE, Issuer, NOW, ScriptedKeys, layer};
use countersign_claims::Verified;
use countersign_token::{Answer, KeySource};
use countersign_tower::{Refusal, RequireJwtLayer, TokenPlace};
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, Request, Response, Uri};
use proptest::prelude::*;
use serde_json::json;
use tower::{Layer as _, ServiceExt as _, service_fn};

/// What the inner service has seen of a request, or why it has not.
type Seen = Result<(Uri, HeaderMap), (u16, &'static str)>;

async fn send<K: KeySource>(layer: &RequireJwtLayer<K>, request: Request<()>) -> Response<Option<(Uri, HeaderMap)>> {
    let inner = service_fn(async |request: Request<()>| {
        let (parts, ()) = request.into_parts();
        if let Some(verified) = parts.extensions.get::<Verified>() {
            assert_eq!(verified.subject(), Some("ada"));
        }
        Ok::<_, Infallible>(Response::new(Some((parts.uri, parts.headers))))
    });
    layer.layer(inner).oneshot(request).await.unwrap()
}

async fn seen<K: KeySource>(layer: &RequireJwtLayer<K>, request: Request<()>) -> Seen {
    let response = send(layer, request).await;
    let status = response.status().as_u16();
    let code = response.extensions().get::<Refusal>().map_or("", Refusal::code);
    response.into_body().ok_or((status, code))
}

fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

/// A place, and what it is called here.
type Named = (&'static str, fn() -> TokenPlace);

const PLACES: [Named; 5] = [
    ("bearer", TokenPlace::bearer),
    ("header", || TokenPlace::header("x-token")),
    ("cookie", || TokenPlace::cookie("__Host-session")),
    ("query", || TokenPlace::query("access_token")),
    ("protocol", || TokenPlace::websocket_protocol("bearer.")),
];

fn put(place: &str, value: &str, request: &mut Request<()>) {
    let (name, value) = match place {
        "bearer" => ("authorization", format!("Bearer {value}")),
        "header" => ("x-token", value.to_owned()),
        "cookie" => ("cookie", format!("__Host-session={value}")),
        "protocol" => ("sec-websocket-protocol", format!("bearer.{value}")),
        _ => {
            let uri = request.uri().to_string();
            let joint = if uri.contains('?') { '&' } else { '?' };
            *request.uri_mut() = format!("{uri}{joint}access_token={value}").parse().unwrap();
            return;
        }
    };
    request.headers_mut().append(name, value.parse().unwrap());
}

fn with(tokens: &[(&str, &str)]) -> Request<()> {
    let mut request = request("/a", &[]);
    for (place, value) in tokens {
        put(place, value, &mut request);
    }
    request
}

const MANY: (u16, &str) = (400, "many_credentials");
const MALFORMED: (u16, &str) = (400, "malformed_credentials");
const NONE: (u16, &str) = (401, "no_credentials");

#[tokio::test]
async fn a_token_is_found_where_it_may_be_and_nowhere_else() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    for (configured, place) in PLACES {
        let layer = issuer.layer().token_from([place()]);
        for (sent, _) in PLACES {
            let expected = if sent == configured { Ok(()) } else { Err(NONE) };
            assert_eq!(seen(&layer, with(&[(sent, &token)])).await.map(drop), expected, "{configured} {sent}");
            if sent != configured {
                // What is not looked at is no second token either, and not malformed.
                for other in [token.as_str(), "x%y"] {
                    let both = with(&[(configured, &token), (sent, other)]);
                    assert_eq!(seen(&layer, both).await.map(drop), Ok(()), "{configured} {sent}");
                }
            }
        }
        assert_eq!(seen(&layer, with(&[])).await.map(drop), Err(NONE), "{configured}");
    }
}

#[tokio::test]
async fn statement_5_two_tokens_are_400_wherever_they_are() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    let layer = issuer.layer().token_from(PLACES.map(|(_, place)| place()));
    for (one, _) in PLACES {
        assert_eq!(seen(&layer, with(&[(one, &token)])).await.map(drop), Ok(()), "{one}");
        for (other, _) in PLACES {
            assert_eq!(seen(&layer, with(&[(one, &token), (other, &token)])).await, Err(MANY), "{one} {other}");
        }
    }
    let response = send(&layer, with(&[("cookie", &token), ("query", &token)])).await;
    let challenge = response.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains(r#"error="invalid_request""#), "{challenge}");
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn what_cannot_be_a_token_is_malformed_in_every_place_and_one_of_two_beside_a_good_one() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    let layer = issuer.layer().token_from(PLACES.map(|(_, place)| place()));
    for (place, one) in PLACES {
        let alone = issuer.layer().token_from([one()]);
        // Authorization has a syntax of its own, and takes a token with other characters for one that is not good.
        let values: &[&str] = if place == "bearer" { &["", "a b", "a,b"] } else { &["", "a%2Eb", "\"a.b.c\"", "a:b"] };
        for value in values {
            if place == "query" && value.contains('"') {
                continue;
            }
            assert_eq!(seen(&alone, with(&[(place, value)])).await, Err(MALFORMED), "{place} {value:?}");
            let other = if place == "header" { "cookie" } else { "header" };
            let beside = with(&[(other, &token), (place, value)]);
            assert_eq!(seen(&layer, beside).await, Err(MANY), "{place} {value:?}");
        }
    }
    let mut octets = with(&[]);
    octets.headers_mut().insert("x-token", HeaderValue::from_bytes(b"a\xff").unwrap());
    assert_eq!(seen(&layer, octets).await, Err(MALFORMED));
}

#[tokio::test]
async fn a_cookie_is_found_among_others_whether_they_are_in_one_header_or_in_several() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    let layer = issuer.layer().token_from([TokenPlace::cookie("__Host-session")]);
    let ours = format!("__Host-session={token}");
    for (cookies, expected) in [
        (vec![format!("a=b; {ours}; c=d")], Ok(())),
        (vec![format!("a=b;{ours} ;c=d")], Ok(())),
        // As HTTP/2 sends them (RFC 9113 §8.2.3).
        (vec!["a=b".into(), ours.clone(), "c=d".into()], Ok(())),
        (vec![ours.clone(), ours.clone()], Err(MANY)),
        (vec![format!("{ours}; {ours}")], Err(MANY)),
        (vec![format!("{ours}; __Host-session=")], Err(MANY)),
        (vec![format!("__host-session={token}")], Err(NONE)),
        (vec![format!("session={token}; x__Host-session={token}; __Host-session2={token}")], Err(NONE)),
        (vec![format!("a=__Host-session={token}")], Err(NONE)),
        (vec![format!("a=\"; __Host-session={token}\"")], Err(MALFORMED)),
        (vec![token.clone(), "__Host-session".into(), String::new(), ";;".into()], Err(NONE)),
    ] {
        let mut asked = request("/", &[]);
        for cookie in &cookies {
            asked.headers_mut().append(COOKIE, cookie.parse().unwrap());
        }
        assert_eq!(seen(&layer, asked).await.map(drop), expected, "{cookies:?}");
    }
}

#[tokio::test]
async fn a_parameter_counts_in_every_spelling_of_its_name() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    let layer = issuer.layer().token_from([TokenPlace::query("access_token")]);
    for (query, expected) in [
        (format!("access_token={token}"), Ok(())),
        (format!("a=b&access_token={token}&c"), Ok(())),
        (format!("access%5Ftoken={token}"), Ok(())),
        (format!("%61ccess%5ftoken={token}"), Ok(())),
        (format!("access_token={token}&access%5ftoken={token}"), Err(MANY)),
        (format!("access_token={token}&access_token"), Err(MANY)),
        ("access_token".into(), Err(MALFORMED)),
        (format!("access_token=={token}"), Err((401, "malformed"))),
        (format!("access_token={}", token.replace('.', "%2e")), Err(MALFORMED)),
        (format!("Access_Token={token}&access_token2={token}&xaccess_token={token}"), Err(NONE)),
        (format!("access%255Ftoken={token}"), Err(NONE)),
        (format!("access%5={token}&access%={token}&%={token}"), Err(NONE)),
        (format!("a=access_token={token}"), Err(NONE)),
        (String::new(), Err(NONE)),
    ] {
        let answer = seen(&layer, request(&format!("/a?{query}"), &[])).await.map(drop);
        match (expected, answer) {
            // A `=` may be in a token; this one is not good, whatever it is called.
            (Err((401, "malformed")), Err((401, code))) => assert_ne!(code, "no_credentials"),
            (expected, answer) => assert_eq!(answer, expected, "{query}"),
        }
    }
}

#[tokio::test]
async fn a_web_socket_protocol_is_found_among_those_that_are_offered() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    let layer = issuer.layer().token_from([TokenPlace::websocket_protocol("bearer.")]);
    for (offered, expected) in [
        (vec![format!("chat, bearer.{token}")], Ok(())),
        (vec![format!("bearer.{token},chat")], Ok(())),
        (vec!["chat".into(), format!("bearer.{token}")], Ok(())),
        (vec![format!("bearer.{token}, bearer.{token}")], Err(MANY)),
        (vec![format!("Bearer.{token}")], Err(NONE)),
        (vec!["chat, , bearer".into()], Err(NONE)),
        (vec!["bearer.".into()], Err(MALFORMED)),
    ] {
        let mut asked = request("/", &[]);
        for value in &offered {
            asked.headers_mut().append(SEC_WEBSOCKET_PROTOCOL, value.parse().unwrap());
        }
        assert_eq!(seen(&layer, asked).await.map(drop), expected, "{offered:?}");
    }
}

/// What the inner service sees of a request, and of the same without its token.
#[tokio::test]
async fn the_token_is_taken_out_and_nothing_else() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    let strip = |place: TokenPlace| issuer.layer().token_from([place]).strip_token();
    for (layer, name, sent, left) in [
        (strip(TokenPlace::bearer()), "authorization", vec![format!("Bearer {token}")], vec![]),
        (issuer.layer().strip_token(), "authorization", vec![format!("Bearer {token}")], vec![]),
        (strip(TokenPlace::header("x-token")), "x-token", vec![token.clone()], vec![]),
        (strip(TokenPlace::cookie("__Host-a")), "cookie", vec![format!("__Host-a={token}")], vec![]),
        (
            strip(TokenPlace::cookie("__Host-a")),
            "cookie",
            vec!["b=1;  c=2".into(), format!("d=\"x\";__Host-a={token}; e"), "__Host-ab=3".into()],
            vec!["b=1;  c=2", "d=\"x\"; e", "__Host-ab=3"],
        ),
        (
            strip(TokenPlace::websocket_protocol("bearer.")),
            "sec-websocket-protocol",
            vec!["a,b".into(), format!("bearer.{token}"), "Bearer.x,c".into()],
            vec!["a,b", "Bearer.x,c"],
        ),
    ] {
        let mut asked = request("/a//b?c=d&&e", &[("host", "a"), ("x-other", "1"), ("x-other", "2")]);
        let mut expected = asked.headers().clone();
        for value in &sent {
            asked.headers_mut().append(name, value.parse().unwrap());
        }
        for value in left {
            expected.append(name, value.parse().unwrap());
        }
        let (uri, headers) = seen(&layer, asked).await.unwrap();
        assert_eq!((uri.to_string().as_str(), headers), ("/a//b?c=d&&e", expected), "{name}");
    }
    let layer = strip(TokenPlace::query("t"));
    for (sent, left) in [
        ("/a?t=TOKEN", "/a"),
        ("/a?b=1&t=TOKEN&c=%20&b=2", "/a?b=1&c=%20&b=2"),
        ("/a?%74=TOKEN&tt=1", "/a?tt=1"),
        ("https://u.example:1/a//%2e?t=TOKEN&x", "https://u.example:1/a//%2e?x"),
        ("http://u.example?t=TOKEN", "http://u.example/"),
        ("/?&t=TOKEN&&", "/?&&"),
    ] {
        let (uri, headers) = seen(&layer, request(&sent.replace("TOKEN", &token), &[("cookie", "t=1")])).await.unwrap();
        assert_eq!((uri.to_string().as_str(), headers.len()), (left, 1), "{sent}");
    }
}

#[tokio::test]
async fn what_is_no_token_of_this_layer_stays() {
    let layer = Issuer::new().layer().optional().strip_token();
    for value in ["Basic YTpi", "Digest username=\"a\", realm=\"b\"", "Negotiate"] {
        let (_, headers) = seen(&layer, request("/", &[("authorization", value)])).await.unwrap();
        assert_eq!(headers[AUTHORIZATION], value);
    }
    // Nobody looks at these, and they go all the same.
    let exempt = Issuer::new().layer().exempt("/").strip_token();
    for values in [&["Bearer a b"][..], &["bearer x"], &["Bearer"], &["B\u{e9}"], &["Bearer x", "Bearer y"]] {
        let sent: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
        let (_, headers) = seen(&exempt, request("/", &sent)).await.unwrap();
        assert!(headers.is_empty(), "{values:?}");
    }
    let both = request("/", &[("authorization", "Bearer x"), ("authorization", "Basic y")]);
    assert_eq!(seen(&exempt, both).await.unwrap().1[AUTHORIZATION], "Basic y");
}

#[tokio::test]
async fn a_sensitive_cookie_stays_sensitive() {
    let issuer = Issuer::new();
    let layer = issuer.layer().token_from([TokenPlace::cookie("__Host-a")]).strip_token();
    let mut cookie: HeaderValue = format!("a=b; __Host-a={}", issuer.token("")).parse().unwrap();
    cookie.set_sensitive(true);
    let mut asked = request("/", &[]);
    asked.headers_mut().insert(COOKIE, cookie);
    let (_, headers) = seen(&layer, asked).await.unwrap();
    assert_eq!(headers[COOKIE], "a=b");
    assert!(headers[COOKIE].is_sensitive());
}

/// The form of RFC 6750 §2.2, as it should be and as it should not: nobody looks, so it is neither a token nor a second one.
#[tokio::test]
async fn statement_4_a_token_in_the_body_is_never_looked_at() {
    /// A body that must not be asked for anything.
    struct Untouched;

    let issuer = Issuer::new();
    let token = issuer.token("");
    let layer = issuer.layer().token_from(PLACES.map(|(_, place)| place()));
    let inner = service_fn(async |request: Request<String>| Ok::<_, Infallible>(Response::new(request.into_body())));
    for method in ["POST", "PUT", "PATCH", "GET"] {
        for content_type in ["application/x-www-form-urlencoded", "multipart/form-data", "application/json"] {
            let form = |head: http::request::Builder| {
                head.method(method).header("content-type", content_type).body(format!("access_token={token}")).unwrap()
            };
            let response = layer.layer(inner).oneshot(form(Request::builder())).await.unwrap();
            assert_eq!(
                response.extensions().get::<Refusal>(),
                Some(&Refusal::NoCredentials),
                "{method} {content_type}"
            );
            let head = Request::builder().header(AUTHORIZATION, format!("Bearer {token}"));
            let response = layer.layer(inner).oneshot(form(head)).await.unwrap();
            assert_eq!(response.body(), &format!("access_token={token}"), "{method} {content_type}");
        }
    }
    // It could not even be read: the layer asks nothing of the type.
    let inner = service_fn(async |_: Request<Untouched>| Ok::<_, Infallible>(Response::new(String::new())));
    assert_eq!(layer.layer(inner).oneshot(Request::new(Untouched)).await.unwrap().status(), 401);
}

/// What the inner service says of caching, and what the client hears.
#[tokio::test]
async fn statement_3_answers_to_tokens_in_the_query_are_private() {
    async fn cache<K: KeySource>(layer: &RequireJwtLayer<K>, asked: Request<()>, says: &'static str) -> String {
        let inner = service_fn(async |_: Request<()>| {
            let mut response = Response::new(String::new());
            if !says.is_empty() {
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(says));
            }
            Ok::<_, Infallible>(response)
        });
        let response = layer.layer(inner).oneshot(asked).await.unwrap();
        let values: Vec<_> =
            response.headers().get_all(CACHE_CONTROL).iter().map(|value| value.to_str().unwrap()).collect();
        values.join("|")
    }
    let issuer = Issuer::new();
    let token = issuer.token("");
    let places = || [TokenPlace::bearer(), TokenPlace::query("access_token")];
    let layer = issuer.layer().token_from(places());
    let in_query = || with(&[("query", &token)]);
    for (says, expected) in [
        ("", "private"),
        ("public, max-age=60", "max-age=60, private"),
        ("no-store", "no-store"),
        ("private, max-age=1", "private, max-age=1"),
        ("no-cache", "no-cache, private"),
    ] {
        assert_eq!(cache(&layer, in_query(), says).await, expected);
        assert_eq!(cache(&layer, with(&[("bearer", &token)]), says).await, says, "it was not in the query");
        // And after a wait.
        let keys = ScriptedKeys::default();
        let waiting = common::layer(keys.clone()).token_from(places());
        let mut answer = tokio_test::task::spawn(cache(&waiting, in_query(), says));
        tokio_test::assert_pending!(answer.poll());
        keys.publish(issuer.keys());
        keys.answer(Answer::Changed);
        assert_eq!(tokio_test::assert_ready!(answer.poll()), expected, "after a wait");
    }
    assert_eq!(cache(&layer, with(&[("query", "a.b.c")]), "public").await, "no-store", "a refusal");
    let open = layer.clone().exempt("/a");
    assert_eq!(cache(&open, in_query(), "public").await, "public", "nobody has looked at it");
    assert_eq!(cache(&layer.clone().shadow(), in_query(), "public").await, "public", "a shadow changes nothing");
}

#[tokio::test]
async fn a_token_is_found_again_and_taken_out_after_a_wait() {
    let issuer = Issuer::new();
    let token = issuer.token("");
    for (name, place) in PLACES {
        let keys = ScriptedKeys::default();
        let layer = layer(keys.clone()).token_from([place()]).strip_token();
        let asked = with(&[(name, &token)]);
        let mut answer = tokio_test::task::spawn(seen(&layer, asked));
        tokio_test::assert_pending!(answer.poll());
        keys.publish(issuer.keys());
        keys.answer(Answer::Changed);
        let (uri, headers) = tokio_test::assert_ready!(answer.poll()).unwrap();
        assert_eq!((uri.to_string().as_str(), headers.len()), ("/a", 0), "{name}");
    }
}

#[test]
fn places_that_cannot_be_are_configuration_errors() {
    use TokenPlace as Place;
    let layer = Issuer::new().layer();
    for (places, text) in [
        (vec![], "place"),
        (vec![Place::bearer(), Place::bearer()], "twice"),
        (vec![Place::header("X-Token"), Place::header("x-token")], "twice"),
        (vec![Place::cookie("__Host-a"), Place::cookie("__Host-a")], "twice"),
        (vec![Place::websocket_protocol("bearer."), Place::websocket_protocol("bearer.v1.")], "would be one in"),
        (vec![Place::websocket_protocol("a.b"), Place::websocket_protocol("a.")], "would be one in"),
        (vec![Place::header("authorization")], "syntax of its own"),
        (vec![Place::header("Proxy-Authorization")], "syntax of its own"),
        (vec![Place::header("cookie")], "syntax of its own"),
        (vec![Place::header("x token")], "not the name of a header"),
        (vec![Place::header("")], "not the name of a header"),
        (vec![Place::cookie("session")], "__Host-"),
        (vec![Place::cookie("__Host-")], "__Host-"),
        (vec![Place::cookie("__host-a")], "__Host-"),
        (vec![Place::cookie("__Host-a;b")], "__Host-"),
        (vec![Place::bearer(), Place::query("")], "query parameter"),
        (vec![Place::query("a=b")], "query parameter"),
        (vec![Place::query("a%5fb")], "query parameter"),
        (vec![Place::websocket_protocol("")], "prefix"),
        (vec![Place::websocket_protocol("a,b")], "prefix"),
    ] {
        let error = layer.clone().token_from(places.clone()).check().unwrap_err().to_string();
        assert!(error.contains(text), "{places:?}: {error}");
    }
    let apart =
        [Place::websocket_protocol("a."), Place::websocket_protocol("b."), Place::query("a"), Place::query("b")];
    assert_eq!(layer.token_from(apart).check(), Ok(()));
}

/// A copy that was made before is out of reach, as `strip_token` says.
#[cfg(feature = "axum")]
#[tokio::test]
async fn axum_keeps_a_copy_of_the_uri_unless_the_layer_is_around_the_router() {
    use axum::Router;
    use axum::body::Body;
    use axum::extract::OriginalUri;
    use http_body_util::BodyExt as _;

    let issuer = Issuer::new();
    let token = issuer.token("");
    let layer = issuer.layer().token_from([TokenPlace::query("t")]).strip_token();
    let handler = async |OriginalUri(original): OriginalUri, uri: Uri| format!("{original} {uri}");
    let router = Router::new().route("/a", axum::routing::get(handler));
    let asked = || Request::get(format!("/a?t={token}&b")).body(Body::empty()).unwrap();
    let text = async |response: Response<Body>| {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    let within = router.clone().layer(layer.clone()).oneshot(asked()).await.unwrap();
    assert_eq!(text(within).await, format!("/a?t={token}&b /a?b"));
    let around = layer.layer(router).oneshot(asked()).await.unwrap();
    assert_eq!(text(around).await, "/a?b /a?b");
}

/// A query, and cookies, out of pieces that look like a token's place and are not.
fn pieces(own: &'static str) -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        "[a-z_]{0,6}(=[a-z0-9._~-]{0,6})?",
        Just(format!("{own}x=1")),
        Just(format!("x{own}=1")),
        Just(String::new()),
    ];
    let is_other = move |piece: &String| piece.split('=').next() != Some(own);
    proptest::collection::vec(piece.prop_filter("another name", is_other), 0..6)
}

proptest! {
    #[test]
    fn what_is_taken_out_is_the_token_and_there_is_none_afterwards(
        query in pieces("t"),
        cookies in pieces("__Host-t"),
        at in any::<prop::sample::Index>(),
        spelling in prop_oneof![Just("t"), Just("%74")],
        is_in_query in any::<bool>(),
    ) {
        thread_local! {
            static ISSUER: Issuer = Issuer::new();
        }
        let (layer, token) = ISSUER.with(|issuer| {
            let places = [TokenPlace::query("t"), TokenPlace::cookie("__Host-t")];
            (issuer.layer().token_from(places).strip_token(), issuer.sign(&json!({ "aud": AUDIENCE, "exp": NOW + 60, "sub": "ada" })))
        });
        let (mut with_query, mut with_cookies) = (query.clone(), cookies.clone());
        if is_in_query {
            with_query.insert(at.index(query.len() + 1), format!("{spelling}={token}"));
        } else {
            with_cookies.insert(at.index(cookies.len() + 1), format!("__Host-t={token}"));
        }
        let cookie = with_cookies.join("; ");
        let asked = request(&format!("/a?{}", with_query.join("&")), &[("cookie", &cookie)]);
        let block = |request| tokio_test::block_on(seen(&layer, request));
        let (uri, headers) = block(asked).unwrap();
        prop_assert_eq!(uri.query().unwrap_or_default(), query.join("&"));
        let left = headers.get(COOKIE).map_or("", |cookie| cookie.to_str().unwrap());
        let is_same = left.split(';').map(str::trim).eq(cookies.join(";").split(';').map(str::trim));
        prop_assert!(is_same, "{:?} {:?}", left, cookies);
        let mut again = Request::new(());
        *again.uri_mut() = uri;
        *again.headers_mut() = headers;
        prop_assert_eq!(block(again), Err(NONE));
    }
}

//! The example of a stack with tower-http's layers. Where it matters which of two is the outer one, a test fails if they change
//! places.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use countersign_examples::{Answer, Client, Running, documented_calls_of};
use countersign_testkit::IdentityProvider;

/// Long enough for any machine, and an end for a test whose example hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(idp: &IdentityProvider, arguments: &[&str]) -> Running {
    let (jwks_url, issuer) = (idp.jwks_url(), idp.issuer());
    let trusting = ["--jwks-url", &jwks_url, "--issuer", issuer, "--audience", "orders"];
    Running::start("tower_http", &[&trusting, arguments].concat())
}

async fn from_browser(client: &Client, method: &str, url: &str) -> Answer {
    let request = client.request(method, url).header("origin", "https://app.example");
    client.send(request.header("access-control-request-method", "GET")).await
}

/// Sends a head over a bare socket, and returns the answer's head. Of the body, nobody sends anything.
fn send_head(example: &Running, head: &str) -> String {
    let mut socket = TcpStream::connect(example.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|octets| octets == b"\r\n\r\n") {
        let mut octet = [0];
        socket.read_exact(&mut octet).expect("an answer before the body");
        answer.extend(octet);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn neither_token_nor_cookie_is_in_the_trace_and_refusals_are() {
    let idp = IdentityProvider::start();
    let mut example = start(&idp, &[]);
    let client = Client::http1();
    let good = idp.token("orders").sign();
    let refused = idp.token("billing").sign();
    for (token, status) in [(&good, 200), (&refused, 401)] {
        let request = client.request("GET", &example.url("/hello")).bearer_auth(token);
        let request = request.header("cookie", "__Host-session=c00kie").header("x-request-id", format!("id-{status}"));
        let answer = client.send(request).await;
        assert_eq!((answer.status, answer.header("x-request-id")), (status, &*format!("id-{status}")));
        assert_eq!(answer.header("set-cookie").contains("greeted"), status == 200);
    }
    // The last line of interest comes before the first about this one.
    let own_id = client.get_bare(&example.url("/the/end")).await;
    assert_eq!(own_id.header("x-request-id").len(), 36, "a UUID");

    example.hear("request{method=GET uri=/the/end ");
    let said = example.said.join("\n");
    for (id, status) in [("id-200", 200), ("id-401", 401)] {
        assert!(said.contains(id) && said.contains(&format!("status={status}")), "{said}");
    }
    assert_eq!(said.matches("\"authorization\": Sensitive").count(), 4, "{said}");
    for secret in [&*good, &*refused, "c00kie", "greeted", good.rsplit('.').next().unwrap(), "Bearer e"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn a_preflight_needs_no_token_and_a_browser_may_read_every_refusal() {
    let idp = IdentityProvider::start();
    let example = start(&idp, &[]);
    let client = Client::http1();
    let preflight = from_browser(&client, "OPTIONS", &example.url("/hello")).await;
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.header("access-control-allow-headers"), "authorization,content-type");
    let refused = from_browser(&client, "GET", &example.url("/hello")).await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("access-control-expose-headers").contains("www-authenticate"));
    for answer in [preflight, refused] {
        assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
        assert_eq!(answer.header("x-request-id").len(), 36);
    }
    // tower-http's layer takes every OPTIONS for a preflight. It answers by itself, and nothing gets further without a token.
    let bare = client.send(client.request("OPTIONS", &example.url("/hello"))).await;
    assert_eq!(bare.content(), (200, ""));
}

#[tokio::test]
async fn an_upload_of_a_stranger_is_refused_for_want_of_a_token_and_none_of_it_is_read() {
    let idp = IdentityProvider::start();
    let example = start(&idp, &[]);
    let head = "POST /upload HTTP/1.1\nHost: x\nContent-Length: 104857600\n";
    let stranger = send_head(&example, &format!("{head}\n"));
    assert!(stranger.starts_with("HTTP/1.1 401 "), "{stranger}");
    let caller = send_head(&example, &format!("{head}Authorization: Bearer {}\n\n", idp.token("orders").sign()));
    assert!(caller.starts_with("HTTP/1.1 413 "), "{caller}");

    let client = Client::http1();
    let upload = client.request("POST", &example.url("/upload")).bearer_auth(idp.token("orders").sign());
    assert_eq!(client.send(upload.body("one order")).await.content(), (200, "9 octets"));
}

#[tokio::test]
async fn a_handler_that_is_slow_or_panics_is_our_fault_and_not_the_clients() {
    let idp = IdentityProvider::start();
    let example = start(&idp, &["--timeout", "100"]);
    let client = Client::http1();
    let begun = Instant::now();
    let slow = client.get(&example.url("/slow"), &idp.token("orders")).await;
    assert_eq!(slow.content(), (503, ""));
    assert!(begun.elapsed() >= Duration::from_millis(100));
    let panicked = client.request("GET", &example.url("/panic")).header("origin", "https://app.example");
    let panicked = client.send(panicked.bearer_auth(idp.token("orders").sign())).await;
    assert_eq!(panicked.status, 500);
    assert_eq!(panicked.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(panicked.header("x-request-id").len(), 36);
    for path in ["/slow", "/panic"] {
        assert_eq!(client.get_bare(&example.url(path)).await.status, 401, "strangers come nowhere near");
    }
}

#[tokio::test]
async fn whoever_shows_no_good_token_takes_no_place_and_is_answered_when_there_is_none() {
    let idp = IdentityProvider::start();
    let example = start(&idp, &["--at-once", "1", "--timeout", "60000"]);
    let client = Client::http1();
    let (slow, hello) = (example.url("/slow"), example.url("/hello"));
    // One that is shed, because a greeting has the only place at that moment, comes again.
    let holder = tokio::spawn({
        let (client, token) = (client.clone(), idp.token("orders"));
        async move { while client.get(&slow, &token).await.status == 503 {} }
    });
    // Until it has the only place, and keeps it.
    let deadline = Instant::now() + PATIENCE;
    while client.get(&hello, &idp.token("orders")).await.content() != (503, "") {
        assert!(Instant::now() < deadline, "the limit of one is none");
    }
    assert_eq!(client.get_bare(&hello).await.status, 401);
    assert_eq!(from_browser(&client, "OPTIONS", &hello).await.status, 200);
    holder.abort();
    while client.get(&hello, &idp.token("orders")).await.content() != (200, "Hello, ada!") {
        assert!(Instant::now() < deadline, "the place is not given back");
    }
}

#[tokio::test]
async fn a_flood_of_bad_tokens_is_slowed_and_a_good_one_from_the_same_address_is_not() {
    let idp = IdentityProvider::start();
    let example = start(&idp, &[]);
    let client = Client::http1();
    let mut answered = 0;
    for _ in 0..200 {
        let refused = client.get(&example.url("/hello"), &idp.token("billing")).await;
        match refused.status {
            401 => answered += 1,
            429 => assert!((1..=6).contains(&refused.header("retry-after").parse().unwrap())),
            _ => panic!("{refused:?}"),
        }
    }
    // Ten at once, and one every six seconds.
    assert!((10..20).contains(&answered), "{answered}");
    assert_eq!(client.get(&example.url("/hello"), &idp.token("orders")).await.content(), (200, "Hello, ada!"));
    // Nor are those who have none yet, or whose token has expired: they are told what they need.
    assert_eq!(client.get_bare(&example.url("/hello")).await.challenge(), r#"Bearer realm="api""#);
    let expired = client.get(&example.url("/hello"), &idp.token("orders").expired(Duration::from_secs(3600))).await;
    assert!(expired.challenge().contains("the token has expired"), "{expired:?}");
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("tower_http", include_str!("../../tower_http.rs")).await;
}

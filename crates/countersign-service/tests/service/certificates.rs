//! Clients that are known by a certificate, and tokens that are bound to one (RFC 8705), over real handshakes.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_service::{ConnectionLimits, ServiceBuilder, Tls, serve_tls};
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use crate::bench::{Answer, Bench, bearer, orders, read};
use crate::pki::{Authority, BOTH, Identity, client, impostor, secure};

struct Secured {
    bench: Bench,
    address: SocketAddr,
    server: Authority,
    clients: Authority,
}

fn entry(client: &str, certificates: &str, more: &str) -> String {
    format!(
        "[clients.{client}]\ncertificates = [{certificates}]\n[clients.{client}.grants.g]\nprofiles = [\"access\"]\n\
         subjects = {{ self = true }}\naudiences = {{ exact = [\"orders\"] }}\n{more}\n"
    )
}

impl Secured {
    async fn new(text: &str) -> Self {
        Self::of(Bench::with(|policy| policy + text).await).await
    }

    async fn of(bench: Bench) -> Self {
        let (server, clients) = (Authority::new("server"), Authority::new("clients"));
        let pem = server.service().client_authorities(clients.pem());
        let tls = Tls::new(&pem, bench.service.pinned_certificates()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = ConnectionLimits::default();
        tokio::spawn(serve_tls(listener, tls, bench.service.router(), limits, std::future::pending()));
        Self { bench, address, server, clients }
    }

    async fn connect(&self, identity: Option<&Identity>) -> std::io::Result<TlsStream<TcpStream>> {
        let config = client(&self.server, identity, &[], BOTH);
        secure(config, TcpStream::connect(self.address).await?).await
    }

    /// What is answered; an error if the handshake has come to nothing.
    async fn ask(&self, identity: Option<&Identity>, headers: &str, body: &Value) -> std::io::Result<Answer> {
        self.ask_as(client(&self.server, identity, &[], BOTH), headers, body).await
    }

    async fn ask_as(&self, config: Arc<ClientConfig>, headers: &str, body: &Value) -> std::io::Result<Answer> {
        let mut stream = secure(config, TcpStream::connect(self.address).await?).await?;
        stream.write_all(&post(&format!("Connection: close\r\n{headers}"), body)).await?;
        // With TLS 1.3 a client learns of its certificate's refusal when it reads.
        let mut peeked = [0];
        stream.read_exact(&mut peeked).await?;
        Ok(read(&mut (&peeked[..]).chain(stream)).await)
    }

    /// Whom a certificate is taken for.
    async fn client_of(&self, identity: &Identity) -> Result<String, (u16, String)> {
        let answer = self.ask(Some(identity), "", &orders()).await.unwrap();
        client_in(&answer)
    }
}

fn post(headers: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let headers = format!("{headers}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    format!("POST /v1/tokens HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}").into_bytes()
}

fn client_in(answer: &Answer) -> Result<String, (u16, String)> {
    if answer.status == 200 {
        Ok(payload(answer)["client_id"].as_str().unwrap().to_owned())
    } else {
        Err(answer.refusal())
    }
}

fn payload(answer: &Answer) -> Value {
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn refused() -> Result<String, (u16, String)> {
    Err((401, "invalid_client".to_owned()))
}

/// One answer of a connection that goes on.
async fn one_answer(stream: &mut TlsStream<TcpStream>) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn named(name: &str) -> impl FnOnce(&mut rcgen::CertificateParams) {
    let name = name.to_owned();
    move |params| params.distinguished_name.push(DnType::CommonName, name)
}

#[tokio::test]
async fn a_client_is_known_by_one_name_of_a_certificate_that_its_authority_vouches_for() {
    let own = Identity::self_signed(&["dns.internal"]);
    let subject = r#"{ subject = "CN=web\\, inc.,O=Acme" }"#;
    let text = entry("dns", "{ san_dns = \"dns.internal\" }, { san_dns = \"Second.internal\" }", "")
        + &entry("uri", "{ san_uri = \"spiffe://acme.example/uri\" }", "")
        + &entry("subject", subject, "")
        + &entry("own", &format!("{{ sha256 = \"{}\" }}", own.x5t()), "");
    let secured = Secured::new(&text).await;
    let clients = &secured.clients;
    let subject = |organization: &str, name: &str| {
        let (organization, name) = (organization.to_owned(), name.to_owned());
        clients.identity_with(&[], move |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, organization);
            params.distinguished_name.push(DnType::CommonName, name);
        })
    };
    for (identity, name) in [
        (clients.identity(&["dns.internal"]), "dns"),
        (clients.identity(&["DNS.Internal", "else.where"]), "dns"),
        (clients.identity(&["second.internal", "dns.internal"]), "dns"),
        (clients.identity(&["spiffe://acme.example/uri"]), "uri"),
        (subject("Acme", "web, inc."), "subject"),
        // Of what nobody vouches for, no name counts.
        (own, "own"),
    ] {
        assert_eq!(secured.client_of(&identity).await.as_deref(), Ok(name));
    }
    for identity in [
        clients.identity(&[]),
        clients.identity(&["other.internal"]),
        clients.identity(&["*.internal"]),
        clients.identity(&["x.dns.internal"]),
        clients.identity(&["dns.internal."]),
        clients.identity(&["spiffe://acme.example/URI"]),
        clients.identity(&["spiffe://acme.example/uri/"]),
        clients.identity_with(&[], named("dns.internal")),
        clients.identity_with(&["other.internal"], named("dns.internal")),
        subject("Acme", "web"),
        subject("Acme", "inc."),
        subject("", "web, inc.,O=Acme"),
        // Two clients at once are none.
        clients.identity(&["dns.internal", "spiffe://acme.example/uri"]),
    ] {
        assert_eq!(secured.client_of(&identity).await, refused());
    }
}

#[tokio::test]
async fn nobody_is_let_in_with_a_certificate_that_nobody_vouches_for() {
    let secured = Secured::new(&entry("dns", "{ san_dns = \"dns.internal\" }", "")).await;
    let clients = &secured.clients;
    let usage = |usage: ExtendedKeyUsagePurpose| {
        clients.identity_with(&["dns.internal"], |params| params.extended_key_usages = vec![usage])
    };
    assert_eq!(secured.client_of(&usage(ExtendedKeyUsagePurpose::ClientAuth)).await.as_deref(), Ok("dns"));
    let another = Authority::new("clients");
    for (what, identity) in [
        ("another authority of the same name", another.identity(&["dns.internal"])),
        ("the server's authority", secured.server.identity(&["dns.internal"])),
        ("nobody", Identity::self_signed(&["dns.internal"])),
        (
            "ended",
            clients.identity_with(&["dns.internal"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
        ),
        (
            "early",
            clients.identity_with(&["dns.internal"], |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1)),
        ),
        ("for servers", usage(ExtendedKeyUsagePurpose::ServerAuth)),
    ] {
        assert!(secured.ask(Some(&identity), "", &orders()).await.is_err(), "{what}");
    }
    // Somebody else's certificate without its key.
    let impostor = impostor(&secured.server, &clients.identity(&["dns.internal"]), &Identity::self_signed(&[]));
    assert!(secured.ask_as(impostor, "", &orders()).await.is_err());
    // Whoever shows none is asked for something else, and a header is nothing.
    let forged = format!(
        "X-Forwarded-Client-Cert: Hash={};URI=spiffe://acme.example/uri;DNS=dns.internal\r\nX-SSL-Client-Verify: SUCCESS\r\n",
        "0".repeat(64)
    );
    for headers in ["", &forged] {
        assert_eq!(client_in(&secured.ask(None, headers, &orders()).await.unwrap()), refused());
    }
}

#[tokio::test]
async fn over_http_2_a_client_is_known_by_its_certificate_too_and_a_long_body_ends_its_request_only() {
    let secured = Secured::new(&entry("dns", "{ san_dns = \"dns.internal\" }", "")).await;
    let identity = secured.clients.identity(&["dns.internal"]);
    let config = client(&secured.server, Some(&identity), &["h2"], BOTH);
    let stream = secure(config, TcpStream::connect(secured.address).await.unwrap()).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let ask = async |body: Vec<u8>| {
        let request = http::Request::post("https://localhost/v1/tokens").header("content-type", "application/json");
        let mut requests = requests.clone().ready().await.unwrap();
        let (answer, mut sent) = requests.send_request(request.body(()).unwrap(), false).unwrap();
        // Some of it may find the stream at its end already.
        let _ = sent.send_data(body.into(), true);
        let (head, mut body) = answer.await.unwrap().into_parts();
        assert!(!head.headers.contains_key("connection"));
        let mut octets = Vec::new();
        while let Some(Ok(data)) = body.data().await {
            octets.extend(data);
        }
        let answer: Value = serde_json::from_slice(&octets).unwrap();
        (head.status.as_u16(), answer["error"].as_str().map(str::to_owned))
    };
    for _ in 0..2 {
        assert_eq!(ask(orders().to_string().into_bytes()).await, (200, None));
        assert_eq!(ask(vec![b' '; 70_000]).await, (413, Some("content_too_large".to_owned())));
    }
}

#[tokio::test]
async fn a_certificate_and_other_credentials_are_of_one_client() {
    let text = entry("dns", "{ san_dns = \"dns.internal\" }", "")
        + "[clients.web2]\ncertificates = [{ san_dns = \"web2.internal\" }]\n";
    let secured = Secured::new(&text).await;
    let reload = |from: &str, to: &str| {
        let policy = crate::bench::POLICY.replace("JWKS", &crate::bench::jwks(&[&secured.bench.key]));
        secured.bench.service.reload(&(policy + &text).replace(from, to)).unwrap();
    };
    let ask = async |names: &[&str]| {
        let identity = secured.clients.identity(names);
        let headers = bearer(&secured.bench.assertion());
        client_in(&secured.ask(Some(&identity), &headers, &orders()).await.unwrap())
    };
    // The assertion is `web`'s.
    assert_eq!(ask(&["nobody.internal"]).await.as_deref(), Ok("web"));
    assert_eq!(ask(&["dns.internal"]).await, refused());
    assert_eq!(ask(&["web2.internal"]).await, refused());
    reload("[clients.web]", "[clients.web]\ncertificates = [{ san_dns = \"web.internal\" }]");
    assert_eq!(ask(&["web.internal"]).await.as_deref(), Ok("web"));
    assert_eq!(ask(&["web.internal", "dns.internal"]).await, refused());
    // What is wrong with an assertion no certificate makes up for.
    let identity = secured.clients.identity(&["dns.internal"]);
    let answer = secured.ask(Some(&identity), &bearer("a.b.c"), &orders()).await.unwrap();
    assert_eq!(client_in(&answer), refused());
}

const RIGHTS: &str = "[clients.web]\nadmin = [\"keys:read\", \"keys:rotate\", \"keys:revoke\"]\n";

impl Secured {
    /// A client with rights, beside one that is known by a certificate.
    async fn with_operator(make: impl FnOnce(ServiceBuilder) -> ServiceBuilder) -> Self {
        let text = entry("dns", "{ san_dns = \"dns.internal\" }", "");
        let secured =
            Self::of(Bench::made(|policy| policy.replace("[clients.web]\n", RIGHTS) + &text, make).await).await;
        secured.bench.advance(5);
        secured
    }

    /// Signed by the operator, over a certificate of this name.
    async fn signed(&self, name: &str, method: &str, path: &str, body: &str) -> Answer {
        let identity = self.clients.identity(&[name]);
        let signed = bearer(&self.bench.signed("web", method, path, body));
        let headers = format!("{signed}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n{body}");
        let mut stream = self.connect(Some(&identity)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read(&mut stream).await
    }
}

#[tokio::test]
async fn a_signed_request_over_another_clients_certificate_is_401_and_orders_nothing() {
    let secured = Secured::with_operator(|builder| builder).await;
    let rotate = json!({ "mode": "standby", "reason": "test", "dry_run": true });
    let revoke = json!({ "reason": "test", "dry_run": true });
    for (path, body) in [
        ("/v1/tokens", &orders()),
        ("/v1/keys:rotate", &rotate),
        ("/v1/keys/none:revoke", &revoke),
        ("/v1/keys", &json!("")),
    ] {
        let (method, body) = if path == "/v1/keys" { ("GET", String::new()) } else { ("POST", body.to_string()) };
        let answer = secured.signed("dns.internal", method, path, &body).await;
        assert_eq!(answer.refusal(), (401, "invalid_client".to_owned()), "{path}");
        let expected = if path.contains("none") { 404 } else { 200 };
        assert_eq!(secured.signed("nobody.internal", method, path, &body).await.status, expected, "{path}");
    }
}

#[tokio::test]
async fn signed_requests_over_another_clients_certificate_are_failures_that_are_limited_on_every_route() {
    for (method, path, body) in [("GET", "/v1/keys", String::new()), ("POST", "/v1/tokens", orders().to_string())] {
        let secured = Secured::with_operator(|builder| builder.failed_authentications(NonZeroU32::MIN)).await;
        assert_eq!(secured.signed("dns.internal", method, path, &body).await.status, 401, "{path}");
        let answer = secured.signed("dns.internal", method, path, &body).await;
        assert_eq!(answer.refusal(), (429, "rate_limited".to_owned()), "{path}");
        assert_eq!(secured.signed("nobody.internal", method, path, &body).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn each_request_is_judged_by_the_certificate_of_its_own_connection_and_at_its_own_time() {
    let own = Identity::self_signed(&[]);
    let text = entry("one", "{ san_dns = \"one.internal\" }", "")
        + &entry("two", "{ san_dns = \"two.internal\" }", "")
        + &entry("own", &format!("{{ sha256 = \"{}\" }}", own.x5t()), "");
    let secured = Secured::new(&text).await;
    let one = secured.clients.identity_with(&["one.internal"], |params| {
        let now = Duration::from_secs(secured.bench.now().unsigned_abs());
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + Duration::from_secs(86_400);
    });
    let two = secured.clients.identity(&["two.internal"]);
    let mut streams = Vec::new();
    for identity in [Some(&one), None, Some(&two), Some(&own)] {
        streams.push(secured.connect(identity).await.unwrap());
    }
    let ask = async |stream: &mut TlsStream<TcpStream>| {
        stream.write_all(&post("", &orders())).await.unwrap();
        one_answer(stream).await
    };
    for _ in 0..3 {
        let mut answers = Vec::new();
        for stream in &mut streams {
            answers.push(ask(stream).await);
        }
        assert_eq!(answers, [200, 401, 200, 200]);
    }
    // The certificate ends while its connection lives.
    secured.bench.advance(2 * 86_400);
    assert_eq!(ask(&mut streams[0]).await, 401);
    assert_eq!(ask(&mut streams[2]).await, 200);
    // So does what the policy knew a client by, and nobody new comes in with it.
    let policy = crate::bench::POLICY.replace("JWKS", &crate::bench::jwks(&[&secured.bench.key]));
    secured.bench.service.reload(&policy).unwrap();
    for stream in &mut streams {
        assert_eq!(ask(stream).await, 401);
    }
    assert!(secured.ask(Some(&own), "", &orders()).await.is_err());
}

#[tokio::test]
async fn tokens_are_bound_to_the_certificate_of_the_connection() {
    let web = "[clients.web.grants.bound]\nprofiles = [\"access\"]\nsubjects = { self = true }\n\
               audiences = { exact = [\"bound\"] }\nbinding = \"certificate\"\n\
               [clients.web.grants.any]\nprofiles = [\"access\"]\nsubjects = { self = true }\n\
               audiences = { exact = [\"any\"] }\nbinding = \"any\"\nmax_nbf_delay = 10\n";
    let secured = Secured::new(web).await;
    let identity = secured.clients.identity(&["some.internal"]);
    let other = secured.clients.identity(&["other.internal"]);
    let ask = async |identity: Option<&Identity>, headers: &str, body: Value| {
        let headers = bearer(&secured.bench.assertion()) + headers;
        secured.ask(identity, &headers, &body).await.unwrap()
    };
    let bound = || json!({ "profile": "access", "aud": "bound" });
    let any = |cnf: Value| json!({ "profile": "access", "aud": "any", "cnf": cnf });
    let jkt = "0".repeat(43);
    let answer = ask(Some(&identity), "", bound()).await;
    assert_eq!(payload(&answer)["cnf"], json!({ "x5t#S256": identity.x5t() }));
    assert_eq!(answer.json()["token_type"], "Bearer");
    assert_eq!(ask(None, "", bound()).await.refusal(), (403, "cnf_missing".to_owned()));
    // A token of another certificate is nobody's to ask for.
    let theirs = any(json!({ "x5t#S256": other.x5t() }));
    assert_eq!(ask(Some(&identity), "", theirs.clone()).await.refusal(), (403, "cnf_not_permitted".to_owned()));
    assert_eq!(ask(None, "", theirs).await.refusal(), (403, "cnf_not_permitted".to_owned()));
    let own = any(json!({ "x5t#S256": identity.x5t() }));
    assert_eq!(payload(&ask(Some(&identity), "", own).await)["cnf"]["x5t#S256"], identity.x5t());
    let answer = ask(None, "", any(json!({ "jkt": jkt }))).await;
    assert_eq!((&payload(&answer)["cnf"]["jkt"], &answer.json()["token_type"]), (&json!(jkt), &json!("DPoP")));
    let mut unbound = json!({ "profile": "access", "aud": "any", "nbf_delay": 10 });
    let answer = ask(Some(&identity), "", unbound.clone()).await;
    assert_eq!(payload(&answer).get("cnf"), None);
    assert_eq!(payload(&answer)["nbf"].as_i64().unwrap(), payload(&answer)["iat"].as_i64().unwrap() + 10);
    unbound["nbf_delay"] = json!(11);
    let answer = ask(None, "", unbound).await;
    assert_eq!((answer.refusal(), &answer.json()["max"]), ((403, "nbf_delay_exceeds_policy".to_owned()), &json!(10)));
    // Nor is an answer that was kept given out over another certificate.
    let key = "Idempotency-Key: one\r\n";
    assert_eq!(ask(Some(&identity), key, bound()).await.status, 200);
    assert_eq!(ask(Some(&identity), key, bound()).await.status, 200);
    assert_eq!(ask(Some(&other), key, bound()).await.refusal().0, 422);

    let metadata = async || secured.bench.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata().await["tls_client_certificate_bound_access_tokens"], true);
    secured.bench.service.reload("version = 1").unwrap();
    assert_eq!(metadata().await.get("tls_client_certificate_bound_access_tokens"), None);
}

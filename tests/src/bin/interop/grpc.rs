//! Python's `grpcio` as the client of the tonic example: what it reads of each refusal.

use std::time::Duration;

use countersign_testkit::{Answer, IdentityProvider};
use countersign_tests::documented::is_said;
use countersign_tests::refusals::{RefusalCase, all_cases, reason_cases};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::Result;
use crate::example::Example;
use crate::program::Program;
use crate::python::Python;
use crate::tally::Tally;

const AUDIENCE: &str = "orders";

/// The methods of `orders.v1.Orders`: the name, whether it answers with a stream, a request, the scope that it needs, and what
/// it answers a caller called `ada`. Messages are objects from field number to text.
const METHODS: [(&str, bool, &str, &str, &str); 3] = [
    ("Get", false, r#"{"1":"7"}"#, "orders:read", r#"[{"1":"7","2":"ada"}]"#),
    ("Watch", true, "{}", "orders:read", r#"[{"1":"1","2":"ada"},{"1":"2","2":"ada"},{"1":"3","2":"ada"}]"#),
    ("Cancel", false, r#"{"1":"7"}"#, "orders:write", "[{}]"),
];

/// How often a call that may be repeated is. Forced fetches are at most 5 s apart, and `retry-after` says when.
const MAX_CALLS: usize = 4;

pub(crate) async fn run(python: &Python, tally: &mut Tally) -> Result<()> {
    let mut grpcio = python.start("call.py")?;
    let idp = IdentityProvider::start();
    let server = Example::start("tonic_server", &idp.jwks_url(), idp.issuer(), AUDIENCE).await?;
    let mut caller = Caller { grpcio: &mut grpcio, target: server.address().to_owned() };
    let good = idp.token(AUDIENCE).subject("ada").scope("orders:read orders:write");

    for method in METHODS {
        let (name, .., replies) = method;
        let called = caller.call(method, &bearer(&good.sign())).await?;
        tally.check(&format!("{name}, good token"), called.is("OK", ""));
        tally
            .expect(&format!("{name}, good token: replies"), called.replies == serde_json::from_str::<Value>(replies)?);
    }
    refusals(&mut caller, &idp, tally).await?;

    // A key that the server cannot look for, because the provider does not answer.
    idp.set_answer(Answer::Stall);
    idp.rotate();
    let of_new_key = idp.token(AUDIENCE).subject("ada").scope("orders:read orders:write").sign();
    for method in METHODS {
        let called = caller.call(method, &bearer(&of_new_key)).await?;
        called.is_refused(method.0, "unknown key, stalled provider", "UNAVAILABLE", TRY_AGAIN, tally);
        tally.expect(&format!("{}: it says when to try again", method.0), called.retry_after().is_some());
        let called = caller.call(method, &bearer(&good.sign())).await?;
        tally.check(&format!("{}: meanwhile, a token of a known key", method.0), called.is("OK", ""));
    }
    idp.set_answer(Answer::Keys);
    for method in METHODS {
        let called = caller.call_until_judged(method, &bearer(&of_new_key)).await?;
        tally.check(&format!("{}: the provider answers again", method.0), called.is("OK", ""));
    }

    // No keys at all, and then some.
    let absent = IdentityProvider::start();
    absent.stop();
    let server = Example::start("tonic_server", &absent.jwks_url(), absent.issuer(), AUDIENCE).await?;
    caller.target = server.address().to_owned();
    let token = absent.token(AUDIENCE).subject("ada").scope("orders:read orders:write").sign();
    for method in METHODS {
        let called = caller.call(method, &bearer(&token)).await?;
        called.is_refused(method.0, "no keys at all", "UNAVAILABLE", "tokens cannot be checked at present", tally);
        tally.expect(&format!("{}: it says when to try again", method.0), called.retry_after().is_some());
    }
    absent.resume();
    for method in METHODS {
        let called = caller.call_until_judged(method, &bearer(&token)).await?;
        tally.check(&format!("{}: the provider has come up", method.0), called.is("OK", ""));
    }
    for case in [all_cases(), reason_cases()].concat() {
        documented(&mut grpcio, &case, tally).await?;
    }
    grpcio.finish().await
}

/// The names of the codes that a refusal can have.
fn name(code: i32) -> &'static str {
    match code {
        7 => "PERMISSION_DENIED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        16 => "UNAUTHENTICATED",
        _ => "a code that is no refusal's",
    }
}

/// A row of `REFUSALS.md`: a call that is answered by one message, and one that is answered by a stream.
async fn documented(grpcio: &mut Program, case: &RefusalCase, tally: &mut Tally) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = listener.local_addr()?.to_string();
    let app = case.app(|layer| layer);
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let metadata: Metadata =
        case.authorization.iter().map(|value| ("authorization".to_owned(), value.clone())).collect();
    for streaming in [false, true] {
        let what = format!("{}, {}", case.name, if streaming { "a stream" } else { "one message" });
        let question = json!({
            "target": target, "method": format!("/orders.v1.Orders/List{}", case.query), "streaming": streaming,
            "request": {}, "metadata": metadata,
        });
        let called: Called = grpcio.ask(&question).await?;
        called.is_refused("REFUSALS.md", &what, name(case.grpc_status), &case.grpc_message, tally);
        let retry_after = called.retry_after().map(|seconds| seconds.to_string());
        tally.expect(&format!("REFUSALS.md, {what}: retry-after"), retry_after == case.retry_after);
    }
    server.abort();
    Ok(())
}

const INVALID: &str = "the token is not valid";
const MALFORMED: &str = "the credentials are malformed";
const TRY_AGAIN: &str = "the token could not be checked yet";

/// What is the caller's fault, for each method.
async fn refusals(caller: &mut Caller<'_>, idp: &IdentityProvider, tally: &mut Tally) -> Result<()> {
    let good = idp.token(AUDIENCE).subject("ada").scope("orders:read orders:write");
    let (good_text, signature_cut) = (good.sign(), cut(&good.sign())?);
    let other = IdentityProvider::start();
    let forged = other.token(AUDIENCE).issuer(idp.issuer()).header("kid", idp.key().kid()).sign();
    let two: Metadata = [bearer(&good_text), bearer(&good_text)].concat();
    let field = |value: String| vec![("authorization".to_owned(), value)];
    let cases: [(&str, Metadata, &str); 13] = [
        ("no token", Vec::new(), "a Bearer token is needed"),
        ("another scheme", field("Basic YTpi".into()), "a Bearer token is needed"),
        ("a token elsewhere", vec![("x-token".into(), good_text.clone())], "a Bearer token is needed"),
        ("scheme without a token", field("Bearer".into()), MALFORMED),
        ("two words", field(format!("Bearer {good_text} x")), MALFORMED),
        ("joined by a comma", field(format!("Bearer {good_text}, Bearer {good_text}")), MALFORMED),
        ("two tokens", two, "there is more than one set of credentials"),
        ("no token at all", bearer("x"), INVALID),
        ("invalid signature", bearer(&forged), INVALID),
        ("no signature", bearer(&signature_cut), INVALID),
        ("expired", bearer(&good.clone().expired(Duration::from_secs(3600)).sign()), "the token has expired"),
        ("wrong audience", bearer(&good.clone().audience("invoices").sign()), INVALID),
        ("wrong issuer", bearer(&good.clone().issuer(other.issuer()).sign()), INVALID),
    ];
    for method @ (name, _, _, scope, _) in METHODS {
        for (what, metadata, details) in &cases {
            let called = caller.call(method, metadata).await?;
            called.is_refused(name, what, "UNAUTHENTICATED", details, tally);
            tally.expect(&format!("{name}, {what}: no word of trying again"), called.retry_after().is_none());
        }
        let details = format!("the token does not grant the scope needed: {scope}");
        for (what, granted) in [("no scope", ""), ("another scope", "orders:list"), ("a longer scope", "orders:reads")]
        {
            let called = caller.call(method, &bearer(&good.clone().scope(granted).sign())).await?;
            called.is_refused(name, what, "PERMISSION_DENIED", &details, tally);
        }
    }
    Ok(())
}

type Metadata = Vec<(String, String)>;

fn bearer(token: &str) -> Metadata {
    vec![("authorization".to_owned(), format!("Bearer {token}"))]
}

fn cut(token: &str) -> Result<String> {
    let (rest, _) = token.rsplit_once('.').ok_or("no signature")?;
    Ok(format!("{rest}."))
}

struct Caller<'a> {
    grpcio: &'a mut Program,
    target: String,
}

/// A line of `call.py`.
#[derive(Deserialize)]
struct Called {
    code: String,
    details: String,
    initial: Metadata,
    trailing: Metadata,
    replies: Value,
}

impl Caller<'_> {
    async fn call(&mut self, method: (&str, bool, &str, &str, &str), metadata: &Metadata) -> Result<Called> {
        let (name, streaming, request, ..) = method;
        let question = json!({
            "target": self.target, "method": format!("/orders.v1.Orders/{name}"), "streaming": streaming,
            "request": serde_json::from_str::<Value>(request)?, "metadata": metadata,
        });
        self.grpcio.ask(&question).await
    }

    /// As a client that does as `retry-after` says.
    async fn call_until_judged(&mut self, method: (&str, bool, &str, &str, &str), by: &Metadata) -> Result<Called> {
        let mut calls = 1;
        loop {
            let called = self.call(method, by).await?;
            match called.retry_after() {
                Some(seconds) if called.code == "UNAVAILABLE" && calls < MAX_CALLS => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    calls += 1;
                }
                _ => return Ok(called),
            }
        }
    }
}

impl Called {
    fn is(&self, code: &str, details: &str) -> Result<()> {
        if self.code == code && is_said(details, &self.details) {
            return Ok(());
        }
        Err(format!("{code} with {details:?} expected, it is {} with {:?}", self.code, self.details).into())
    }

    /// Whether that is all there is: no message, and nothing among the metadata that says more.
    fn is_refused(&self, method: &str, what: &str, code: &str, details: &str, tally: &mut Tally) {
        tally.check(&format!("{method}, {what}"), self.is(code, details));
        tally.expect(&format!("{method}, {what}: no reply"), self.replies == json!([]));
        let metadata: Vec<_> = self.initial.iter().chain(&self.trailing).map(|(name, _)| &**name).collect();
        // The last two are the server's: axum says how long a handler's answer is.
        let known = ["cache-control", "retry-after", "date", "content-length"];
        let terse = metadata.iter().all(|name| known.contains(name));
        let outcome = if terse { Ok(()) } else { Err(format!("{metadata:?}").into()) };
        tally.check(&format!("{method}, {what}: metadata"), outcome);
    }

    fn retry_after(&self) -> Option<u64> {
        let metadata = self.initial.iter().chain(&self.trailing);
        metadata.clone().find(|(name, _)| name == "retry-after").and_then(|(_, seconds)| seconds.parse().ok())
    }
}

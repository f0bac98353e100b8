//! Requests with any `Authorization` header fields, through the layer as users put it together.
//!
//! The input is the method's first letter, the content type, and after each line feed the value of one `Authorization` field.
//! Some octets stand for signed tokens ([`harness::with_signed_tokens`]); of the others, what no field can hold is left out.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use countersign::{Algorithm, AlgorithmSet, JwtAuth, Refusal, Verified, scope};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tower_layer::Layer as _;
use tower_service::Service;

use crate::harness::{self, SCOPE};
use crate::oracle::bearer::{self, Credentials};

/// The most fields of one request; two are refused, and so is what is more.
const MOST_FIELDS: usize = 3;

pub fn run(data: &[u8]) {
    static AUTH: LazyLock<JwtAuth> = LazyLock::new(|| {
        JwtAuth::with_keys(harness::keys())
            .issuer(harness::ISSUER)
            .audience(harness::AUDIENCE)
            .algorithms(AlgorithmSet::from_iter(Algorithm::ALL))
            .require(scope(SCOPE))
            .realm("fuzz")
            .clock(harness::now)
    });
    let Some((method, data)) = data.split_first() else { return };
    let mut lines = data.split(|octet| *octet == b'\n').map(field);
    let (method, content_type) = (method_of(*method), lines.next().unwrap_or_default());
    let fields: Vec<_> = lines.take(MOST_FIELDS).collect();

    let calls = Cell::new(0);
    let mut service = AUTH.layer(Inner(&calls));
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    let response = pin!(service.call(request(&method, &content_type, &fields)));
    // All keys are there: nothing to wait for, and no runtime to wait on.
    let Poll::Ready(Ok(response)) = response.poll(&mut context) else { panic!("not at once") };

    let expected = Expected::of(&fields);
    match expected {
        Expected::Passed => {
            assert_eq!((calls.get(), response.status().as_u16(), response.body().as_str()), (1, 202, PASSED));
        }
        Expected::Refused { .. } => {
            assert_eq!(calls.get(), 0, "the inner service was called");
            check_refusal(&response, &expected, bearer::grpc(method.as_str(), &content_type));
            let refusal: &Refusal = response.extensions().get().expect("the reason, for outer layers");
            if let Refusal::Token(refusal) = refusal {
                fields.iter().for_each(|field| harness::assert_discreet(refusal, field));
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Passed,
    Refused { status: u16, grpc_status: &'static str, error: Option<&'static str>, told: &'static str },
}

impl Expected {
    fn of(fields: &[Vec<u8>]) -> Self {
        let refused = |status, error, told| Self::Refused {
            status,
            grpc_status: if status == 403 { "7" } else { "16" },
            error,
            told,
        };
        match bearer::of(fields) {
            Credentials::None => refused(401, None, "a Bearer token is needed"),
            Credentials::Many => refused(400, Some("invalid_request"), "there is more than one set of credentials"),
            Credentials::Malformed => refused(400, Some("invalid_request"), "the credentials are malformed"),
            Credentials::Token(token) => match harness::outcome(token) {
                Some("accepted") => Self::Passed,
                Some("insufficient_scope") => {
                    refused(403, Some("insufficient_scope"), "the token does not grant the scope needed")
                }
                Some("expired") => refused(401, Some("invalid_token"), "the token has expired"),
                _ => refused(401, Some("invalid_token"), "the token is not valid"),
            },
        }
    }

    /// All header fields of the refusal, in alphabetical order: there is no room in them for anything of the request's.
    fn fields(&self, grpc: Option<&'static str>) -> Vec<(String, String)> {
        let Self::Refused { grpc_status, error, told, .. } = self else { return Vec::new() };
        let scope = if *error == Some("insufficient_scope") { SCOPE } else { "" };
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut fields = vec![field("cache-control", "no-store")];
        match (grpc, error) {
            (Some(content_type), _) => {
                let told = if scope.is_empty() { (*told).to_owned() } else { format!("{told}: {scope}") };
                fields.extend([field("content-type", content_type), field("grpc-message", &told)]);
                fields.push(field("grpc-status", grpc_status));
            }
            (None, None) => fields.push(field("www-authenticate", &format!(r#"Bearer realm="fuzz", scope="{SCOPE}""#))),
            (None, Some(error)) => {
                let mut challenge = format!(r#"Bearer realm="fuzz", error="{error}", error_description="{told}""#);
                // Who needs another token is told what it has to be good for.
                if *error != "invalid_request" {
                    challenge += &format!(r#", scope="{SCOPE}""#);
                }
                fields.push(field("www-authenticate", &challenge));
            }
        }
        fields
    }
}

fn check_refusal(response: &Response<String>, expected: &Expected, grpc: Option<&'static str>) {
    let Expected::Refused { status, .. } = expected else { return };
    let status = if grpc.is_some() { 200 } else { *status };
    assert_eq!((response.status().as_u16(), response.body().as_str()), (status, ""), "{expected:?}");
    assert_eq!(all(response.headers()), expected.fields(grpc));
}

fn all(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut fields: Vec<_> = headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    fields.sort();
    fields
}

fn method_of(letter: u8) -> Method {
    match letter {
        b'P' => Method::POST,
        b'H' => Method::HEAD,
        b'O' => Method::OPTIONS,
        b'U' => Method::PUT,
        _ => Method::GET,
    }
}

/// The value of a header field: signed tokens in place of what stands for them, without what no field can hold.
fn field(line: &[u8]) -> Vec<u8> {
    let mut value = harness::with_signed_tokens(line);
    value.retain(|octet| matches!(octet, b'\t' | 32..=126 | 128..));
    value
}

fn request(method: &Method, content_type: &[u8], fields: &[Vec<u8>]) -> Request<()> {
    let value = |octets: &[u8]| HeaderValue::from_bytes(octets).expect("what no field can hold is left out");
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    if !content_type.is_empty() {
        request.headers_mut().insert(CONTENT_TYPE, value(content_type));
    }
    for field in fields {
        request.headers_mut().append(AUTHORIZATION, value(field));
    }
    request
}

const PASSED: &str = "passed";

/// Counts its calls, and is called only with a verified token.
#[derive(Clone)]
struct Inner<'c>(&'c Cell<u32>);

impl Service<Request<()>> for Inner<'_> {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        self.0.set(self.0.get() + 1);
        let verified: &Verified = request.extensions().get().expect("what was verified");
        assert!(verified.subject() == Some("ada") && verified.has_scope(SCOPE));
        let mut response = Response::new(PASSED.to_owned());
        *response.status_mut() = http::StatusCode::ACCEPTED;
        ready(Ok(response))
    }
}

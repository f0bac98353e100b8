//! The ways to ask: each row of the first two tables in each way of the third, with `reqwest` and, for HTTP/1.0 and HEAD, with bare octets.

use std::net::SocketAddr;

use axum::Router;
use countersign::RequireJwtLayer;
use countersign_tests::documented::{Row, is_said, refusal_rows};
use countersign_tests::refusals::{Handler, RefusalCase, all_cases};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{PATIENCE, cases, serve};

/// The heading of the first column of the table of ways to ask.
const ASKED: &str = "asked with";

/// The heading of the first column of the table of problem details.
const PROBLEMS: &str = "in short, the request …";

/// What a row of the table of ways says by its name.
#[derive(Debug)]
struct Way {
    method: Method,
    version: Version,
    content_type: Option<String>,
    has_body: bool,
    setting: Setting,
}

/// What is set at the layer besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    None,
    PlainHttp,
    ProblemDetails,
}

impl Way {
    /// By its name: `GET over HTTP/2, as application/grpc, with plain_http_refusals()`.
    fn named(name: &str) -> Self {
        let (method, rest) = name.split_once(" over ").unwrap();
        let mut parts = rest.split(", ");
        let version = match parts.next().unwrap() {
            "HTTP/1.0" => Version::HTTP_10,
            "HTTP/1.1" => Version::HTTP_11,
            "HTTP/2" => Version::HTTP_2,
            other => panic!("{other}"),
        };
        let mut way = Self {
            method: method.parse().unwrap(),
            version,
            content_type: None,
            has_body: method == "POST",
            setting: Setting::None,
        };
        for part in parts {
            match part {
                "with a body" => assert!(way.has_body),
                "with plain_http_refusals()" => way.setting = Setting::PlainHttp,
                "with problem_details()" => way.setting = Setting::ProblemDetails,
                part => way.content_type = Some(part.strip_prefix("as ").unwrap().to_owned()),
            }
        }
        way
    }

    fn app(&self, case: &RefusalCase) -> Router {
        match (self.setting, &case.handler) {
            (Setting::ProblemDetails, Handler::WithoutLayer) => case.routes(),
            (Setting::ProblemDetails, _) => case.routes().layer(case.layer.clone().problem_details()),
            (Setting::PlainHttp, _) => case.app(RequireJwtLayer::plain_http_refusals),
            (Setting::None, _) => case.app(|layer| layer),
        }
    }

    async fn ask(&self, address: SocketAddr, case: &RefusalCase) -> Answer {
        match (&self.method, self.version) {
            (_, Version::HTTP_10) | (&Method::HEAD, Version::HTTP_11) => self.ask_in_octets(address, case).await,
            _ => self.ask_by_reqwest(address, case).await,
        }
    }

    async fn ask_by_reqwest(&self, address: SocketAddr, case: &RefusalCase) -> Answer {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
        let client = match self.version {
            Version::HTTP_2 => client.http2_prior_knowledge(),
            _ => client.http1_only(),
        };
        let url = format!("http://{address}/orders.Orders/List{}", case.query);
        let mut request = client.build().unwrap().request(self.method.clone(), url);
        for value in &case.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(content_type) = &self.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if self.has_body {
            request = request.body(BODY);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.version(), self.version);
        Answer { status: response.status(), headers: response.headers().clone(), body: response.text().await.unwrap() }
    }

    /// All octets until the server closes the connection: nothing is taken for the end of a response that is not.
    async fn ask_in_octets(&self, address: SocketAddr, case: &RefusalCase) -> Answer {
        let authorization: String =
            case.authorization.iter().map(|value| format!("authorization: {value}\r\n")).collect();
        // No `Host` in HTTP/1.0, as it has none.
        let own = if self.version == Version::HTTP_10 { "" } else { "host: x\r\nconnection: close\r\n" };
        let (method, query, version) = (&self.method, &case.query, self.version);
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} /{query} {version:?}\r\n{own}{authorization}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut response));
        read.await.expect("it was not closed").unwrap();
        Answer::parse(&response, self.version)
    }
}

/// A message of gRPC without content; as good a body as any other.
const BODY: &[u8] = b"\0\0\0\0\0";

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn parse(octets: &str, version: Version) -> Self {
        let (head, body) = octets.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().strip_prefix(&format!("{version:?} ")).unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        Self { status: status[..3].parse().unwrap(), headers: lines.map(field).collect(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        assert!(self.headers.get_all(name).iter().count() <= 1, "{name} twice");
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What comes back is what the row of the case and the row of the way say together.
fn compare(case: &RefusalCase, way: &Row, asked: &Way, answer: &Answer) {
    let shown = format!("{}: {}", case.name, way.cell(ASKED));
    let of_case = |name| case.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    // Nobody has told a handler without a layer how to refuse.
    let is_grpc_all_the_same = asked.setting == Setting::PlainHttp && matches!(case.handler, Handler::WithoutLayer);
    let status = match way.cell("HTTP") {
        "as above" if is_grpc_all_the_same => 200,
        "as above" => case.status,
        literal => literal.parse().unwrap(),
    };
    assert_eq!(answer.status, status, "{shown}");

    let challenge = match way.said("WWW-Authenticate") {
        Some("as above") => of_case("www-authenticate"),
        other => other,
    };
    assert_eq!(answer.header("www-authenticate"), challenge, "{shown}");
    assert_eq!(answer.header("retry-after"), of_case("retry-after"), "{shown}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{shown}");

    let is_grpc = is_grpc_all_the_same || way.said("gRPC").is_some();
    let grpc_status = is_grpc.then(|| case.grpc_status.to_string());
    assert_eq!(answer.header("grpc-status"), grpc_status.as_deref(), "{shown}");
    let message = answer.header("grpc-message").map(decoded);
    assert!(message.is_some() == is_grpc && message.is_none_or(|said| is_said(&case.grpc_message, &said)), "{shown}");

    // Out of axum's extractors; a route's own layer has no text.
    let (is_misconfigured, is_by_route) = (!is_grpc && case.status == 500, matches!(case.handler, Handler::Fresh(_)));
    let text_for_developers = is_misconfigured && !is_by_route;
    let content_type = match way.said("content type") {
        _ if is_grpc_all_the_same => Some("application/grpc"),
        _ if text_for_developers => Some("text/plain; charset=utf-8"),
        _ if is_misconfigured => None,
        other => other,
    };
    assert_eq!(answer.header("content-type"), content_type, "{shown}");
    match way.cell("body") {
        _ if asked.method == Method::HEAD => assert_eq!(answer.body, "", "{shown}"),
        _ if text_for_developers => assert!(is_said(&case.grpc_message, &answer.body), "{shown}"),
        _ if is_misconfigured => assert_eq!(answer.body, "", "{shown}"),
        "none" => assert_eq!(answer.body, "", "{shown}"),
        "problem details" => check_problem(case, answer, &shown),
        other => panic!("{other}"),
    }
    let known = [
        "cache-control",
        "connection",
        "content-length",
        "content-type",
        "date",
        "grpc-message",
        "grpc-status",
        "retry-after",
        "www-authenticate",
    ];
    assert!(answer.headers.keys().all(|name| known.contains(&name.as_str())), "{shown}: {:?}", answer.headers);
}

/// As gRPC clients decode `grpc-message`.
fn decoded(message: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = message.as_bytes();
    while let [octet, tail @ ..] = rest {
        rest = tail;
        match (octet, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                octets.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = tail;
            }
            _ => octets.push(*octet),
        }
    }
    String::from_utf8(octets).unwrap()
}

/// It says what status and challenge say, and nothing else.
fn check_problem(case: &RefusalCase, answer: &Answer, shown: &str) {
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    let parameter = |name: &str| {
        let (_, rest) = challenge.split_once(&format!(" {name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let mut expected = serde_json::json!({
        "type": "about:blank",
        "title": answer.status.canonical_reason(),
        "status": answer.status.as_u16(),
        // The scopes that are needed stand behind it.
        "detail": parameter("error_description").unwrap_or(&case.grpc_message),
    });
    // The scopes of a challenge to who has no good token are where to begin, and no part of the problem.
    let is_denied = ["insufficient_scope", "insufficient_user_authentication"].map(Some).contains(&parameter("error"));
    for name in ["error", "scope", "acr_values"] {
        if let Some(value) = parameter(name).filter(|_| name == "error" || is_denied) {
            expected[name] = value.into();
        }
    }
    if let Some(seconds) = parameter("max_age") {
        expected["max_age"] = seconds.parse::<u64>().unwrap().into();
    }
    assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), expected, "{shown}");
}

#[tokio::test]
async fn each_row_however_it_is_asked() {
    let ways = refusal_rows(ASKED);
    assert!(ways.len() > 10);
    for case in all_cases() {
        for row in &ways {
            let way = Way::named(row.cell(ASKED));
            let address = serve(way.app(&case)).await;
            compare(&case, row, &way, &way.ask(address, &case).await);
        }
    }
}

/// The reasons differ in nothing that a client sees, so three ways do.
#[tokio::test]
async fn each_reason_over_http_1_http_2_and_grpc() {
    let rows = refusal_rows(ASKED);
    for name in ["GET over HTTP/1.1", "GET over HTTP/2", "POST over HTTP/2, as application/grpc"] {
        let row = rows.iter().find(|row| row.cell(ASKED) == name).unwrap();
        let way = Way::named(name);
        for case in cases() {
            let address = serve(way.app(&case)).await;
            compare(&case, row, &way, &way.ask(address, &case).await);
        }
    }
}

#[tokio::test]
async fn head_gets_the_head_of_get() {
    for setting in ["", ", with problem_details()"] {
        for case in all_cases() {
            let mut heads = Vec::new();
            for method in ["GET", "HEAD"] {
                let way = Way::named(&format!("{method} over HTTP/1.1{setting}"));
                let mut answer = way.ask_in_octets(serve(way.app(&case)).await, &case).await;
                assert!(method == "GET" || answer.body.is_empty(), "{}", case.name);
                answer.headers.remove("date");
                let length = answer.headers.remove("content-length");
                heads.push((answer.status, answer.headers, length));
            }
            let [(status, headers, length), head] = &heads[..] else { unreachable!() };
            assert_eq!((status, headers), (&head.0, &head.1), "{}", case.name);
            // Which may be left out (RFC 9110 §8.6).
            assert!(head.2.is_none() || head.2 == *length, "{}", case.name);
        }
    }
}

#[tokio::test]
async fn problem_details_are_those_in_the_table() {
    let (rows, cases) = (refusal_rows(PROBLEMS), all_cases());
    assert!(rows.len() >= 8);
    for row in rows {
        let name = row.cell(PROBLEMS);
        let case = cases.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("{name}"));
        let way = Way::named("GET over HTTP/1.1, with problem_details()");
        let answer = way.ask(serve(way.app(case)).await, case).await;
        let expected: Value = serde_json::from_str(row.cell("body")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), expected, "{name}");
    }
}

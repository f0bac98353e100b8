//! Every kind of refusal: how to get it, and what `REFUSALS.md` says of it. It is the same on every stack.

mod cases;
mod reasons;

use std::future::{Ready, pending};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use countersign::claims::UnixTime;
use countersign::claims::revocation::{Changed, Judged, Revocations, Verdict};
use countersign::middleware::require_fresh;
use countersign::token::{Answer, Ask, KeySource, Miss};
use countersign::{
    Algorithm, Authenticated, Claims, KeySet, Permit, Policy, RequireJwtLayer, Requirement, Verifier, permission,
    require, scope,
};
use countersign_testkit::{TestKey, Token};

use crate::documented::{Row, refusal_rows};

/// The audience of all tokens here.
pub const AUDIENCE: &str = "orders";

/// The heading of the first column of the table that [`all_cases`] are the rows of.
pub const CASES: &str = "the request …";

/// The heading of the first column of the table that [`reason_cases`] are the rows of.
pub const REASONS: &str = "reason";

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

/// What is known of revocations: the same of each token.
#[derive(Debug)]
struct Known {
    verdict: Verdict,
    age: Option<Duration>,
    /// How often it is asked of a token first, and says that nothing revokes it.
    skipped: usize,
    asked: AtomicUsize,
}

impl Known {
    /// That, and quite new.
    fn always(verdict: Verdict) -> Self {
        Self { verdict, age: Some(Duration::ZERO), skipped: 0, asked: AtomicUsize::new(0) }
    }

    /// Nothing is revoked, and that is so old.
    fn aged(age: Duration) -> Self {
        Self { age: Some(age), ..Self::always(Verdict::Fresh) }
    }

    /// That, of each token that is asked of a second time.
    fn later(verdict: Verdict) -> Self {
        Self { skipped: 1, ..Self::always(verdict) }
    }
}

impl Revocations for Known {
    fn check(&self, _: &Judged<'_>) -> Verdict {
        let nth = self.asked.fetch_add(1, Ordering::SeqCst) % (self.skipped + 1);
        if nth == self.skipped { self.verdict } else { Verdict::Fresh }
    }

    fn age(&self, _: UnixTime) -> Option<Duration> {
        self.age
    }

    fn changed(&self) -> Changed {
        Box::pin(pending())
    }
}

/// A refusal, how to get it, and what it says.
#[derive(Clone, Debug)]
pub struct RefusalCase {
    /// The first cell of its row.
    pub name: &'static str,
    /// What is around the handler, unless that has none.
    pub layer: RequireJwtLayer<Fixed>,
    /// What is within.
    pub handler: Handler,
    /// One `Authorization` header for each.
    pub authorization: Vec<String>,
    /// The query, with its `?`.
    pub query: String,
    /// Over HTTP.
    pub status: u16,
    /// Over HTTP; `cache-control: no-store`, and whatever the server itself adds, come on top.
    pub headers: Vec<(&'static str, String)>,
    /// Over gRPC.
    pub grpc_status: i32,
    /// Over gRPC, decoded.
    pub grpc_message: String,
    /// Over both, in seconds.
    pub retry_after: Option<String>,
    /// [`Refusal::code`](countersign::Refusal::code), if it is a refusal.
    pub reason: Option<String>,
    /// The labels `outcome` and `reason` of `countersign_requests_total`, for each time that the request is counted.
    pub counted: Vec<(String, String)>,
}

/// What a request comes to that the layer lets through.
#[derive(Clone, Debug)]
pub enum Handler {
    /// Lets in everybody.
    Open,
    /// Needs a caller.
    Caller,
    /// Needs a claim `tenant`.
    Claims,
    /// Asks the caller for this.
    Asks(Requirement),
    /// Stands behind a layer of its own that demands this.
    Route(Requirement),
    /// Stands behind a layer of its own that demands that what is known of revocations is not older.
    Fresh(Duration),
    /// Demands the same by itself.
    AsksFresh(Duration),
    /// Needs a [`Permit`] for `orders:write`.
    Permit,
    /// Needs a caller, and has no layer around it.
    WithoutLayer,
}

permission! {
    /// May write orders.
    pub WriteOrders = scope("orders:write");
}

#[derive(serde::Deserialize)]
struct Tenancy {
    #[expect(dead_code, reason = "that it is there is what is looked at")]
    tenant: String,
}

impl RefusalCase {
    /// A service that refuses every request with these credentials, whatever its method and path are. `change` changes the layer.
    pub fn app(&self, change: impl FnOnce(RequireJwtLayer<Fixed>) -> RequireJwtLayer<Fixed>) -> Router {
        match self.handler {
            Handler::WithoutLayer => self.routes(),
            _ => self.routes().layer(change(self.layer.clone())),
        }
    }

    /// The service, without its layer.
    pub fn routes(&self) -> Router {
        Router::new().fallback_service(self.handler.service())
    }

    /// Whether the request does not get beyond the layer.
    fn is_by_the_layer(&self) -> bool {
        matches!(self.handler, Handler::Open)
    }

    /// With what the document says of it in the row of that name.
    fn documented(self, rows: &[Row]) -> Self {
        let row = rows.iter().find(|row| row.cell(CASES) == self.name);
        let row = row.unwrap_or_else(|| unreachable!("REFUSALS.md has no row {:?}", self.name));
        let text = |heading: &str| row.said(heading).map(ToOwned::to_owned);
        let number = |heading: &str| row.cell(heading).parse().unwrap_or_default();
        let headers = [("www-authenticate", text("WWW-Authenticate")), ("retry-after", text("Retry-After"))];
        let pair = |counted: &str| counted.split_once(' ').map(|(outcome, reason)| (outcome.into(), reason.into()));
        Self {
            status: number("HTTP"),
            headers: headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            grpc_status: number("gRPC").into(),
            grpc_message: text("gRPC message").unwrap_or_default(),
            retry_after: text("Retry-After"),
            reason: text("reason"),
            counted: row.cell("counted as").split(", then ").filter_map(pair).collect(),
            ..self
        }
    }
}

impl Handler {
    fn service(&self) -> MethodRouter {
        match self {
            Self::Open => any(async || INSIDE),
            Self::Caller | Self::WithoutLayer => any(async |_: Authenticated| INSIDE),
            Self::Claims => any(async |_: Claims<Tenancy>| INSIDE),
            Self::Permit => any(async |_: Permit<WriteOrders>| INSIDE),
            Self::Route(requirement) => any(async || INSIDE).layer(require(requirement.clone())),
            Self::Fresh(max_age) => any(async || INSIDE).layer(require_fresh(*max_age)),
            Self::AsksFresh(max_age) => {
                let max_age = *max_age;
                any(async move |request: Request| asks_fresh(max_age, request))
            }
            Self::Asks(requirement) => {
                let requirement = requirement.clone();
                any(async move |request: Request| asks(&requirement, request))
            }
        }
    }
}

/// What handlers say to those who are let in.
const INSIDE: &str = "inside";

/// By hand, as without a framework.
fn asks(requirement: &Requirement, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let caller = match Authenticated::from_extensions(&head.extensions) {
        Ok(caller) => caller,
        Err(error) => return error.into_response(&head.method, &head.headers, &head.extensions),
    };
    match caller.require(requirement) {
        Ok(()) => Response::new(INSIDE.into()),
        Err(forbidden) => forbidden.into_response(&head.method, &head.headers, None),
    }
}

fn asks_fresh(max_age: Duration, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let caller = match Authenticated::from_extensions(&head.extensions) {
        Ok(caller) => caller,
        Err(error) => return error.into_response(&head.method, &head.headers, &head.extensions),
    };
    match caller.require_fresh(max_age) {
        Ok(()) => Response::new(INSIDE.into()),
        Err(not_fresh) => not_fresh.into_response(&head.method, &head.headers),
    }
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

/// The rows of the first table whose refusal is by the layer, with what the document says of each.
///
/// # Panics
/// If the document has no such row.
#[must_use]
pub fn refusal_cases() -> Vec<RefusalCase> {
    all_cases().into_iter().filter(|case| case.is_by_the_layer() && case.query.is_empty()).collect()
}

/// All rows of the first table, with what the document says of each.
///
/// # Panics
/// If the document has no such row.
#[must_use]
pub fn all_cases() -> Vec<RefusalCase> {
    let rows = refusal_rows(CASES);
    cases::cases().into_iter().map(|case| case.documented(&rows)).collect()
}

/// The rows of the table of reasons, with what the document says of the row that each is refused as.
///
/// # Panics
/// If the document has no such row.
#[must_use]
pub fn reason_cases() -> Vec<RefusalCase> {
    let (rows, reasons) = (refusal_rows(CASES), refusal_rows(REASONS));
    let refused_as = |case: RefusalCase| {
        let reason = case.name;
        let row = reasons.iter().find(|row| row.cell(REASONS) == reason);
        let row = row.unwrap_or_else(|| unreachable!("REFUSALS.md has no reason {reason:?}"));
        let counted = vec![("refused".to_owned(), reason.to_owned())];
        let name = cases::named(row.cell("refused as"));
        let case = RefusalCase { name, ..case }.documented(&rows);
        RefusalCase { name: reason, reason: Some(reason.to_owned()), counted, ..case }
    };
    reasons::cases().into_iter().map(refused_as).collect()
}

fn key() -> TestKey {
    TestKey::nth(Algorithm::Es256, 0)
}

fn layer_over(keys: Option<KeySet>, answer: Answer) -> RequireJwtLayer<Fixed> {
    layer_of(keys, answer, Policy::new(), |verifier| verifier)
}

fn layer_of(
    keys: Option<KeySet>,
    answer: Answer,
    policy: Policy,
    change: impl FnOnce(Verifier<Fixed>) -> Verifier<Fixed>,
) -> RequireJwtLayer<Fixed> {
    RequireJwtLayer::new(change(Verifier::new(Fixed { keys, answer }, policy.audience(AUDIENCE)))).realm("orders")
}

/// Keys that the key of [`token`] is not among.
fn other_keys() -> Option<KeySet> {
    Some(KeySet::new([TestKey::nth(Algorithm::Es256, 1).verifying_key()]))
}

/// A case of that name, of which nothing is known yet.
fn case(name: &'static str, layer: RequireJwtLayer<Fixed>, authorization: Vec<String>) -> RefusalCase {
    RefusalCase {
        name,
        layer,
        handler: Handler::Open,
        authorization,
        query: String::new(),
        status: 0,
        headers: Vec::new(),
        grpc_status: 0,
        grpc_message: String::new(),
        retry_after: None,
        reason: None,
        counted: Vec::new(),
    }
}

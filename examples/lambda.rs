//! A function for AWS Lambda, behind API Gateway or a function URL: `cargo build -p countersign-examples-lambda`.
//!
//! It wants Lambda's runtime around it, and its settings in the environment: `JWKS_URL`, `ISSUER`, `AUDIENCE`, and perhaps
//! `KEY_LIFETIME_SECONDS`. `lambda/tests/` has enough of a runtime to run it.
//!
//! # What a freeze changes
//!
//! From the moment when a function asks for its next event until there is one, Lambda freezes its process, and with it
//! the task that looks after the keys: nobody fetches ahead of time, and nobody asks an issuer again that was down. After
//! the thaw the task's timers ring at once. But an invocation may be over in a millisecond, and a fetch that is frozen
//! half-way is lost. So init waits for the task, and so do the invocations that need it:
//!
//! | when | what waits | at most |
//! |---|---|---|
//! | cold start | init, for the first keys | 5 s; without them it starts all the same |
//! | no keys: the issuer was down at init, or the freeze was longer than `max_stale` | the invocation, for keys | 4 s, then 503 |
//! | keys past their lifetime | the invocation, for a refresh | 1 s; then their old state will do, for 30 s |
//! | a token of a new key: the issuer has rotated meanwhile | the request, in the layer | 2 s |
//! | none of these | nothing | |
//!
//! A key that the issuer withdraws is refused by the first invocation after the lifetime of the keys (five minutes, if the
//! issuer says nothing else); while the issuer does not answer, it is accepted until `max_stale` (24 hours). That is as it
//! would be without freezes.
//!
//! Give the function a time-out of ten seconds: Lambda's default of three is less than an invocation may have to wait.

use std::convert::Infallible;
use std::env;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign::handler::Claims;
use countersign::{JwtAuth, KeysHandle};
use lambda_http::{Body, Error, Request, Response, run};
use serde::Deserialize;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

/// How long init waits for keys: half of what Lambda gives it, since an issuer that is down must not fail the start.
const INIT_WAIT: Duration = Duration::from_secs(5);

/// How long an invocation waits for keys if there are none. A look that hangs is abandoned after two seconds and the next
/// begins one second later, so that an issuer that answers again is heard within one invocation.
const WAIT_WITHOUT_KEYS: Duration = Duration::from_secs(4);

/// How long an invocation waits for a refresh of keys that are still good for something.
const WAIT_WITH_OLD_KEYS: Duration = Duration::from_secs(1);

/// How long after such a wait nobody waits again: an issuer's outage must not slow every invocation down.
const WAIT_AGAIN_AFTER: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

/// Called with good tokens only: the layer is around it.
async fn hello(request: Request) -> Result<Response<Body>, Infallible> {
    Ok(match Claims::<MyClaims>::from_extensions(request.extensions()) {
        Ok(claims) => Response::new(format!("Hello, {}!", claims.sub).into()),
        Err(error) => error.into_response(request.method(), request.headers(), request.extensions()),
    })
}

/// The keys, and when an invocation last waited in vain for a refresh of them.
struct Thawing {
    keys: KeysHandle,
    waited: Mutex<Option<Instant>>,
}

impl Thawing {
    /// Gives the keys' task the time that it needs, if it needs any.
    async fn catch_up(&self) {
        if !self.keys.is_ready() {
            let _ = self.keys.ready_within(WAIT_WITHOUT_KEYS).await;
        } else if self.may_wait() && self.keys.fresh_within(WAIT_WITH_OLD_KEYS).await.is_err() {
            *self.waited.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    fn may_wait(&self) -> bool {
        let waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        waited.is_none_or(|waited| waited.elapsed() >= WAIT_AGAIN_AFTER)
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut auth = JwtAuth::new(env::var("JWKS_URL")?).issuer(env::var("ISSUER")?).audience(env::var("AUDIENCE")?);
    if let Ok(seconds) = env::var("KEY_LIFETIME_SECONDS") {
        auth = auth.default_lifetime(Duration::from_secs(seconds.parse()?));
    }
    let thawing = Thawing { keys: auth.handle().keys().clone(), waited: Mutex::default() };
    let _ = thawing.keys.ready_within(INIT_WAIT).await;

    let service = ServiceBuilder::new().layer(auth).service(service_fn(hello));
    run(service_fn(|request| async {
        thawing.catch_up().await;
        service.clone().oneshot(request).await
    }))
    .await
}

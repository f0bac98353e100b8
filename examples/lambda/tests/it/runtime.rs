//! As much of the Lambda Runtime API (version 2018-06-01) as a function needs.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use countersign_examples::send_signal;
use countersign_testkit::IdentityProvider;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

/// Lambda's own limit on init.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The time-out that the example's documentation recommends.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(10);

/// A function in an execution environment: frozen but for its invocations. It ends with this.
pub(crate) struct Function {
    process: Child,
    said: mpsc::UnboundedReceiver<Said>,
    events: mpsc::UnboundedSender<Value>,
    /// How long it took until it first asked for an event.
    pub(crate) init: Duration,
}

/// What an invocation came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) body: String,
    headers: Value,
    /// From the thaw to the answer.
    pub(crate) took: Duration,
}

/// What a function tells the runtime.
#[derive(Debug)]
enum Said {
    /// "Next!"
    Next,
    Response(String, Value),
    Error(String),
}

struct Api {
    said: mpsc::UnboundedSender<Said>,
    events: Mutex<mpsc::UnboundedReceiver<Value>>,
}

impl Function {
    /// Starts it, trusting this issuer for the audience `orders`, and waits until it asks for its first event.
    pub(crate) async fn start(idp: &IdentityProvider) -> Self {
        Self::start_with(idp, &[]).await
    }

    pub(crate) async fn start_with(idp: &IdentityProvider, environment: &[(&str, &str)]) -> Self {
        let (told, said) = mpsc::unbounded_channel();
        let (events, waiting) = mpsc::unbounded_channel();
        let api = Arc::new(Api { said: told, events: Mutex::new(waiting) });
        let app = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(error))
            .with_state(api);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });

        let started = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_lambda"))
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "orders")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("JWKS_URL", idp.jwks_url())
            .env("ISSUER", idp.issuer())
            .env("AUDIENCE", "orders")
            .envs(environment.iter().copied())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut function = Self { process, said, events, init: Duration::ZERO };
        assert!(matches!(function.hear(INIT_TIMEOUT).await, Said::Next));
        function.init = started.elapsed();
        function.freeze();
        function
    }

    /// Thaws it, has it answer a `GET /hello` with this token, and freezes it when it asks for more.
    pub(crate) async fn invoke(&mut self, authorization: Option<&str>) -> Answer {
        let thawed = Instant::now();
        self.signal("CONT");
        self.events.send(event(authorization)).unwrap();
        let Said::Response(id, answer) = self.hear(FUNCTION_TIMEOUT).await else { panic!("no response") };
        let took = thawed.elapsed();
        assert_eq!(id, "1");
        assert!(matches!(self.hear(FUNCTION_TIMEOUT).await, Said::Next));
        self.freeze();
        Answer {
            status: answer["statusCode"].as_u64().unwrap(),
            body: answer["body"].as_str().unwrap_or_default().to_owned(),
            headers: answer["headers"].clone(),
            took,
        }
    }

    fn freeze(&self) {
        self.signal("STOP");
    }

    fn signal(&self, signal: &str) {
        send_signal(signal, self.process.id().unwrap());
    }

    async fn hear(&mut self, within: Duration) -> Said {
        match timeout(within, self.said.recv()).await.expect("Lambda would have ended it by now").unwrap() {
            Said::Error(error) => panic!("the function failed: {error}"),
            said => said,
        }
    }
}

impl Answer {
    /// Status and body.
    pub(crate) fn content(&self) -> (u64, &str) {
        (self.status, &self.body)
    }

    /// A header field, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].as_str().unwrap_or_default()
    }
}

async fn next(State(api): State<Arc<Api>>) -> Response {
    api.said.send(Said::Next).unwrap();
    let event = api.events.lock().await.recv().await;
    let deadline = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + FUNCTION_TIMEOUT;
    let headers = [
        ("lambda-runtime-aws-request-id", "1".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:1:function:orders".to_owned()),
    ];
    (headers, Json(event)).into_response()
}

/// Its body is JSON, and no header says so.
async fn response(State(api): State<Arc<Api>>, Path(id): Path<String>, answer: String) -> StatusCode {
    let answer = serde_json::from_str(&answer).unwrap();
    api.said.send(Said::Response(id, answer)).unwrap();
    StatusCode::ACCEPTED
}

async fn error(State(api): State<Arc<Api>>, error: String) -> StatusCode {
    api.said.send(Said::Error(error)).unwrap();
    StatusCode::ACCEPTED
}

/// What API Gateway makes of a request (payload format 2.0).
fn event(authorization: Option<&str>) -> Value {
    let mut headers = json!({ "host": "orders.example", "accept": "*/*" });
    if let Some(authorization) = authorization {
        headers["authorization"] = authorization.into();
    }
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/hello",
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "accountId": "1",
            "apiId": "api",
            "domainName": "orders.example",
            "domainPrefix": "orders",
            "http": { "method": "GET", "path": "/hello", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test" },
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "21/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1_795_262_400_000_u64,
        },
        "isBase64Encoded": false,
    })
}

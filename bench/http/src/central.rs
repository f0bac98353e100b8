//! A client of the central validator, as RFC 7662 has it: a kept-alive pool, and one request per token.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use crate::Failure;
use crate::tokens::Caller;

/// As many as there may be requests at a time: none ever waits for a connection to be made.
const IDLE_CONNECTIONS: usize = 256;

/// What the validator says.
pub enum Verdict {
    Active(Caller),
    Inactive,
}

#[derive(Deserialize)]
struct Answer {
    active: bool,
    #[serde(flatten)]
    caller: Option<Caller>,
}

#[derive(Clone)]
pub struct Central {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Arc<Uri>,
}

impl Central {
    pub fn new(address: &str) -> Result<Self, Failure> {
        Ok(Self { client: client(), uri: Arc::new(format!("http://{address}/introspect").parse()?) })
    }

    pub async fn ask(&self, token: &str) -> Result<Verdict, Failure> {
        let mut request = Request::post(&*self.uri).body(Full::from(format!("token={token}")))?;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form);
        let response = self.client.request(request).await?;
        if !response.status().is_success() {
            return Err(format!("the validator answered {}", response.status()).into());
        }
        let answer: Answer = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
        Ok(match answer {
            Answer { active: true, caller: Some(caller) } => Verdict::Active(caller),
            Answer { .. } => Verdict::Inactive,
        })
    }
}

/// The leanest client there is: what is measured is the pattern, and not a library.
pub fn client() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_CONNECTIONS).build(connector)
}

//! Requests that their clients have signed, one by one.

mod body;
mod refusal;
mod service;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::signed_request::{BaseUrl, NoTarget, SingleUse};
use countersign_claims::{Clock, ConfigError, ReplayMemory};
use countersign_token::KeySource;
use http::{Uri, Version};
use tower_layer::Layer;

use crate::gate::Gate;
use crate::service::RequireJwt;

pub use self::body::SignedBody;
pub use self::refusal::RequestRefusal;
pub use self::service::{SignedRequest, SignedRequestFuture};

/// The longest body of a signed request, unless another limit is set, bytes: it is in memory before it is known whether its
/// client has signed it.
pub const DEFAULT_MAX_SIGNED_BODY: usize = 64 * 1024;

/// What a service demands of signed requests: for [`RequireJwtLayer::signed_requests`](crate::RequireJwtLayer::signed_requests).
///
/// The token and its rules are on the page of [`countersign_claims::signed_request`]. Here, in this order: the token, by the
/// layer as always; method and URL (401), a target that can be read in two ways (400); whether it was used before (401), and
/// whether that is known (503); then the body is read, to its end, up to a limit (413); it is what was signed (401); and the token
/// is used up. The inner service is called after all that, with a [`SignedBody`].
///
/// Refusals that come behind the token are [`Refusal::Request`](crate::Refusal::Request); observers hear of them as of those by
/// handlers ([`Judged::is_by_handler`](crate::Judged::is_by_handler)), metrics have them under the reason `other`, and a
/// [`RefusalLimit`](crate::RefusalLimit) is not asked: the token is a good one.
///
/// - **The URL** is the base URL that is given here, with the path and query that this layer sees. `Host` and `:authority` say
///   nothing, so the inner service must not go by them; an absolute URL in an HTTP/1 request line has to begin with the base's origin. Within
///   axum's `nest` the layer does not see the prefix: then the base has it.
/// - **Headers and trailers are not signed.** Trailers do not go on. Who goes by `X-HTTP-Method-Override`,
///   `X-Original-URL` and the like does what was not signed.
/// - **The body** is what arrives here: nothing outside of this layer may decompress it. How long it may take to come is
///   `body_time` (the feature `tokio`); without it, whatever serves the connections has to see to it.
/// - **gRPC**: a body that is read to its end before anybody sees it is no stream. Unary calls work; what is in their metadata is
///   not signed.
/// - **Each process** remembers for itself what was used. Those behind one base URL each take a token once: give each an
///   audience of its own, or see to it that one client always comes to the same.
///
/// ```
/// use std::convert::Infallible;
///
/// use countersign_claims::signed_request::RequestSigner;
/// use countersign_claims::{Clock, Policy, Verified};
/// use countersign_token::{Algorithm, KeySet, SigningKey};
/// use countersign_tower::{RequireJwtLayer, SignedBody, SignedRequests, SystemClock};
/// use countersign_verifier::Verifier;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = SigningKey::generate(Algorithm::Es256)?;
/// let keys = KeySet::new([key.verifying_key()?.bound_to_issuer("billing")]);
/// let policy = Policy::new().audience("https://api.example").signed_request_profile();
/// let requests = SignedRequests::new("https://api.example");
/// # // As in a process that began a minute ago: one that has just begun takes none.
/// # let began = SystemClock.now().saturating_sub(std::time::Duration::from_secs(60));
/// # let once = countersign_claims::signed_request::SingleUse::new(
/// #     countersign_claims::ReplayMemory::default(),
/// #     began,
/// #     countersign_claims::signed_request::LEEWAY,
/// # );
/// # let requests = requests.single_use(std::sync::Arc::new(once));
/// let verifier = Verifier::new(keys, policy).without_token_cache();
/// let layer = RequireJwtLayer::new(verifier).signed_requests(requests);
/// let service = ServiceBuilder::new().layer(layer).service(service_fn(async |request: Request<SignedBody>| {
///     let client = request.extensions().get::<Verified>().and_then(Verified::subject).unwrap_or("nobody").to_owned();
///     Ok::<_, Infallible>(Response::new(format!("{client}: {} bytes", request.into_body().into_bytes().len())))
/// }));
///
/// let signer = RequestSigner::new(key, "billing", "https://api.example")?;
/// let token = signer.sign("POST", "https://api.example/orders?dry=1", b"{}", SystemClock.now())?;
/// let request = |body: &'static str| {
///     let request = Request::post("/orders?dry=1").header("authorization", format!("Bearer {token}"));
///     request.body(Full::new(bytes::Bytes::from(body))).unwrap()
/// };
/// assert_eq!(service.clone().oneshot(request("[]")).await?.status(), 401);
/// assert_eq!(service.clone().oneshot(request("{}")).await?.body(), "billing: 2 bytes");
/// assert_eq!(service.oneshot(request("{}")).await?.status(), 401);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SignedRequests {
    base: Result<BaseUrl, ConfigError>,
    most: usize,
    once: Option<Arc<SingleUse>>,
    body_time: Option<Duration>,
}

/// Takes only requests that their clients have signed. Made by
/// [`RequireJwtLayer::signed_requests`](crate::RequireJwtLayer::signed_requests). Clones, and the services that they make, share what they
/// remember.
pub struct SignedRequestLayer<K> {
    gate: Arc<Gate<K>>,
    rules: Rules,
}

/// What the services share.
#[derive(Clone)]
pub(crate) struct Rules {
    settings: Arc<SignedRequests>,
    once: Arc<SingleUse>,
    clock: Arc<dyn Clock>,
}

impl SignedRequests {
    /// For the service that its clients know under this URL: scheme, host and port, and the path that it is below, if it is below
    /// one; without a slash at its end, such as `https://api.example`.
    ///
    /// What is no such URL is a configuration error.
    #[must_use]
    pub fn new(base_url: &str) -> Self {
        let base = BaseUrl::parse(base_url).map_err(|error| {
            ConfigError::Other(format!("the base URL {base_url:?} of signed requests: {error}").into())
        });
        Self { base, most: DEFAULT_MAX_SIGNED_BODY, once: None, body_time: None }
    }

    /// The longest body, bytes; [`DEFAULT_MAX_SIGNED_BODY`] if it is not set.
    #[must_use]
    pub fn max_body_bytes(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// How long a body may take to come; then it is 408. Without it the layer knows no time. Needs a tokio runtime with its timer
    /// wherever requests are served.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub fn body_time(mut self, most: Duration) -> Self {
        self.body_time = Some(most);
        self
    }

    /// What remembers that tokens were used, in place of one of the layer's own, which begins when the layer is made: one that
    /// outlives layers, or that several share.
    #[must_use]
    pub fn single_use(mut self, once: Arc<SingleUse>) -> Self {
        self.once = Some(once);
        self
    }

    /// The URL of a request as its client has to have signed it.
    ///
    /// # Errors
    /// [`NoTarget`]: its target can be read in more than one way, or is for another origin.
    pub fn url_of(&self, version: Version, uri: &Uri) -> Result<String, NoTarget> {
        let base = self.base.as_ref().map_err(|_| NoTarget)?;
        // In HTTP/2 and later every target has both, as the last proxy has written them.
        if version < Version::HTTP_2
            && let Some(authority) = uri.authority()
        {
            let scheme = uri.scheme_str().ok_or(NoTarget)?;
            if base.origin() != format!("{scheme}://{authority}") {
                return Err(NoTarget);
            }
        }
        base.url_of(uri.path_and_query().ok_or(NoTarget)?.as_str())
    }
}

impl<K: KeySource> SignedRequestLayer<K> {
    pub(crate) fn new(gate: Arc<Gate<K>>, settings: SignedRequests) -> Self {
        let clock = Arc::clone(gate.clock());
        let once = settings.once.clone().unwrap_or_else(|| {
            let leeway = gate.verifier().policy().leeway_in_force();
            Arc::new(SingleUse::new(ReplayMemory::default(), clock.now(), leeway))
        });
        Self { gate, rules: Rules { settings: Arc::new(settings), once, clock } }
    }

    /// The rules across settings. Quick, and reads no keys.
    ///
    /// # Errors
    /// [`ConfigError`]: of a setting, or of two that contradict each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.rules.settings.base.as_ref().map_err(ConfigError::clone)?;
        self.gate.check_signed()
    }
}

impl<S, K: KeySource> Layer<S> for SignedRequestLayer<K> {
    type Service = RequireJwt<SignedRequest<S>, K>;

    /// # Panics
    /// With the text of [`check`](SignedRequestLayer::check)'s error, if there is one.
    #[expect(clippy::panic, reason = "`Layer::layer` cannot fail, and a gate that is set up wrongly must not open")]
    fn layer(&self, inner: S) -> Self::Service {
        if let Err(error) = self.check() {
            panic!("countersign is misconfigured: {error}");
        }
        RequireJwt::new(SignedRequest::new(inner, self.rules.clone()), Arc::clone(&self.gate))
    }
}

// By hand, because `K` need not be `Clone`.
impl<K> Clone for SignedRequestLayer<K> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate), rules: self.rules.clone() }
    }
}

impl<K> fmt::Debug for SignedRequestLayer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequestLayer").field("gate", &self.gate).field("rules", &self.rules).finish()
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

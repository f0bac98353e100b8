//! What a handle says of the cache of verified tokens.

use std::convert::Infallible;

use countersign::{Algorithm, JwtAuth, KeySet, SigningKey};
use tower::{Layer as _, ServiceExt as _, service_fn};

#[tokio::test]
async fn a_handle_tells_of_the_cache_that_requests_go_by() {
    let issuer = SigningKey::generate(Algorithm::Es256).unwrap();
    let token = issuer.sign(&serde_json::json!({ "aud": "orders", "exp": 4_000_000_000_u64 })).unwrap();
    let auth = JwtAuth::with_keys(KeySet::new([issuer.verifying_key().unwrap()])).audience("orders");
    let handle = auth.handle();
    for _ in 0..3 {
        let inner = service_fn(|_| async { Ok::<_, Infallible>(http::Response::new(())) });
        let request = http::Request::builder().header("authorization", format!("Bearer {token}")).body(()).unwrap();
        assert_eq!(auth.layer(inner).oneshot(request).await.unwrap().status(), 200);
    }
    assert_eq!(auth.verifier().token_cache_status().unwrap().hits, 1);
    assert_eq!(handle.token_cache().unwrap().hits, 1);
}

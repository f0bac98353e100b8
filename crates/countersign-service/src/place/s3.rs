use std::sync::Arc;

use countersign_issuer::{ObjectKeyStore, StoreError, StoreErrorKind};
use http::Uri;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{ClientConfigKey, RetryConfig};

use crate::config::is_loopback;

pub(super) fn open(bucket: &str, prefix: &str) -> Result<ObjectKeyStore, StoreError> {
    // The ring tries again by itself, and wants to know which answers were doubtful.
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let mut client = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
    if let Some(endpoint) = client.get_config_value(&AmazonS3ConfigKey::Endpoint) {
        let is_allowed = client.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
        match check(&endpoint, is_allowed.is_some_and(|value| value == "true"))? {
            Transport::Https => {}
            Transport::Http => client = client.with_allow_http(true),
        }
    }
    // Its own error may have what is in the environment.
    let client = client.build().map_err(|_| unfit("the AWS_… variables of the environment make no client of S3"))?;
    Ok(ObjectKeyStore::new(Arc::new(client), Path::from(prefix)))
}

#[derive(Debug, PartialEq, Eq)]
enum Transport {
    Https,
    Http,
}

/// What is written there is sealed, and what is read is checked; but credentials for the bucket go over the wire, and
/// whoever has them can remove all keys.
fn check(endpoint: &str, http_is_allowed: bool) -> Result<Transport, StoreError> {
    let endpoint: Uri = endpoint.parse().map_err(|_| unfit("the endpoint of S3 (AWS_ENDPOINT) is no URL"))?;
    let host = endpoint.authority().map_or("", |authority| authority.as_str());
    match endpoint.scheme_str() {
        Some("https") => Ok(Transport::Https),
        Some("http") if http_is_allowed || is_loopback(host) => Ok(Transport::Http),
        Some("http") => Err(unfit(
            "the endpoint of S3 (AWS_ENDPOINT) is plain http and not on loopback: use https, or set AWS_ALLOW_HTTP=true",
        )),
        _ => Err(unfit("the endpoint of S3 (AWS_ENDPOINT) is no https URL")),
    }
}

fn unfit(text: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unfit, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_or_whoever_says_so() {
        for (endpoint, allowed, expected) in [
            ("https://s3.example", false, Some(Transport::Https)),
            ("http://127.0.0.1:9000", false, Some(Transport::Http)),
            ("http://[::1]:9000/x", false, Some(Transport::Http)),
            ("http://localhost:9000", false, Some(Transport::Http)),
            ("http://minio:9000", true, Some(Transport::Http)),
            ("http://minio:9000", false, None),
            ("http://127.0.0.1.example", false, None),
            ("http://localhost@minio:9000", false, None),
            ("http://127.0.0.1:9000@minio", false, None),
            ("ftp://127.0.0.1", true, None),
            ("127.0.0.1:9000", true, None),
            ("", true, None),
        ] {
            assert_eq!(check(endpoint, allowed).ok(), expected, "{endpoint}");
        }
    }
}

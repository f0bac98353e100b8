//! Envoy and HAProxy, as they stand in front of a service without authentication.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Failure;
use crate::tokens::AUDIENCE;

/// What Envoy does with tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvoyAuth {
    None,
    /// Verifies each.
    Verify,
    /// Remembers those that it has verified: more than there are.
    Cache,
}

/// More tokens than any run here shows. Its default is 100, of which a thousand tokens in turn would find none.
const ENVOY_CACHE: u32 = 4096;

/// Configuration files; gone with this.
pub struct Files(PathBuf);

impl Files {
    pub fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("countersign-bench-http-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub fn write(&self, name: &str, text: &str) -> Result<String, Failure> {
        let path = self.0.join(name);
        fs::File::create(&path)?.write_all(text.as_bytes())?;
        Ok(path.to_str().ok_or("a temporary directory whose name is no text")?.to_owned())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// An address that nobody listens at. Somebody may take it before the proxy does, which then does not start.
pub fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// What a proxy is between, and whom it trusts.
pub struct Place<'a> {
    pub listen: SocketAddr,
    pub upstream: SocketAddr,
    pub provider: SocketAddr,
    pub issuer: &'a str,
    pub jwks: &'a str,
}

/// A configuration of Envoy, in JSON. No access log, no statistics of requests: nothing that the service does not do either.
pub fn envoy(place: &Place<'_>, auth: EnvoyAuth) -> String {
    let address =
        |at: SocketAddr| json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } });
    let cluster = |name: &str, at: SocketAddr| {
        let endpoint = json!({ "endpoint": { "address": address(at) } });
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
        })
    };
    let router = typed("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", json!({}));
    let filters = if auth == EnvoyAuth::None { vec![router] } else { vec![jwt_authn(place, auth), router] };
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "app" } });
    let connections = typed(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "in", "codec_type": "HTTP1", "generate_request_id": false, "http_filters": filters,
            "route_config": { "virtual_hosts": [{ "name": "app", "domains": ["*"], "routes": [route] }] },
        }),
    );
    json!({
        "static_resources": {
            "listeners": [{ "address": address(place.listen), "filter_chains": [{ "filters": [connections] }] }],
            "clusters": [cluster("app", place.upstream), cluster("provider", place.provider)],
        },
    })
    .to_string()
}

fn jwt_authn(place: &Place<'_>, auth: EnvoyAuth) -> Value {
    let uri = json!({ "uri": place.jwks, "cluster": "provider", "timeout": "1s" });
    let mut provider = json!({
        "issuer": place.issuer, "audiences": [AUDIENCE], "forward": true,
        "remote_jwks": { "http_uri": uri, "cache_duration": "300s", "async_fetch": {} },
    });
    if auth == EnvoyAuth::Cache {
        provider["jwt_cache_config"] = json!({ "jwt_cache_size": ENVOY_CACHE });
    }
    let rule = json!({ "match": { "prefix": "/" }, "requires": { "provider_name": "issuer" } });
    typed(
        "envoy.filters.http.jwt_authn",
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        json!({ "providers": { "issuer": provider }, "rules": [rule] }),
    )
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/{kind}"));
    json!({ "name": name, "typed_config": config })
}

/// A configuration of HAProxy: with a key's file, it checks signature, algorithm, issuer, audience and expiry.
pub fn haproxy(place: &Place<'_>, key: Option<&Path>) -> String {
    let rules = key.map_or_else(String::new, |key| {
        format!(
            "    http-request set-var(txn.token) http_auth_bearer\n\
             \x20   http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')\n\
             \x20   http-request set-var(txn.iss) var(txn.token),jwt_payload_query('$.iss')\n\
             \x20   http-request set-var(txn.aud) var(txn.token),jwt_payload_query('$.aud[0]')\n\
             \x20   http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')\n\
             \x20   http-request set-var(txn.now) date()\n\
             \x20   http-request deny deny_status 401 unless {{ var(txn.alg) -m str RS256 }}\n\
             \x20   http-request deny deny_status 401 unless {{ var(txn.iss) -m str {} }}\n\
             \x20   http-request deny deny_status 401 unless {{ var(txn.aud) -m str {AUDIENCE} }}\n\
             \x20   http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}\n\
             \x20   http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify(txn.alg,\"{}\") -m int 1 }}\n",
            place.issuer,
            key.display(),
        )
    });
    format!(
        "global\n    nbthread 1\n\
         defaults\n    mode http\n    timeout connect 1s\n    timeout client 30s\n    timeout server 30s\n\
         frontend in\n    bind {}\n{rules}    default_backend app\n\
         backend app\n    http-reuse always\n    server app {}\n",
        place.listen, place.upstream,
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::{EnvoyAuth, Place, envoy, haproxy};

    fn place() -> Place<'static> {
        let at = |port| ([127, 0, 0, 1], port).into();
        Place {
            listen: at(1),
            upstream: at(2),
            provider: at(3),
            issuer: "http://127.0.0.1:3",
            jwks: "http://127.0.0.1:3/j",
        }
    }

    #[test]
    fn envoy_checks_tokens_only_where_it_is_told_to_and_caches_only_where_it_is_told_to() {
        let filters = |auth| {
            let config: Value = serde_json::from_str(&envoy(&place(), auth)).unwrap();
            let path = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
            config.pointer(path).unwrap().clone()
        };
        assert_eq!(filters(EnvoyAuth::None).as_array().unwrap().len(), 1);
        let cache = "/0/typed_config/providers/issuer/jwt_cache_config";
        assert!(filters(EnvoyAuth::Verify).pointer(cache).is_none());
        assert!(filters(EnvoyAuth::Cache).pointer(cache).is_some());
    }

    #[test]
    fn haproxy_checks_tokens_only_if_it_has_a_key() {
        assert!(!haproxy(&place(), None).contains("jwt_verify"));
        assert!(haproxy(&place(), Some(Path::new("/k.pem"))).contains("jwt_verify(txn.alg,\"/k.pem\") -m int 1"));
    }
}

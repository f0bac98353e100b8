//! The tokens, and what a service wants to know of them.

use countersign_testkit::{IdentityProvider, TestKey};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Whom the tokens are for.
pub const AUDIENCE: &str = "orders";

/// What the handler reads.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Caller {
    pub sub: String,
    pub azp: String,
    pub roles: Vec<String>,
}

/// So many good tokens of that key's, each of another user, with the claims and the size of the in-process benchmark's.
pub fn tokens(provider: &IdentityProvider, key: &TestKey, count: u32) -> Vec<String> {
    let one = |n: u32| {
        let token = provider.token(AUDIENCE).signed_by(key).subject(&format!("5f2c8f0e-7f4e-4c53-9d3a-0d6f{n:08x}"));
        let token = token.claim("aud", json!([AUDIENCE, "billing"])).claim("typ", "Bearer");
        let token = token.claim("azp", "web-frontend").scope("openid profile orders:read orders:write");
        token.claim("roles", json!(["user", "editor", "reviewer"])).sign()
    };
    (0..count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use countersign::Algorithm;
    use countersign_testkit::IdentityProvider;

    use super::tokens;

    #[test]
    fn tokens_differ_and_are_of_a_usual_size() {
        let provider = IdentityProvider::with_algorithm(Algorithm::Rs256);
        let made = tokens(&provider, &provider.key(), 2);
        assert_ne!(made[0], made[1]);
        assert!(made.iter().all(|token| (800..1000).contains(&token.len())), "{}", made[0].len());
    }
}

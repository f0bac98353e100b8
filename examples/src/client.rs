//! Talking to examples.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign::Algorithm;
use countersign_testkit::{TestKey, Token};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// A real HTTP client, for tests.
#[derive(Clone, Debug)]
pub struct Client(reqwest::Client);

/// A response, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body, as text. Of gRPC-Web's, octets that are no UTF-8 have been replaced.
    pub body: String,
}

impl Client {
    /// Speaks HTTP/1.1.
    #[must_use]
    pub fn http1() -> Self {
        // Whatever proxy the environment names, it cannot reach our loopback.
        Self(reqwest::Client::builder().no_proxy().build().expect("a client"))
    }

    /// Speaks HTTP/2 from the first octet on.
    #[must_use]
    pub fn http2() -> Self {
        Self(reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client"))
    }

    /// Sends a GET with that token.
    pub async fn get(&self, url: &str, token: &Token) -> Answer {
        self.send(self.request("GET", url).bearer_auth(token.sign())).await
    }

    /// Sends a DELETE with that token.
    pub async fn delete(&self, url: &str, token: &Token) -> Answer {
        self.send(self.request("DELETE", url).bearer_auth(token.sign())).await
    }

    /// Sends a GET without credentials.
    pub async fn get_bare(&self, url: &str) -> Answer {
        self.send(self.request("GET", url)).await
    }

    /// Sends a request with that token, which an example has printed.
    ///
    /// # Panics
    /// If `method` is none.
    pub async fn call(&self, method: &str, url: &str, token: &str) -> Answer {
        self.send(self.request(method, url).bearer_auth(token)).await
    }

    /// A request to be completed and [sent](Self::send).
    ///
    /// # Panics
    /// If `method` is none.
    pub fn request(&self, method: &str, url: &str) -> reqwest::RequestBuilder {
        self.0.request(method.parse().expect("a method"), url)
    }

    /// Sends a request and reads the answer to its end.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.text().await.expect("a body") }
    }

    /// Sends every hostile relative of `good` that can be sent, and checks that each is refused as a client's fault, with a
    /// challenge and without a body.
    ///
    /// # Panics
    /// If one is not, or if `good` itself is not accepted: then the others prove nothing.
    pub async fn check_that_hostile_tokens_are_refused(&self, url: &str, good: &Token) {
        assert_eq!(self.get(url, good).await.status, 200);
        let mut sent = 0;
        for hostile in good.hostile() {
            let name = hostile.attack;
            // Those with a made-up key's name may have to wait for a look, a second or two each.
            let Some(authorization) = hostile.authorization().filter(|_| !hostile.names_unknown_key) else { continue };
            let answer = self.send(self.request("GET", url).header("authorization", authorization)).await;
            if answer.status == 431 {
                // hyper's own limit on the headers of HTTP/2, before any layer.
                continue;
            }
            assert!(matches!(answer.status, 400 | 401), "{name}: {answer:?}");
            assert!(answer.challenge().contains("error=\"invalid_"), "{name}: {answer:?}");
            assert_eq!(answer.body, "", "{name}");
            sent += 1;
        }
        assert!(sent > 50, "{sent}");
    }

    /// Sends what somebody makes of `good`, a token that an example has printed, who has read it and does not have its key:
    /// edited in each of its parts, and the same claims under the same key's name, signed with another key, with everything
    /// hostile that comes of that. Checks that each is refused as a client's fault, with a challenge.
    ///
    /// # Panics
    /// If one is not, or if `good` itself is not accepted: then the others prove nothing.
    pub async fn check_that_forged_tokens_are_refused(&self, url: &str, good: &str) {
        assert_eq!(self.call("GET", url, good).await.status, 200);
        let parts: Vec<_> = good.split('.').collect();
        let [header, payload] = [parts[0], parts[1]].map(|part| {
            let json = BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64url");
            serde_json::from_slice::<Value>(&json).expect("JSON")
        });
        let mut other = payload.clone();
        other["sub"] = "root".into();
        let [other, unsigned] = [other.to_string(), r#"{"alg":"none","typ":"at+jwt"}"#.to_owned()]
            .map(|json| BASE64_URL_SAFE_NO_PAD.encode(json));
        let signature = parts[2];
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        let mut forged = vec![
            format!("{}.{other}.{signature}", parts[0]),
            format!("{unsigned}.{}.", parts[1]),
            format!("{unsigned}.{}.{signature}", parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}.{flipped}{}", parts[0], parts[1], &signature[1..]),
            format!("{good}A"),
            good[..good.len() - 4].to_owned(),
        ];

        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let algorithm = Algorithm::from_name(&text(&header["alg"])).expect("an algorithm");
        let key = TestKey::nth(algorithm, 0).with_kid(text(&header["kid"]));
        let token = payload.as_object().into_iter().flatten();
        let token = token.fold(Token::new(&key), |token, (name, value)| token.claim(name, value.clone()));
        forged.push(token.sign());
        let hostile = token.hostile().into_iter().filter(|hostile| !hostile.names_unknown_key);
        forged.extend(hostile.filter(|hostile| hostile.authorization().is_some()).map(|hostile| hostile.token));
        assert!(forged.len() > 50, "{}", forged.len());
        for token in forged {
            let answer = self.call("GET", url, &token).await;
            assert!(matches!(answer.status, 400 | 401), "{token}: {answer:?}");
            assert!(answer.challenge().contains("error=\"invalid_"), "{token}: {answer:?}");
            assert_eq!(answer.body, "", "{token}");
        }
    }
}

impl Answer {
    /// Status and body.
    #[must_use]
    pub fn content(&self) -> (u16, &str) {
        (self.status, &self.body)
    }

    /// The challenge, or nothing.
    #[must_use]
    pub fn challenge(&self) -> &str {
        self.header("www-authenticate")
    }

    /// A header field, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

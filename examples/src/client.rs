//! Talking to examples.

use countersign_testkit::Token;
use reqwest::header::{HeaderMap, HeaderValue};

use crate::running::Running;

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
    /// Its body; gRPC's is not text, and is not read by these tests.
    pub body: String,
}

impl Client {
    /// Speaks HTTP/1.1.
    ///
    /// # Panics
    /// Never: there is nothing about it that could fail.
    #[must_use]
    pub fn http1() -> Self {
        // Whatever proxy the environment names, it cannot reach our loopback.
        Self(reqwest::Client::builder().no_proxy().build().expect("a client"))
    }

    /// Speaks HTTP/2 from the first octet on.
    ///
    /// # Panics
    /// Never: there is nothing about it that could fail.
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
            // Those with a made-up key's name may have to wait for a look, a second or two each; white space at the end is
            // no part of a header field.
            let Ok(value) = HeaderValue::try_from(format!("Bearer {}", hostile.token)) else { continue };
            if hostile.names_unknown_key || hostile.token.ends_with(char::is_whitespace) {
                continue;
            }
            let answer = self.send(self.request("GET", url).header("authorization", value)).await;
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

/// Makes the calls that an example's documentation shows, `curl … <status>` in a line each, to the example as it starts
/// without arguments, with the token that it prints; and checks that the answers have the status that stands behind each.
///
/// # Panics
/// If one has not, if there are fewer than two, or if a line uses what this does not know of curl.
pub async fn documented_calls_of(name: &str, source: &str) {
    let example = Running::start(name, &[]);
    let mut calls = 0;
    let mut variable = "";
    for line in source.lines() {
        if let Some(url) = line.strip_prefix("//! URL=") {
            variable = url;
        }
        let Some(line) = line.strip_prefix("//! curl ") else { continue };
        let line = line.replace("$URL", variable).replace("$TOKEN", example.token());
        let line = line.replace("127.0.0.1:3000", &example.address().to_string());
        let mut words = words(&line).into_iter();
        let (mut client, mut method, mut url, mut headers) = (Client::http1(), None, String::new(), Vec::new());
        let expected = loop {
            let word = words.next().expect("a status at the end of the line");
            match &*word {
                "-i" | "-N" => {}
                "--http2-prior-knowledge" => client = Client::http2(),
                "-X" => method = words.next(),
                "-H" => headers.extend(words.next()),
                word if word.starts_with("http://") => url = word.to_owned(),
                status => {
                    break status.trim_end_matches(',').parse::<u16>().expect("a status, or an option that is known");
                }
            }
        };
        let mut request = client.request(method.as_deref().unwrap_or("GET"), &url);
        for header in headers {
            let (field, value) = header.split_once(": ").expect("a header field");
            request = request.header(field, value);
        }
        assert_eq!(client.send(request).await.status, expected, "{line}");
        calls += 1;
    }
    assert!(calls >= 2, "{calls} calls are documented");
}

/// The words of a shell's command line, as far as double quotes go.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (nth, part) in line.split('"').enumerate() {
        match nth % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

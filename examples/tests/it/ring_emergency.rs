//! Keys that somebody has stolen.

use std::time::Duration;

use countersign_examples::{Client, Running, Scratch, documented_calls_to};
use tokio::time::{sleep, timeout};

/// How often is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(50);

const PATIENCE: Duration = Duration::from_secs(30);

struct Example {
    running: Running,
    client: Client,
    token: String,
    operator: String,
}

impl Example {
    fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        let directory = scratch.path("ring");
        let running = Running::start("ring_emergency", &[&["--directory", &directory], arguments].concat());
        let tokens: Vec<_> = running.tokens().map(str::to_owned).collect();
        let [token, operator] = tokens.try_into().unwrap();
        Self { running, client: Client::http1(), token, operator }
    }

    /// What the service says that asks the list, and what the one says that does not.
    async fn statuses(&self, token: &str) -> (u16, u16) {
        let get = async |path| self.client.call("GET", &self.running.url(path), token).await.status;
        (get("/orders").await, get("/invoices").await)
    }

    async fn order(&self, method: &str, path: &str) -> (u16, String) {
        let answer = self.client.call(method, &self.running.url(path), &self.operator).await;
        (answer.status, answer.body)
    }

    /// The names of the keys in that state.
    async fn keys(&self, state: &str) -> Vec<String> {
        let (status, text) = self.order("GET", "/keys").await;
        assert_eq!(status, 200);
        text.lines().filter_map(|line| Some(line.strip_suffix(state)?.trim_end().to_owned())).collect()
    }

    async fn new_token(&self) -> String {
        until(async || Some(self.order("POST", "/tokens/ada").await).filter(|(status, _)| *status == 200)).await.1
    }
}

async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, looking).await.expect("it comes about")
}

#[tokio::test]
async fn who_follows_the_list_refuses_at_once_and_others_when_they_have_fetched() {
    let scratch = Scratch::new("emergency-all");
    let mut example = Example::start(&scratch, &[]);
    let stolen = example.token.clone();
    assert_eq!(example.statuses(&stolen).await, (200, 200));
    example.client.check_that_forged_tokens_are_refused(&example.running.url("/orders"), &stolen).await;

    let (status, report) = example.order("POST", "/keys/compromised").await;
    assert_eq!(status, 200, "{report}");
    // V + ε, and C + P + ε.
    assert!(report.contains("for 32 s where a feed is followed, and for 640 s"), "{report}");
    assert!(report.ends_with("no key signs for now in: [\"es256\"]\n"), "{report}");
    // It had been pushed when the answer came, or is being.
    let pushed = example.running.hear("ring: the revocation of key ");
    assert!(pushed.contains("is in force within 0"), "{pushed}");
    assert_eq!(example.statuses(&stolen).await, (401, 200));

    // Whoever sees a token of the new key looks for it, and has a set without the old one from then on.
    let fresh = example.new_token().await;
    assert_eq!(example.statuses(&fresh).await, (200, 200));
    assert_eq!(example.statuses(&stolen).await, (401, 401));
}

#[tokio::test]
async fn the_standby_signs_in_the_place_of_a_key_that_is_compromised() {
    let scratch = Scratch::new("emergency-one");
    let example = Example::start(&scratch, &["--hurry"]);
    let stolen = example.token.clone();
    assert_eq!(example.statuses(&stolen).await, (200, 200));
    until(async || example.keys("Standby").await.pop()).await;
    let active = example.keys("Active").await.pop().unwrap();

    let (status, report) = example.order("POST", &format!("/keys/{active}/compromised")).await;
    assert_eq!(status, 200, "{report}");
    assert!(report.contains(&active) && !report.contains("no key signs"), "{report}");
    // The next token needs no waiting: the standby was announced long ago.
    let (status, fresh) = example.order("POST", "/tokens/ada").await;
    assert_eq!((status, example.statuses(&fresh).await), (200, (200, 200)));
    // Who does not ask the list, and had the standby already, has no reason to fetch again.
    assert_eq!(example.statuses(&stolen).await.0, 401);
}

#[tokio::test]
async fn only_operators_give_orders_and_what_there_is_not_cannot_be_revoked() {
    let scratch = Scratch::new("emergency-operators");
    let example = Example::start(&scratch, &[]);
    for (method, path) in [
        ("GET", "/keys"),
        ("POST", "/keys/rotate"),
        ("POST", "/keys/compromised"),
        ("POST", "/keys/x/compromised"),
        ("POST", "/tokens/root"),
    ] {
        let url = example.running.url(path);
        for token in [&*example.token, "x.y.z"] {
            assert_eq!(example.client.call(method, &url, token).await.content(), (401, ""), "{path}");
        }
        assert_eq!(example.client.send(example.client.request(method, &url)).await.status, 401, "{path}");
    }
    assert_eq!(example.order("POST", "/keys/no-such-key/compromised").await.0, 404);
    assert_eq!(example.statuses(&example.token).await, (200, 200));
    // Nor is an operator's token one for a service.
    assert_eq!(example.statuses(&example.operator).await, (401, 401));
}

#[tokio::test]
async fn the_documented_calls_work() {
    let scratch = Scratch::new("emergency-documented");
    let example = Example::start(&scratch, &[]);
    documented_calls_to(&example.running, include_str!("../../ring_emergency.rs")).await;
}

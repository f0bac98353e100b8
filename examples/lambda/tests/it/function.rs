//! No valid request is refused that could have been served, whatever was frozen when.

use std::time::Duration;

use countersign_testkit::{Answer as Answers, IdentityProvider, Token};
use tokio::time::sleep;

use crate::runtime::{Answer, Function};

/// What an invocation may take that waits for nothing and nobody. Generous: a busy machine.
const AT_ONCE: Duration = Duration::from_millis(900);

/// Keys that are good for a second.
const SHORT: [(&str, &str); 1] = [("KEY_LIFETIME_SECONDS", "1")];

async fn invoke(function: &mut Function, token: &Token) -> Answer {
    function.invoke(Some(&format!("Bearer {}", token.sign()))).await
}

#[tokio::test]
async fn a_cold_start_serves_its_first_request() {
    let idp = IdentityProvider::start();
    idp.set_answer(Answers::Late(Duration::from_secs(1)));
    let mut function = Function::start(&idp).await;
    assert!(function.init >= Duration::from_secs(1), "{:?}", function.init);

    let first = invoke(&mut function, &idp.token("orders")).await;
    assert_eq!(first.content(), (200, "Hello, ada!"));
    assert!(first.took < AT_ONCE, "{first:?}");
    assert_eq!(idp.fetches(), 1);
}

#[tokio::test]
async fn it_refuses_whom_it_should() {
    let idp = IdentityProvider::start();
    let mut function = Function::start(&idp).await;
    let good = idp.token("orders");

    let nobody = function.invoke(None).await;
    assert_eq!((nobody.content(), nobody.header("www-authenticate")), ((401, ""), r#"Bearer realm="api""#));
    let no_subject = invoke(&mut function, &good.clone().without("sub")).await;
    assert_eq!(no_subject.content(), (401, ""));
    let mut sent = 0;
    for hostile in good.hostile() {
        let authorization = hostile.authorization().filter(|_| !hostile.names_unknown_key);
        // An event is JSON, and holds no octets that are no text.
        let Some(authorization) = authorization.as_ref().and_then(|value| value.to_str().ok()) else { continue };
        let answer = function.invoke(Some(authorization)).await;
        assert!(matches!(answer.content(), (400 | 401, "")), "{}: {answer:?}", hostile.attack);
        assert!(answer.header("www-authenticate").contains("error=\"invalid_"), "{}: {answer:?}", hostile.attack);
        sent += 1;
    }
    assert!(sent > 50, "{sent}");
    assert_eq!(invoke(&mut function, &good).await.status, 200);
}

#[tokio::test]
async fn an_outage_after_the_start_refuses_nobody() {
    let idp = IdentityProvider::start();
    let mut function = Function::start(&idp).await;
    idp.stop();
    for _ in 0..10 {
        let answer = invoke(&mut function, &idp.token("orders")).await;
        assert_eq!(answer.content(), (200, "Hello, ada!"));
        assert!(answer.took < AT_ONCE, "{answer:?}");
    }
}

/// The function starts while the issuer has a fault, and is frozen when the fault ends. So the invocation after that is the
/// first chance to look for keys.
async fn it_recovers(begin: fn(&IdentityProvider), end: fn(&IdentityProvider)) {
    let idp = IdentityProvider::start();
    begin(&idp);
    let mut function = Function::start(&idp).await;
    let refused = invoke(&mut function, &idp.token("orders")).await;
    assert_eq!(refused.content(), (503, ""));
    let retry_after: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=5).contains(&retry_after), "{retry_after}");

    end(&idp);
    let answer = invoke(&mut function, &idp.token("orders")).await;
    assert_eq!(answer.content(), (200, "Hello, ada!"));
    let next = invoke(&mut function, &idp.token("orders")).await;
    assert!(next.status == 200 && next.took < AT_ONCE, "{next:?}");
}

#[tokio::test]
async fn an_issuer_that_was_down_at_the_start_is_found_by_the_first_invocation_after() {
    it_recovers(IdentityProvider::stop, IdentityProvider::resume).await;
}

#[tokio::test]
async fn an_issuer_that_hung_at_the_start_is_found_by_the_first_invocation_after() {
    it_recovers(|idp| idp.set_answer(Answers::Stall), |idp| idp.set_answer(Answers::Keys)).await;
}

#[tokio::test]
async fn what_is_frozen_does_nothing() {
    let idp = IdentityProvider::start();
    let mut function = Function::start_with(&idp, &SHORT).await;
    let fetches = idp.fetches();
    // Not frozen, it would fetch every second.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(idp.fetches(), fetches);
    assert_eq!(invoke(&mut function, &idp.token("orders")).await.status, 200);
    assert!(idp.fetches() > fetches);
}

#[tokio::test]
async fn a_rotation_during_a_freeze_refuses_nobody() {
    for new_first in [true, false] {
        let idp = IdentityProvider::start();
        let mut function = Function::start(&idp).await;
        let before = idp.token("orders");
        assert_eq!(invoke(&mut function, &before).await.status, 200);

        idp.rotate();
        let after = idp.token("orders");
        sleep(Duration::from_secs(3)).await;
        for token in if new_first { [&after, &before] } else { [&before, &after] } {
            let answer = invoke(&mut function, token).await;
            assert_eq!(answer.content(), (200, "Hello, ada!"));
            assert!(answer.took < AT_ONCE, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_key_withdrawn_during_a_freeze_is_refused_by_the_first_invocation_after_its_lifetime() {
    let idp = IdentityProvider::start();
    let mut function = Function::start_with(&idp, &SHORT).await;
    let before = idp.token("orders");
    assert_eq!(invoke(&mut function, &before).await.status, 200);

    idp.replace_keys();
    // Slower than an invocation that waits for nothing.
    idp.set_answer(Answers::Late(Duration::from_millis(200)));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(invoke(&mut function, &before).await.content(), (401, ""));
    assert_eq!(invoke(&mut function, &idp.token("orders")).await.content(), (200, "Hello, ada!"));
}

#[tokio::test]
async fn an_issuer_that_hangs_delays_one_invocation_and_refuses_none() {
    let idp = IdentityProvider::start();
    let mut function = Function::start_with(&idp, &SHORT).await;
    idp.set_answer(Answers::Stall);
    sleep(Duration::from_millis(1500)).await;
    let waited = invoke(&mut function, &idp.token("orders")).await;
    assert_eq!(waited.content(), (200, "Hello, ada!"));
    assert!(waited.took >= Duration::from_secs(1) && waited.took < Duration::from_secs(1) + AT_ONCE, "{waited:?}");
    for _ in 0..5 {
        let answer = invoke(&mut function, &idp.token("orders")).await;
        assert!(answer.status == 200 && answer.took < AT_ONCE, "{answer:?}");
    }
}

/// Freezes the function while a fetch is under way whose answer has no new key, and rotates meanwhile.
async fn a_fetch_is_frozen_for(freeze: Duration) {
    let idp = IdentityProvider::start();
    let mut function = Function::start_with(&idp, &SHORT).await;
    sleep(Duration::from_millis(1500)).await;
    // More than an invocation waits. It is on its way when the freeze begins, and there when it ends.
    idp.answer_once(Answers::Late(Duration::from_millis(1300)));
    let fetches = idp.fetches();
    let before = idp.token("orders");
    assert_eq!(invoke(&mut function, &before).await.status, 200);
    assert_eq!(idp.fetches(), fetches + 1);
    sleep(freeze).await;

    idp.rotate();
    let answer = invoke(&mut function, &idp.token("orders")).await;
    assert_eq!(answer.content(), (200, "Hello, ada!"));
    assert_eq!(invoke(&mut function, &before).await.status, 200);
}

#[tokio::test]
async fn a_fetch_that_was_frozen_keeps_nobody_out() {
    // The longer one is beyond every time-out: what the fetch brings is not believed.
    tokio::join!(a_fetch_is_frozen_for(Duration::from_secs(1)), a_fetch_is_frozen_for(Duration::from_secs(12)));
}

//! What a token is revoked by, and what a check makes of what it is told.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{at, judge};
use countersign_claims::revocation::{
    Changed, Judged, Level, RevocationCheck, RevocationError, Revocations, Revoked, Verdict,
};
use countersign_claims::{ConfigError, Policy, UnixTime, Verified};

fn verified(policy: &Policy, claims: &str) -> Verified {
    judge(policy, None, claims, at(1000)).expect("a good token")
}

/// Which one of each level a token of these claims is of.
fn levels(policy: &Policy, claims: &str) -> [Option<String>; 6] {
    let verified = verified(policy, claims);
    let judged = Judged::of(&verified, at(1000));
    Level::ALL.map(|level| judged.level(level).map(str::to_owned))
}

fn some(names: [&str; 6]) -> [Option<String>; 6] {
    names.map(|name| (!name.is_empty()).then(|| name.to_owned()))
}

#[test]
fn by_default_levels_are_the_claims_that_issuers_write() {
    let claims = r#"{"exp":2000,"iss":"i","tid":"t","client_id":"c","azp":"a","sub":"s","sid":"n","family":"f"}"#;
    assert_eq!(levels(&Policy::new(), claims), some(["i", "t", "c", "s", "n", "f"]));
    assert_eq!(levels(&Policy::new(), r#"{"exp":2000,"azp":"a"}"#), some(["", "", "a", "", "", ""]));
    assert_eq!(levels(&Policy::new(), r#"{"exp":2000,"client_id":"","azp":"a"}"#), some(["", "", "a", "", "", ""]));
    assert_eq!(levels(&Policy::new(), r#"{"exp":2000}"#), some([""; 6]));
}

#[test]
fn a_policy_names_other_claims_and_the_default_ones_count_no_more() {
    let policy = Policy::new()
        .level_claim(Level::Tenant, "/org/id")
        .level_claim(Level::Client, "cid")
        .level_claim(Level::Session, "session")
        .level_claim(Level::Family, "/a~1b/0");
    assert_eq!(policy.check(), Ok(()));
    let claims = r#"{"exp":2000,"iss":"i","sub":"s","org":{"id":7},"cid":"C","session":"N","a/b":["F"]}"#;
    assert_eq!(levels(&policy, claims), some(["i", "7", "C", "s", "N", "F"]));
    let defaults = r#"{"exp":2000,"tid":"t","client_id":"c","azp":"a","sid":"n","family":"f"}"#;
    assert_eq!(levels(&policy, defaults), some([""; 6]));
}

#[test]
fn what_is_no_name_is_as_good_as_absent_and_escapes_are_read() {
    for odd in ["null", "{}", "[\"t\"]"] {
        let claims = format!(r#"{{"exp":2000,"tid":{odd},"sid":{odd},"family":{odd},"azp":{odd}}}"#);
        assert_eq!(levels(&Policy::new(), &claims), some([""; 6]), "{odd}");
    }
    let claims = r#"{"exp":2000,"tid":"\u0074","sid":12,"sub":"\"s\"","family":true}"#;
    assert_eq!(levels(&Policy::new(), claims), some(["", "t", "", "\"s\"", "12", "true"]));
}

#[test]
fn other_claims_for_issuer_and_subject_and_texts_that_are_no_pointers_are_configuration_errors() {
    for level in [Level::Issuer, Level::Subject] {
        assert!(matches!(Policy::new().level_claim(level, "x").check(), Err(ConfigError::Other(_))), "{level}");
    }
    assert!(matches!(Policy::new().level_claim(Level::Tenant, "/~2").check(), Err(ConfigError::NotAPointer(_))));
}

/// Says the same of every token.
struct Says(Verdict, Option<Duration>);

impl Revocations for Says {
    fn check(&self, _: &Judged<'_>) -> Verdict {
        self.0
    }

    fn age(&self, _: UnixTime) -> Option<Duration> {
        self.1
    }

    fn changed(&self) -> Changed {
        Box::pin(std::future::pending())
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn check(check: RevocationCheck, claims: &str) -> Result<(), RevocationError> {
    let token = verified(&Policy::new(), claims).with_revocation(Arc::new(check));
    token.check_revocation(at(1000))
}

#[test]
fn a_revoked_token_is_refused_whatever_else_is_wrong() {
    for why in [Revoked::Key, Revoked::Token, Revoked::CutOff { level: Level::Tenant, issued_until: at(900) }] {
        let strict =
            RevocationCheck::by(Says(Verdict::Revoked(why), None)).require_jwt_id().refuse_stale().max_age(SECOND);
        assert_eq!(check(strict, r#"{"exp":2000}"#), Err(RevocationError::Revoked(why)));
    }
}

#[test]
fn by_default_a_token_passes_that_nothing_is_known_of() {
    for verdict in [Verdict::Fresh, Verdict::Stale { age: None }, Verdict::Stale { age: Some(SECOND * 3600) }] {
        assert_eq!(check(RevocationCheck::by(Says(verdict, None)), r#"{"exp":2000}"#), Ok(()));
    }
}

#[test]
fn a_token_without_what_is_demanded_cannot_be_revoked_and_is_refused() {
    let fresh = || RevocationCheck::by(Says(Verdict::Fresh, Some(Duration::ZERO)));
    for (demanding, missing, good) in [
        (fresh().require_jwt_id(), "jti", r#"{"exp":2000,"jti":"j"}"#),
        (fresh().require_issued_at(), "iat", r#"{"exp":2000,"iat":900}"#),
        (fresh().require_level(Level::Issuer), "issuer", r#"{"exp":2000,"iss":"i"}"#),
        (fresh().require_level(Level::Tenant), "tenant", r#"{"exp":2000,"tid":"t"}"#),
        (fresh().require_level(Level::Client), "client", r#"{"exp":2000,"azp":"c"}"#),
        (fresh().require_level(Level::Subject), "subject", r#"{"exp":2000,"sub":"s"}"#),
        (fresh().require_level(Level::Session), "session", r#"{"exp":2000,"sid":"n"}"#),
        (fresh().require_level(Level::Family), "family", r#"{"exp":2000,"family":"f"}"#),
    ] {
        assert_eq!(check(demanding.clone(), good), Ok(()), "{missing}");
        assert_eq!(check(demanding.clone(), r#"{"exp":2000}"#), Err(RevocationError::Irrevocable(missing)));
        // An empty name is none: no entry has one.
        let empty = r#"{"exp":2000,"iss":"","jti":"","tid":"","azp":"","sub":"","sid":"","family":""}"#;
        assert_eq!(check(demanding, empty), Err(RevocationError::Irrevocable(missing)));
    }
    let two = fresh().require_level(Level::Tenant).require_level(Level::Session);
    assert_eq!(check(two, r#"{"exp":2000,"tid":"t"}"#), Err(RevocationError::Irrevocable("session")));
}

#[test]
fn stale_knowledge_is_refused_where_that_is_set() {
    let stale = |age| RevocationCheck::by(Says(Verdict::Stale { age }, age)).refuse_stale();
    for age in [None, Some(SECOND * 31)] {
        assert_eq!(check(stale(age), r#"{"exp":2000}"#), Err(RevocationError::Stale { age }));
    }
    let fresh = || RevocationCheck::by(Says(Verdict::Fresh, Some(SECOND * 5)));
    assert_eq!(check(fresh().refuse_stale(), r#"{"exp":2000}"#), Ok(()));
    assert_eq!(check(fresh().max_age(SECOND * 5), r#"{"exp":2000}"#), Ok(()));
    let error = Err(RevocationError::Stale { age: Some(SECOND * 5) });
    assert_eq!(check(fresh().max_age(SECOND * 4), r#"{"exp":2000}"#), error);
    assert_eq!(check(fresh().max_age(SECOND * 4).max_age(SECOND * 9), r#"{"exp":2000}"#), error, "the shorter time");
    let unknown = RevocationCheck::by(Says(Verdict::Fresh, None)).max_age(Duration::MAX);
    assert_eq!(check(unknown, r#"{"exp":2000}"#), Err(RevocationError::Stale { age: None }));
}

#[test]
fn of_several_each_is_asked_and_the_worst_age_counts() {
    let says = |verdict, age| RevocationCheck::by(Says(verdict, age));
    let fresh = || says(Verdict::Fresh, Some(SECOND));
    let claims = r#"{"exp":2000}"#;
    let revoked = || says(Verdict::Revoked(Revoked::Token), Some(SECOND));
    for chain in [fresh().and(fresh()).and(revoked()), fresh().and(fresh().and(revoked())), revoked().and(fresh())] {
        assert_eq!(check(chain, claims), Err(RevocationError::Revoked(Revoked::Token)));
    }
    for chain in [fresh().require_jwt_id().and(revoked()), fresh().max_age(Duration::ZERO).and(fresh()).and(revoked())]
    {
        assert_eq!(check(chain, claims), Err(RevocationError::Revoked(Revoked::Token)), "it outweighs all else");
    }
    // Each with its own demands.
    assert_eq!(check(fresh().and(fresh().require_jwt_id()), claims), Err(RevocationError::Irrevocable("jti")));
    let old = || says(Verdict::Fresh, Some(SECOND * 9));
    assert_eq!(check(fresh().max_age(SECOND).and(old()), claims), Ok(()));
    assert_eq!(fresh().and(old()).and(fresh()).age(at(1000)), Some(SECOND * 9));
    assert_eq!(fresh().and(says(Verdict::Fresh, None)).age(at(1000)), None);
    assert_eq!(fresh().and(old()).revocations().count(), 2);
}

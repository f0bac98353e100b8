//! What a request must not pay for. Its own file, because it counts what the process allocates.

mod common;

use std::time::Duration;

use common::at;
use countersign_claims::{
    Permission, Policy, Requirement, Verified, acr, all, any, authenticated_within, claim, client_id, permission,
    predicate, scope, scopes, subject,
};

fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

/// With escapes in names and values, more names than fit any buffer, and nesting.
fn verified(policy: &Policy) -> Verified {
    let filler: String = (0..40).map(|n| format!("\"f\\u0061{n}\":[{n},{{\"x\":\"\\n\"}}],")).collect();
    let claims = format!(
        r#"{{{filler}"scope":"admin b c","sub":"ada","client_id":"cli","\u0061cr":"mf\u0061","auth_time":1000,
            "realm":{{"r\u006fles":["user","\u0061dmin"]}},"level":3,"open":true,"exp":2000}}"#
    );
    common::judge(policy, None, claims, at(1000)).expect("good claims")
}

permission! { Admin = scope("admin"); }

#[test]
fn a_check_that_passes_allocates_nothing() {
    let policy = Policy::new().scope_implies("admin", ["a"]);
    let verified = verified(&policy);
    let every_rule = all([
        scopes(["a", "b"]),
        claim("/realm/roles").contains("admin"),
        claim("/realm/roles").contains_all(["user", "admin"]),
        claim("/realm/roles/1").equals("admin"),
        claim("level").equals(3),
        claim("open").equals(true),
        claim("shut").exists().not(),
        client_id("cli"),
        subject("ada"),
        acr(["x", "mfa"]),
        authenticated_within(Duration::from_secs(10)),
        predicate("ada", |token| token.subject() == Some("ada")),
        any([scope("nobody"), claim("level").equals("3"), scope("c").not().not()]),
    ]);
    let check = |requirement: &Requirement| assert!(requirement.check(&verified).is_ok());
    assert_eq!(allocations(|| check(&every_rule)), 0);
    // And the count counts.
    assert_ne!(allocations(|| assert!(scope("x").check(&verified).is_err())), 0);
}

#[test]
fn a_permit_a_clone_and_a_look_at_a_claim_allocate_nothing() {
    let verified = verified(&Policy::new());
    assert!(Admin::requirement().check(&verified).is_ok(), "which puts the requirement together");
    assert_eq!(allocations(|| assert!(Admin::requirement().check(&verified).is_ok())), 0);
    assert_eq!(allocations(|| drop(verified.clone())), 0);
    assert_eq!(allocations(|| assert_eq!(verified.auth_time(), Some(at(1000)))), 0);
}

/// The token is made and signed within what is measured, so the two are compared, and not with a number.
#[test]
fn rules_about_scopes_add_nothing_to_a_judgement() {
    let count = |policy: &Policy| {
        let judge = || drop(common::judge(policy, None, r#"{"exp":2000,"scope":"a","permissions":["b"]}"#, at(1000)));
        judge();
        allocations(judge)
    };
    let plain = count(&Policy::new());
    assert_eq!(count(&Policy::new().scope_claim("permissions").scope_implies("a", ["b"])), plain);
}

//! What a stranger's header costs before anybody has vouched for it. Its own file, because it counts what the process allocates.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_token::{HeaderScratch, UnverifiedToken};

/// As many objects in one member as there is room for, of 16 names in escapes each: whoever compares each with each and resolves the escapes
/// each time does so 240 times for each object.
#[test]
fn names_with_escapes_cost_a_few_allocations_each() {
    for width in [0, 8, 38] {
        let name = |n: usize| match width {
            0 => format!("\"\\u0061{n:x}\":0"),
            // The same length and the same first and last eight octets: what names are told apart by at first sight.
            _ => format!("\"\\u0061aaaaaaa{n:02}{}aaaaaaaa\":0", "b".repeat(width)),
        };
        let object = format!(",{{{}}}", (0..16).map(name).collect::<Vec<_>>().join(","));
        let objects = 6000 / object.len();
        let header = format!("{{\"alg\":\"ES256\",\"x\":[0{}]}}", object.repeat(objects));
        let token = format!("{}.e30.AA", BASE64_URL_SAFE_NO_PAD.encode(header));
        let allocations = allocation_counter::measure(|| {
            let mut scratch = HeaderScratch::new();
            UnverifiedToken::parse(&token, 8192, &mut scratch).expect("a token");
        });
        let names = objects as u64 * 16;
        assert!(allocations.count_total <= 4 * names, "{} for {names} names", allocations.count_total);
    }
}

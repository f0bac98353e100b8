//! Two fleets with two configurations on one ring.

use std::time::Duration;

use countersign_issuer::Slot;
use countersign_token::Algorithm;
use tokio::time::{Instant, sleep};

use crate::support::{Caches, Token, World, config, token};

#[tokio::test(start_paused = true)]
async fn through_a_switch_between_configurations_nobody_is_refused() {
    let world = World::new();
    let blue = config();
    let mut green = config();
    // Longer tokens, longer caches, another slot.
    green.timing.max_age = Duration::from_secs(600);
    green.timing.intermediary = Duration::from_secs(600);
    green.timing.max_lifetime = Duration::from_secs(2 * 3_600);
    green.slots.push(Slot::new("ed25519", Algorithm::Ed25519));

    let mut caches = Caches::new(blue.timing.cache_bound());
    let mut tokens: Vec<Token> = Vec::new();
    let mut old = Some(world.settled(blue.clone()).await);
    let mut new = None;
    let begun = Instant::now();
    let mut kids = Vec::new();
    while begun.elapsed() < Duration::from_secs(9 * 3_600) {
        let hours = begun.elapsed().as_secs() / 3_600;
        if hours >= 1 && new.is_none() {
            let ring = world.start(green.clone()).await;
            ring.ready_within(Duration::from_secs(3_600)).await.unwrap();
            new = Some(ring);
            caches = Caches::new(green.timing.cache_bound());
        }
        if hours >= 4 {
            old = None;
        }
        let now = world.clock.wall();
        caches.see(world.jwks(), now);
        for (ring, slots) in [(&old, &["es256"][..]), (&new, &["es256", "ed25519"][..])] {
            let Some(ring) = ring else { continue };
            for slot in slots {
                let token = token(ring, slot);
                if !kids.contains(&token.kid) {
                    kids.push(token.kid.clone());
                }
                tokens.push(token);
            }
        }
        caches.assert_accept(&mut tokens, now);
        sleep(Duration::from_secs(120)).await;
    }
    assert!(kids.len() >= 7, "{kids:?}");
    assert_eq!(world.alarms(), []);
}

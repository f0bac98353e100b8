//! A URL where a source of keys is wanted.

use countersign_claims::Policy;
use countersign_tower::RequireJwtLayer;
use countersign_verifier::Verifier;

fn main() {
    let verifier = Verifier::new("https://login.example/jwks.json", Policy::new().audience("orders"));
    let _ = RequireJwtLayer::new(verifier);
}

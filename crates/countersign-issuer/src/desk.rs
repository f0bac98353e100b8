//! What the task of a node leaves for those who sign, verify and serve: one immutable value, swapped whole, so that
//! none of them ever waits for it.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_token::KeySet;

use crate::config::RingConfig;
use crate::mint::{Prepared, prepared};
use crate::ring::Door;
use crate::serve::{Document, NoDocument};
use crate::signer::Signer;
use crate::state::RingState;
use crate::step::SigningView;
use crate::time::Clock;

/// As of one step of the node.
pub(crate) struct Desk {
    /// Which key signs in each slot.
    pub(crate) view: SigningView,
    /// By `kid`: those that this node has, tested against what is published.
    pub(crate) signers: HashMap<String, Arc<dyn Signer>>,
    /// `None` until it was read for the first time. Never an older one than before.
    pub(crate) ring: Option<Arc<RingState>>,
    /// What is published by that state, prepared and bound to the issuer. A key that stays is the same `Arc`.
    pub(crate) keys: Arc<KeySet>,
    /// By `kid`: the signers, with what is the same in all of their tokens.
    pub(crate) prepared: HashMap<String, Prepared>,
    /// The JWKS as it is served, or why there is none.
    pub(crate) document: Result<Document, NoDocument>,
}

impl Desk {
    /// With what follows from the rest prepared.
    pub(crate) fn new(
        config: &RingConfig,
        view: SigningView,
        signers: HashMap<String, Arc<dyn Signer>>,
        ring: Option<Arc<RingState>>,
        keys: Arc<KeySet>,
    ) -> Self {
        let prepared = ring.as_ref().map(|ring| prepared(ring, &signers, config)).unwrap_or_default();
        let document = Document::of(ring.as_deref(), config);
        Self { view, signers, ring, keys, prepared, document }
    }
}

/// What the task and all handles share. The task ends when nobody has it any more.
pub(crate) struct Shared {
    pub(crate) issuer: Arc<str>,
    pub(crate) config: RingConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) desk: ArcSwap<Desk>,
    /// To the task. It is here so that the task lives for as long as anybody signs, verifies or serves.
    pub(crate) door: Door,
}

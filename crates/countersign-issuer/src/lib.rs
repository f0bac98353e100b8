//! The key ring of [countersign]: keys are made, published, used, retired and destroyed on their own, and at no instant
//! does an unexpired token fail at a verifier that follows the rules.
//!
//! # What a ring is
//!
//! A **ring** is what one issuer (one `iss`) signs with. It is no process but what lies in a [store](KeyStore):
//!
//! - the **state** ([`state::RingState`]): one document that says which keys there are and how far each has come.
//!   Everything else follows from it. It is replaced as a whole by compare-and-swap, each *version* has the next number
//!   (`seq`), and a code under the key-encryption keys betrays whoever edits it;
//! - the **private keys**, each sealed under a **key-encryption key** ([`Kek`]) that is kept elsewhere;
//! - the **set**: the JWKS (RFC 7517 §5) as it was last published.
//!
//! A **node** is a process at work on it: a [`Ring`] is the handle. There may be any number of nodes on one store, and
//! none of them leads: whatever is due, any [rotator](step::Role::Rotator) does, and the store decides whose version
//! counts. A [signer](step::Role::Signer) reads and signs, and writes nothing.
//!
//! A **[slot](Slot)** is a kind of key that there always is one of to sign with: an algorithm, and for RSA a size.
//! Tokens are minted in a slot, never with a key by name.
//!
//! How long everything takes is in [`Timing`], whose quantities have letters that errors, the log and these pages use:
//! a key signs for `R` (24 h), and stays in the set for `O` (24 h) after that; a node looks at the state every `K`
//! (10 s); a token lives for `L` (1 h) at most. [INVARIANTS.md] has all of them, what is true at every instant because
//! of them (I1 to I11), and the tests of it.
//!
//! A verifier **follows the rules** if it keeps a set no longer than `Cache-Control` says (`A`, 5 min, and `B`, 5 min,
//! for what caches on the way add: together `C`), grants no more leeway than `W` (60 s), and has a clock that is right
//! within `ε` (30 s). It need not look for a key that it lacks.
//!
//! # How a key lives
//!
//! | [state](state::KeyState) | the key | until |
//! |---|---|---|
//! | announced | is in the set, and signs nothing | it was found where verifiers read the set, its private key was stored, read again and tested, and `C + P + ε` (640 s) have passed: nobody can lack it |
//! | standby | could sign at once; each slot has such a key, or one on its way there | the active one is due, or an order comes |
//! | active | signs, the only one of its slot | `R` has passed; the same version of the state makes the standby active |
//! | retiring | signs no more, and its tokens are good | `O` has passed; its private key is destroyed `G + ε` (60 s) after it has ceased to sign |
//! | retired | is out of the set | – |
//!
//! A key that is given up before it was active is *abandoned*, and one that somebody else may have is *revoked*. None
//! of them ever comes back. The first keys of a new ring sign within seconds, because nobody can have an older set.
//!
//! # Starting one
//!
//! [`Ring::builder`] takes the issuer, a [`RingConfig`] (slots and timing), a store and a [`KekRing`];
//! [`start`](RingBuilder::start) spawns the one task of the node on the tokio runtime, and
//! [`ready_within`](Ring::ready_within) waits until every slot signs. The page of [`Ring`] has it in ten lines. A
//! configuration that cannot keep the invariants is refused with the arithmetic ([`RingConfig::check`]). The task ends
//! with the last handle; there is nothing to close.
//!
//! The facade `countersign` does not have this crate, but the types that both speak of are the same: `Algorithm`,
//! `UnixTime` and `RevocationList` of the one fit into the other.
//!
//! Keys of a service that has signed until now are [adopted](Ring::adopt) ([`AdoptKey`]), and its tokens stay good.
//!
//! Runnable, a file each: [an issuer and its API in one binary][issuer_and_api], [a stolen key][ring_emergency],
//! [several nodes in S3][ring_object_store], [ES256 and RSA in one ring][ring_es256_and_rsa], [a key for every quarter
//! of an hour][ring_every_15_minutes].
//!
//! # Signing, serving, verifying
//!
//! None of these waits for anything or takes a lock: they read what the task has left in memory.
//!
//! - **Mint**: [`Ring::minter`] gives a [`Minter`], and [`Mint`] says what a token is to say: for how long
//!   it lives, whom it is for, further claims. `iss`, `iat`, `exp`, `jti`, `kid` and `alg` are the issuer's.
//! - **Serve** the set: [`Ring::jwks`] is a tower service. Or let the store serve it: then [say where verifiers read
//!   it](RingBuilder::read_back), because a key's announcement begins when it was found *there*.
//! - **Verify** in the same process: [`Ring::keys`] is the [`KeySource`](countersign_token::KeySource) of
//!   countersign's `Verifier`. Everybody else verifies by the URL of the set, as of any other issuer.
//!
//! # Rotating and revoking
//!
//! Keys rotate by themselves. Orders are written into the state, so any rotator takes them and all nodes follow; the
//! command line `countersign keys` gives them to a ring in a directory while its nodes run.
//!
//! - [`Ring::rotate`] and [`Ring::rotate_all`], for a key that is merely old: the standby signs, no token is refused.
//! - [`Ring::compromise`], for a key that somebody else may have: it is out of the set and signs no more, the standby
//!   takes over, and [whoever is told of revocations](RingBuilder::revocations) is told. The answer says for how long
//!   verifiers may still accept its tokens. A slot without a standby halts until the next key may sign.
//! - [`Ring::abandon`], for a key that has not signed yet.
//! - A key-encryption key is replaced in two rounds of restarts: first it is there on all nodes, then it is in front. See [`KekRing`].
//!
//! # When something dies
//!
//! A node remembers no plans. At each tick, and after whatever it has asked for was answered, it looks at the state, at
//! the time and at the keys that it holds, and does what is missing. So a process may be killed between any two steps,
//! and an answer may be lost; somebody looks again and goes on (the last table of [INVARIANTS.md] has each step). What
//! has come of a write whose answer was lost, or says that another was faster, is known by what is read afterwards.
//!
//! While the store is out of reach a node signs for `G` (30 s) after its last look, serves the set for `A + P + ε`
//! (340 s), and verifies for a day ([`MAX_STALE`]). A node that doubts its clock neither signs nor rotates (I10).
//! [`Ring::status`] says how things are, [`RingBuilder::on_event`] what happens, and [OBSERVABILITY.md] what each
//! [alarm](step::Alarm) asks of you.
//!
//! **Whoever loses the key-encryption key has lost the ring**: no node believes its state or opens its private keys.
//! What remains is another ring that adopts the public keys, so that tokens stay good. And an old state is no backup:
//! nodes that remember a later one write that again.
//!
//! # Stores
//!
//! - [`MemoryStore`], for tests, and for rings that end with their process. It does wrong what a test tells it to.
//! - [`DirectoryStore`] (Unix), for the processes of one machine.
//! - [`ObjectKeyStore`] (feature `object_store-0.14`): S3, GCS, Azure and whatever else has conditional writes.
//! - Your own: [`KeyStore`] says what it must promise, and [`KeyStore::probe`] is asked at the start whether it does.
//!
//! # Features
//!
//! None is on unless it is named.
//!
//! - `object_store-0.14`: [`ObjectKeyStore`]. Clients are chosen by your own dependency on `object_store`.
//! - `metrics`: what a node does, and how it sees the ring, for a recorder of the crate `metrics`.
//! - `tracing`: what happens, as events of the crate `tracing`.
//!
//! The modules [`state`], [`publication`] and [`step`] (the state machine that every node runs) are for whoever looks
//! inside: tools that read the document of a ring, and tests. Services need of them the names of roles, alarms,
//! refusals and [`step::Compromised`].
//!
//! # What is not there
//!
//! - **An HTTP API that signs for others.** That is `countersign-service`, and `countersign serve` is it as a process.
//! - **A driver for an HSM or a KMS.** [`KeyHolder`] is where one is plugged in; none comes with it. Without one, a secrets manager can
//!   keep the key-encryption key ([`KekSource::command`]).
//! - **Symmetric keys.** HMAC has no public key to publish.
//! - **Keys that rotate faster than they can be announced.** A slot has one next key at a time, so `R` is at least
//!   `C + P + ε` and what it takes to make and publish one (I6), 657 s by default; a configuration with less is refused.
//!   Shorten `A` and `B` ([`Timing::max_age`], [`Timing::intermediary`]), of which `C` is the sum, to shorten it.
//! - **A way back from longer quantities.** What others wait for ([`state::Terms`]) only ever grows; to configure less
//!   again shortens what this ring does and not what it waits for. The set stays a little larger and rotations may come
//!   later. [INVARIANTS.md] says how to move to another ring where that will not do.
//! - **A way to take a slot out.** One that no node is configured with any more keeps its keys and gets no new ones:
//!   the last of them signs until `R_hard` (30 days), with an alarm (`rotation_overdue`). Mint in it no more, and once
//!   its last token has expired [abandon](Ring::abandon) its standby and [revoke](Ring::compromise) its key.
//! - **A signed key set.** Whoever can write where the set is published, or stands in for that place, can add a key to
//!   it. Serve it with [`JwksService`], whose source is the state, which is authenticated; or let nobody write there.
//!
//! [countersign]: https://docs.rs/countersign
//! [INVARIANTS.md]: https://github.com/countersign-rs/countersign/blob/main/crates/countersign-issuer/INVARIANTS.md
//! [OBSERVABILITY.md]: https://github.com/countersign-rs/countersign/blob/main/OBSERVABILITY.md
//! [issuer_and_api]: https://github.com/countersign-rs/countersign/blob/main/examples/issuer_and_api.rs
//! [ring_emergency]: https://github.com/countersign-rs/countersign/blob/main/examples/ring_emergency.rs
//! [ring_es256_and_rsa]: https://github.com/countersign-rs/countersign/blob/main/examples/ring_es256_and_rsa.rs
//! [ring_every_15_minutes]: https://github.com/countersign-rs/countersign/blob/main/examples/ring_every_15_minutes.rs
//! [ring_object_store]: https://github.com/countersign-rs/countersign/blob/main/examples/ring_object_store.rs

mod adopt;
#[doc(hidden)]
pub mod by_hand;
mod config;
mod desk;
mod holder;
mod mint;
pub mod publication;
mod ring;
mod seal;
mod serve;
mod signer;
mod source;
pub mod state;
pub mod step;
mod store;
mod text;
mod time;

pub use adopt::{AdoptError, AdoptKey};
pub use config::{
    ConfigError, KEPT_AT_LEAST, MAX_JWKS_BYTES, MAX_KEYS, MAX_SLOT_NAME_BYTES, RingConfig, Slot, Timing, WARN_KEYS,
    Warning,
};
pub use holder::{HeldKey, HolderError, KeyHolder};
pub use mint::{
    ACCESS_TOKEN_TYPE, DEFAULT_MAX_PAYLOAD_BYTES, MAX_CLAIMS_BYTES, MAX_TYPE_BYTES, Mint, MintError, Minted, Minter,
};
pub use ring::{
    KeyStatus, Moment, NotReady, OrderError, ReadBack, Revoked, Ring, RingBuilder, RingEvent, RingStatus, Rotated,
    SlotSigner, SlotStatus, StartError, Work,
};
pub use seal::{
    DEFAULT_COMMAND_TIME, KEK_BYTES, Kek, KekError, KekId, KekRing, KekSource, KeyIdentity, MAX_KEK_SOURCE_BYTES,
    MAX_KEKS, MAX_PRIVATE_DER_BYTES, Purpose, SealError, StateMac,
};
pub use serve::JwksService;
pub use signer::Signer;
pub use source::{MAX_STALE, RingKeys, RingSnapshot};
#[cfg(unix)]
pub use store::DirectoryStore;
#[cfg(feature = "object_store-0.14")]
pub use store::{DEFAULT_TIME_LIMIT, ObjectKeyStore};
pub use store::{
    Fault, JwksHeaders, KeyStore, MAX_LISTED, MAX_SEALED_BYTES, MAX_STATE_BYTES, MAX_STORED_JWKS_BYTES,
    MAX_STORED_KID_BYTES, MemoryStore, Operation, StoreError, StoreErrorKind, StoreFuture, StoreTime, Stored, Version,
};
pub use text::ParseError;
pub use time::{Clock, Now, SystemClock};

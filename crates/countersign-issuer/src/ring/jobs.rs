//! What the core asks for, done: each effect is a future of its own, which ends in one answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;
use countersign_claims::revocation::{Entry, RevocationSink, Revokes};
use countersign_token::{Algorithm, Thumbprint};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::material::{self, Hands, Made, algorithm_of};
use super::read_back::ReadBack;
use super::work::{Failed, Moment, Work, within};
use crate::config::RingConfig;
use crate::holder::KeyHolder;
use crate::publication::Publication;
use crate::seal::{KekRing, KeyIdentity, Purpose, StateMac};
use crate::signer::Signer;
use crate::state::{PublicJwk, RingState};
use crate::step::{Effect, Event, Failure, Loaded, OpenFailure, Role};
use crate::store::{JwksHeaders, KeyStore, StoreErrorKind, Version};

/// RFC 7517 §8.5.2.
const JWKS_TYPE: &str = "application/jwk-set+json";

/// One operation of the store may always take so long, however short `t_publish` is: what is shorter is the hiccup of a
/// disk or of a scheduler.
pub(crate) const LEAST_STORE_TIME: Duration = Duration::from_secs(1);

/// How long it may take to make a key. RSA with 4096 bits takes a second; on a machine that is starved, many.
pub(crate) const MAX_KEYGEN_TIME: Duration = Duration::from_secs(60);

/// How long a sink may take for one revocation. It is tried again until it succeeds.
pub(crate) const MAX_PUSH_TIME: Duration = Duration::from_secs(10);

/// For tests, which die in it.
pub(super) type Hook = Arc<dyn Fn(&Effect, Moment) + Send + Sync>;

/// What all work needs.
pub(super) struct Tools {
    pub(super) issuer: Arc<str>,
    pub(super) config: RingConfig,
    pub(super) role: Role,
    pub(super) store: Arc<dyn KeyStore>,
    pub(super) keks: Arc<KekRing>,
    pub(super) holder: Option<Arc<dyn KeyHolder>>,
    pub(super) mac: StateMac,
    pub(super) read_back: ReadBack,
    pub(super) sink: Option<Arc<dyn RevocationSink>>,
    pub(super) hook: Option<Hook>,
}

/// How a piece of work ended.
pub(super) struct Done {
    pub(super) outcome: Outcome,
    /// What is said of it, where it failed: nothing of what is stored, no credentials, no URL.
    pub(super) errors: Vec<(Work, Arc<str>)>,
}

/// What the task has to take in.
pub(super) enum Outcome {
    Answer(Event),
    Made { slot: String, made: Made },
    Opened { kid: String, signer: Arc<dyn Signer> },
    Pushed { kid: String, within: Duration },
}

pub(super) type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What is to be done, and what is answered if it never ends because somebody's code panics. `None` for what is no
/// work.
pub(super) fn begin(
    tools: &Arc<Tools>,
    effect: &Effect,
    hands: &mut Hands,
    ring: Option<&RingState>,
) -> Option<(Work, Job, Event)> {
    let (work, given_up) = (Work::of(effect)?, gave_up(effect)?);
    let it = Arc::clone(tools);
    let job: Job = match effect.clone() {
        Effect::Load => Box::pin(async move { answered(work, it.load().await, Event::Loaded) }),
        Effect::Save { state, expected } => {
            Box::pin(async move { answered(work, it.save(&state, expected).await, Event::Saved) })
        }
        Effect::Generate { slot } => Box::pin(async move { it.generate(slot).await }),
        Effect::ReadPublished => {
            Box::pin(async move { answered(work, it.read_published().await, Event::PublishedRead) })
        }
        Effect::Publish { publication, expected } => {
            Box::pin(async move { answered(work, it.publish(&publication, expected).await, Event::Published) })
        }
        Effect::ReadBack => Box::pin(async move {
            let read = it.read_back.read(&*it.store, it.limit()).await;
            answered(work, read, Event::ReadBack)
        }),
        Effect::Seal { kid } => {
            let sealed = it.seal(&kid, hands, ring);
            Box::pin(async move {
                let stored = match sealed {
                    Ok(sealed) => it.put_private(&kid, &sealed).await,
                    Err(failed) => Err(failed),
                };
                answered(work, stored, |result| Event::Sealed { kid, result })
            })
        }
        Effect::Open { kid, jwk } => {
            let identity = Identity::of(&kid, &jwk, ring);
            Box::pin(async move { it.open(kid, jwk, identity).await })
        }
        Effect::Destroy { kid } => Box::pin(async move {
            let destroyed = within(it.limit(), StoreErrorKind::Unknown, it.store.destroy_private(&kid)).await;
            answered(work, destroyed.map_err(Failed::from), |result| Event::Destroyed { kid, result })
        }),
        Effect::ListSealed => Box::pin(async move {
            let listed = within(it.limit(), StoreErrorKind::Unavailable, it.store.list_private()).await;
            answered(work, listed.map_err(Failed::from), Event::SealedListed)
        }),
        Effect::PushRevocation { kid, .. } => {
            let thumbprint = thumbprint(&kid, ring);
            Box::pin(async move { it.push(kid, thumbprint).await })
        }
        _ => return None,
    };
    let Some(hook) = tools.hook.clone() else { return Some((work, job, given_up)) };
    let effect = effect.clone();
    let hooked = Box::pin(async move {
        hook(&effect, Moment::Before);
        let done = job.await;
        hook(&effect, Moment::After);
        done
    });
    Some((work, hooked, given_up))
}

/// What is said of work that has no end.
fn gave_up(effect: &Effect) -> Option<Event> {
    Some(match effect {
        Effect::Load => Event::Loaded(Err(Failure::Unavailable)),
        Effect::Save { .. } => Event::Saved(Err(Failure::Unknown)),
        Effect::Generate { slot } => Event::Generated { slot: slot.clone(), key: None },
        Effect::ReadPublished => Event::PublishedRead(Err(Failure::Unavailable)),
        Effect::Publish { .. } => Event::Published(Err(Failure::Unknown)),
        Effect::ReadBack => Event::ReadBack(Err(Failure::Unavailable)),
        Effect::Seal { kid } => Event::Sealed { kid: kid.clone(), result: Err(Failure::Unknown) },
        Effect::Open { kid, .. } => Event::Opened { kid: kid.clone(), result: Err(OpenFailure::Unavailable) },
        Effect::Destroy { kid } => Event::Destroyed { kid: kid.clone(), result: Err(Failure::Unknown) },
        Effect::ListSealed => Event::SealedListed(Err(Failure::Unavailable)),
        Effect::PushRevocation { kid, .. } => Event::RevocationPushed { kid: kid.clone(), is_done: false },
        _ => return None,
    })
}

fn answered<T>(
    work: Work,
    result: Result<T, Failed<Failure>>,
    event: impl FnOnce(Result<T, Failure>) -> Event,
) -> Done {
    let (result, errors) = match result {
        Ok(value) => (Ok(value), Vec::new()),
        Err(failed) => (Err(failed.failure), vec![(work, failed.text)]),
    };
    Done { outcome: Outcome::Answer(event(result)), errors }
}

/// The key's own, whatever it is called. What is buried has no public part any more; most names are thumbprints.
fn thumbprint(kid: &str, ring: Option<&RingState>) -> Option<Thumbprint> {
    let key = ring.and_then(|ring| ring.keys.get(kid));
    match key {
        Some(key) => material::verifying(&key.jwk).map(|key| *key.thumbprint()),
        None => Thumbprint::parse(kid),
    }
}

/// [`KeyIdentity`] with its strings.
pub(super) struct Identity {
    kid: String,
    algorithm: Algorithm,
    created_at: UnixTime,
}

impl Identity {
    /// `None` if the ring does not have it, or this version does not know its algorithm.
    fn of(kid: &str, jwk: &PublicJwk, ring: Option<&RingState>) -> Option<Self> {
        let created_at = ring?.keys.get(kid)?.announced_at;
        Some(Self { kid: kid.to_owned(), algorithm: algorithm_of(jwk)?, created_at })
    }

    fn within<'a>(&'a self, issuer: &'a str) -> KeyIdentity<'a> {
        let Self { kid, algorithm, created_at } = self;
        KeyIdentity { issuer, kid, algorithm: *algorithm, purpose: Purpose::Signing, created_at: *created_at }
    }
}

impl Tools {
    pub(super) fn limit(&self) -> Duration {
        self.config.timing.publish.max(LEAST_STORE_TIME)
    }

    /// Both at once, because each has to be within the time that the core measures.
    pub(super) async fn load(&self) -> Result<Loaded, Failed<Failure>> {
        let (stored, time) = tokio::join!(
            within(self.limit(), StoreErrorKind::Unavailable, self.store.load_state()),
            within(self.limit(), StoreErrorKind::Unavailable, self.store.time()),
        );
        let state = match stored? {
            Some(stored) => Some((self.read_state(&stored.bytes)?, stored.version)),
            None => None,
        };
        let time = match time {
            // Some stores are asked for the time by a write. Whoever only signs is held to the last transition then.
            Err(error) if error.kind() == StoreErrorKind::Denied && self.role == Role::Signer => None,
            time => time?,
        };
        Ok(Loaded { state, store_time: time.map(|time| time.at) })
    }

    /// Why what is there cannot be read, if anything is to be had.
    pub(super) async fn look(&self) -> Result<(), Arc<str>> {
        match within(self.limit(), StoreErrorKind::Unavailable, self.store.load_state()).await {
            Ok(Some(stored)) => self.read_state(&stored.bytes).map(drop).map_err(|failed| failed.text),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    fn read_state(&self, document: &[u8]) -> Result<Arc<RingState>, Failed<Failure>> {
        let unreadable = |text: String| Failed::new(Failure::Unreadable, text);
        let state = self.mac.check(document).map_err(|error| unreadable(error.to_string()))?;
        RingState::from_bytes(state).map(Arc::new).map_err(|error| unreadable(error.to_string()))
    }

    async fn save(&self, state: &RingState, expected: Option<Version>) -> Result<Version, Failed<Failure>> {
        let document = self.mac.protect(&state.to_bytes());
        let document = document.map_err(|error| Failed::new(Failure::Denied, error.to_string()))?;
        let swap = self.store.swap_state(expected.as_ref(), &document);
        Ok(within(self.limit(), StoreErrorKind::Unknown, swap).await?)
    }

    async fn generate(&self, name: String) -> Done {
        let Some(slot) = self.config.slot(&name).cloned() else { return not_made(name, "there is no such slot") };
        let holder = self.holder.clone();
        let making = spawn_blocking(move || match holder {
            Some(holder) => material::make_held(&*holder, &slot),
            None => material::make(&slot).map_err(|error| error.to_string()),
        });
        match timeout(MAX_KEYGEN_TIME, making).await {
            Ok(Ok(Ok(made))) => Done { outcome: Outcome::Made { slot: name, made }, errors: Vec::new() },
            Ok(Ok(Err(error))) => not_made(name, error),
            Ok(Err(_)) => not_made(name, "the making of a key was given up"),
            Err(_) => not_made(name, format!("no key was made within {MAX_KEYGEN_TIME:?}")),
        }
    }

    async fn read_published(&self) -> Result<Option<(Arc<[u8]>, Version)>, Failed<Failure>> {
        let stored = within(self.limit(), StoreErrorKind::Unavailable, self.store.load_jwks()).await?;
        Ok(stored.map(|stored| (stored.bytes.into(), stored.version)))
    }

    async fn publish(&self, publication: &Publication, expected: Option<Version>) -> Result<Version, Failed<Failure>> {
        let cache_control = publication.cache_control();
        let headers = JwksHeaders { content_type: JWKS_TYPE, cache_control: &cache_control };
        let publish = self.store.publish_jwks(expected.as_ref(), &publication.bytes, headers);
        Ok(within(self.limit(), StoreErrorKind::Unknown, publish).await?)
    }

    fn seal(&self, kid: &str, hands: &mut Hands, ring: Option<&RingState>) -> Result<Arc<[u8]>, Failed<Failure>> {
        let lacks = || Failed::new(Failure::Denied, "this node does not have the private part of the key");
        let key = ring.and_then(|ring| ring.keys.get(kid)).ok_or_else(lacks)?;
        let identity = Identity::of(kid, &key.jwk, ring).ok_or_else(lacks)?;
        let sealed = hands.seal(&identity.within(&self.issuer), &self.keks);
        sealed.map_err(|error| Failed::new(Failure::Unavailable, error.to_string()))?.ok_or_else(lacks)
    }

    async fn put_private(&self, kid: &str, sealed: &[u8]) -> Result<(), Failed<Failure>> {
        within(self.limit(), StoreErrorKind::Unknown, self.store.put_private(kid, sealed)).await?;
        Ok(())
    }

    async fn open(&self, kid: String, jwk: PublicJwk, identity: Option<Identity>) -> Done {
        match self.try_open(&kid, jwk, identity).await {
            Ok((signer, errors)) => Done { outcome: Outcome::Opened { kid, signer }, errors },
            Err(Failed { failure, text }) => {
                let event = Event::Opened { kid, result: Err(failure) };
                Done { outcome: Outcome::Answer(event), errors: vec![(Work::OpenPrivate, text)] }
            }
        }
    }

    async fn try_open(
        &self,
        kid: &str,
        jwk: PublicJwk,
        identity: Option<Identity>,
    ) -> Result<(Arc<dyn Signer>, Vec<(Work, Arc<str>)>), Failed<OpenFailure>> {
        let unknown = || Failed::new(OpenFailure::Undecryptable, "this version does not know the algorithm of the key");
        let identity = identity.ok_or_else(unknown)?;
        let stored = within(self.limit(), StoreErrorKind::Unavailable, self.store.get_private(kid)).await?;
        let (issuer, keks, rewraps) = (Arc::clone(&self.issuer), Arc::clone(&self.keks), self.role == Role::Rotator);
        let (found, holder) = (stored.version, self.holder.clone());
        // To read an RSA key takes a millisecond, and so does a signature of it.
        let opening = spawn_blocking(move || {
            let identity = identity.within(&issuer);
            let der = keks.open(&identity, &stored.bytes)?;
            let key = material::open_by(holder.as_deref(), &der, &jwk).map_err(|failure| {
                let text = match failure {
                    OpenFailure::Unavailable => "who holds the key, or the test of it, is not available",
                    _ => "what is stored is not the private part of the key that is published",
                };
                Failed::new(failure, text)
            })?;
            let rewrapped = if rewraps { keks.rewrap(&identity, &stored.bytes)? } else { None };
            Ok::<_, Failed<OpenFailure>>((key, rewrapped))
        });
        let given_up = |_| Failed::new(OpenFailure::Unavailable, "the test of the key was given up");
        let (key, rewrapped) = opening.await.map_err(given_up)??;
        let mut errors = Vec::new();
        if let Some(sealed) = rewrapped {
            // It is good as it is; and if the answer is lost, that is seen when it is opened the next time.
            let replace = self.store.replace_private(kid, &found, &sealed);
            match within(self.limit(), StoreErrorKind::Unknown, replace).await {
                Err(error) if error.kind() != StoreErrorKind::Conflict => {
                    errors.push((Work::RewrapPrivate, error.to_string().into()));
                }
                _ => {}
            }
        }
        Ok((key, errors))
    }

    async fn push(&self, kid: String, thumbprint: Option<Thumbprint>) -> Done {
        let Some(sink) = &self.sink else {
            // There is nobody to be told; verifiers learn it from the set.
            let event = Event::RevocationPushed { kid, is_done: true };
            return Done { outcome: Outcome::Answer(event), errors: Vec::new() };
        };
        let by_name = Revokes::Key { kid: kid.as_str().into() };
        let by_material = thumbprint.map(|thumbprint| Revokes::KeyMaterial { thumbprint });
        // For good: whoever has stolen the key makes tokens that are as young as they like.
        let entry = |revokes| Entry { issuer: (*self.issuer).into(), revokes, until: None };
        let entries: Vec<_> = std::iter::once(by_name).chain(by_material).map(entry).collect();
        let text = match timeout(MAX_PUSH_TIME, sink.publish(entries.into())).await {
            Ok(Ok(published)) => {
                let outcome = Outcome::Pushed { kid, within: published.within };
                return Done { outcome, errors: Vec::new() };
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the sink has not answered within {MAX_PUSH_TIME:?}"),
        };
        let event = Event::RevocationPushed { kid, is_done: false };
        Done { outcome: Outcome::Answer(event), errors: vec![(Work::PushRevocation, text.into())] }
    }
}

fn not_made(slot: String, text: impl Into<Arc<str>>) -> Done {
    let event = Event::Generated { slot, key: None };
    Done { outcome: Outcome::Answer(event), errors: vec![(Work::MakeKey, text.into())] }
}

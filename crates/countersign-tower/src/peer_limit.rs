//! A limit on refused requests per peer, with governor's algorithm over a fixed number of counters.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_claims::ClaimError;
use countersign_verifier::{Fault, Refusal as TokenRefusal};
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use http::{Extensions, HeaderMap};

use crate::limit::{RefusalLimit, Refused};
use crate::refusal::Refusal;

/// A [`RefusalLimit`] per address of the peer: so many refusals a minute are answered for what they are, and all others with
/// 429 and `Retry-After`, from which nobody learns why a token was not good.
///
/// ```
/// use std::net::SocketAddr;
/// use std::num::NonZeroU32;
///
/// use axum::extract::ConnectInfo; // of `into_make_service_with_connect_info::<SocketAddr>()`
/// # use countersign_claims::Policy;
/// # use countersign_token::KeySet;
/// use countersign_tower::{PeerLimit, RequireJwtLayer};
/// # use countersign_verifier::Verifier;
///
/// # let verifier = Verifier::new(KeySet::default(), Policy::new());
/// const A_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// let limit = PeerLimit::per_minute(A_MINUTE, |_headers, extensions| {
///     extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
/// });
/// let layer = RequireJwtLayer::new(verifier).limit_refusals(limit);
/// ```
///
/// # Who is not limited
///
/// Each token is judged first, and a good one passes, whoever else comes from its address: its way never comes here. The price
/// is that refused tokens cost the work of judging them, limit or not; against load there are tower's concurrency limit and
/// load shedding.
///
/// Of refusals these count, and only these are limited: malformed credentials, two tokens, and tokens that are not valid. Not
/// counted, and never limited:
///
/// - requests without a token, which clients send to learn what is wanted;
/// - tokens that have expired. Their signature is good, or nobody would have looked at their time: their holder is no prober,
///   and has to be told, or would not ask for a new one;
/// - 403, a demand for another authentication (RFC 9470), 429 and 503: the token was good, or is not to blame.
///
/// A client with another bad token (its key has been withdrawn, say) behind one address with somebody who probes gets 429 in
/// place of 401. It is told so late that it needs a new token, after `Retry-After` if it asks then and is luckier. Where many
/// share one address, set a generous rate and [burst](Self::burst), or choose with [`counting`](Self::counting) what counts.
///
/// # Who is a peer
///
/// An IPv4 address, also one that is mapped into IPv6; of IPv6 a network of [64 bits](Self::IPV6_NETWORK_BITS), because its
/// holder has all addresses in it. As many hold a whole site of such networks, each of [48 bits](Self::IPV6_SITE_BITS) has a
/// limit too, of [sixteen times as much](Self::NETWORKS_OF_A_SITE).
///
/// The peer is what the closure finds in the request's headers or extensions. Those of whom it finds nothing are counted as
/// one, so that being unknown is no way out. With tonic:
///
/// ```
/// # use std::num::NonZeroU32;
/// # use countersign_tower::PeerLimit;
/// use tonic::transport::server::TcpConnectInfo; // with TLS: `TlsConnectInfo<TcpConnectInfo>`, and its `get_ref()`
///
/// # const A_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// let limit = PeerLimit::per_minute(A_MINUTE, |_headers, extensions| {
///     Some(extensions.get::<TcpConnectInfo>()?.remote_addr()?.ip())
/// });
/// ```
///
/// Behind a proxy all have the proxy's address, so its header has to be believed. That goes only if the proxy *replaces* the
/// header whatever the client sent, and nobody reaches the service but through the proxy. Otherwise a prober writes a new
/// address into each request and is never limited, or writes somebody else's, who then is. Of `X-Forwarded-For`, to which
/// proxies append, nothing can be believed but the element that the nearest one has written: the last.
///
/// ```
/// # use std::num::NonZeroU32;
/// # use countersign_tower::PeerLimit;
/// # const A_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// // nginx: proxy_set_header X-Real-IP $remote_addr;
/// let limit = PeerLimit::per_minute(A_MINUTE, |headers, _extensions| {
///     headers.get("x-real-ip")?.to_str().ok()?.parse().ok()
/// });
/// ```
///
/// # What it costs
///
/// Nothing where nobody is refused, but 1 MiB: there is a [fixed number](Self::COUNTERS) of counters, and a peer's is chosen
/// by a hash that nobody outside of this process can compute. Nothing has to be thrown away, and nothing grows. Two peers may
/// share one counter; with a thousand peers at their limit, about 1.5 % of the others are limited with them. Whoever has
/// more addresses than there are counters can have all refusals limited, of everybody, by keeping each counter busy; good
/// tokens pass even then. There is no lock.
///
/// Each process counts for itself; a peer that is spread over `n` of them has `n` times as much.
pub struct PeerLimit {
    peer: Box<FindPeer>,
    counts: Box<dyn Fn(&Refusal) -> bool + Send + Sync>,
    limits: Limits<MonotonicClock>,
}

type FindPeer = dyn Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync;

impl PeerLimit {
    /// The bits of an IPv6 address that count as one peer: networks are of that size whoever has one (RFC 4291 §2.5.4), and
    /// hosts change the rest every day (RFC 8981).
    pub const IPV6_NETWORK_BITS: u32 = 64;

    /// The bits of an IPv6 address that are a site's at most (RFC 6177 §2): 65,536 networks, which anybody can have for little.
    pub const IPV6_SITE_BITS: u32 = 48;

    /// How many networks' worth of refusals a site has: a site of many people has more than one of them mistaken at a time, and
    /// one of a single prober gets no further with 65,536 networks than with these.
    pub const NETWORKS_OF_A_SITE: u32 = 16;

    /// How many counters there are for peers, and as many for IPv6 sites: 512 KiB each, and few enough peers share one.
    pub const COUNTERS: usize = 1 << 16;

    /// The largest [burst](Self::burst): any more are no limit, and at one a minute would not fit into 64 bits of nanoseconds.
    pub const MAX_BURST: u32 = 1_000_000;

    /// So many refusals a minute for each peer, and [as many at once](Self::burst). `peer` finds the peer's address in a
    /// request.
    ///
    /// A client in good faith causes one or two when its token ends; thirty is a good value for an address of one household,
    /// hundreds for one that many share.
    #[must_use]
    pub fn per_minute(
        refusals: NonZeroU32,
        peer: impl Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        Self {
            peer: Box::new(peer),
            counts: Box::new(Self::counts_by_default),
            limits: Limits::new(refusals, refusals, MonotonicClock),
        }
    }

    /// So many refusals at once before a peer that has not been refused for a while is limited; what is allowed in a minute if
    /// it is not set. At most [`MAX_BURST`](Self::MAX_BURST), which more are taken for.
    #[must_use]
    pub fn burst(self, refusals: NonZeroU32) -> Self {
        Self { limits: Limits::new(self.limits.per_minute, refusals, MonotonicClock), ..self }
    }

    /// Counts, and limits, those refusals for which `counts` is true, in place of [those](Self::counts_by_default) that count
    /// by default.
    ///
    /// ```
    /// # use std::num::NonZeroU32;
    /// # use countersign_tower::PeerLimit;
    /// use countersign_tower::Refusal;
    ///
    /// # const A_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();
    /// # let limit = PeerLimit::per_minute(A_MINUTE, |_headers, _extensions| None);
    /// // Clients whose key was withdrawn are told at once, at the price that the names of keys can be probed.
    /// let limit = limit.counting(|refusal: &Refusal| {
    ///     PeerLimit::counts_by_default(refusal) && refusal.code() != "unknown_key"
    /// });
    /// ```
    #[must_use]
    pub fn counting(self, counts: impl Fn(&Refusal) -> bool + Send + Sync + 'static) -> Self {
        Self { counts: Box::new(counts), ..self }
    }

    /// For those who judge by themselves: counts a refusal of this peer, whatever the closures say, and says after what time
    /// the next one is answered for what it is, if this one is not to be.
    ///
    /// ```
    /// use std::num::NonZeroU32;
    ///
    /// # use countersign_tower::PeerLimit;
    /// let limit = PeerLimit::per_minute(NonZeroU32::MIN, |_headers, _extensions| None);
    /// let peer = Some([192, 0, 2, 1].into());
    /// assert!(limit.refuse(peer).is_none());
    /// assert!(limit.refuse(peer).is_some());
    /// ```
    #[must_use]
    pub fn refuse(&self, peer: Option<IpAddr>) -> Option<Duration> {
        self.limits.retry_after(peer)
    }

    /// Whether a refusal counts if nothing else is [set](Self::counting): see [above](Self#who-is-not-limited).
    #[must_use]
    pub fn counts_by_default(refusal: &Refusal) -> bool {
        match refusal {
            Refusal::MalformedCredentials | Refusal::ManyCredentials => true,
            Refusal::Token(TokenRefusal::Claim(ClaimError::Expired { .. })) => false,
            Refusal::Token(refusal) => refusal.fault() == Fault::Token,
            // Behind the limit: see `signed.rs`.
            Refusal::NoCredentials | Refusal::Denied(_) | Refusal::Request(_) | Refusal::Limited { .. } => false,
        }
    }
}

impl RefusalLimit for PeerLimit {
    fn retry_after(&self, refused: &Refused<'_>) -> Option<Duration> {
        if !(self.counts)(refused.refusal()) {
            return None;
        }
        self.limits.retry_after((self.peer)(refused.headers(), refused.extensions()))
    }
}

impl fmt::Debug for PeerLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerLimit")
            .field("per_minute", &self.limits.per_minute)
            .field("burst", &self.limits.burst)
            .finish_non_exhaustive()
    }
}

/// With the middleware that does nothing, for this clock: which clock is governor's default depends on its features.
type Limiter<C> = RateLimiter<Option<IpAddr>, Counters, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// What a peer has, by a clock.
struct Limits<C: Clock> {
    per_minute: NonZeroU32,
    burst: NonZeroU32,
    clock: C,
    peers: Limiter<C>,
    /// IPv6 only.
    sites: Limiter<C>,
}

impl<C: Clock + Clone> Limits<C> {
    fn new(per_minute: NonZeroU32, burst: NonZeroU32, clock: C) -> Self {
        let burst = burst.clamp(NonZeroU32::MIN, MAX_BURST);
        let quota =
            |times| Quota::per_minute(per_minute.saturating_mul(times)).allow_burst(burst.saturating_mul(times));
        Self {
            per_minute,
            burst,
            peers: RateLimiter::new(quota(NonZeroU32::MIN), Counters::new(), clock.clone()),
            sites: RateLimiter::new(quota(NETWORKS_OF_A_SITE), Counters::new(), clock.clone()),
            clock,
        }
    }

    /// Counts a refusal, and says when the next one is answered for what it is, if this one is not.
    fn retry_after(&self, address: Option<IpAddr>) -> Option<Duration> {
        let address = address.map(|address| address.to_canonical());
        // The site first: one at its limit touches the counters of no more peers.
        if let Some(IpAddr::V6(address)) = address {
            let site = prefix(address, PeerLimit::IPV6_SITE_BITS);
            if let Err(not_until) = self.sites.check_key(&Some(site)) {
                return Some(not_until.wait_time_from(self.clock.now()));
            }
        }
        let peer = match address {
            Some(IpAddr::V6(address)) => Some(prefix(address, PeerLimit::IPV6_NETWORK_BITS)),
            address => address,
        };
        let not_until = self.peers.check_key(&peer).err()?;
        Some(not_until.wait_time_from(self.clock.now()))
    }
}

const MAX_BURST: NonZeroU32 = NonZeroU32::new(PeerLimit::MAX_BURST).unwrap();
const NETWORKS_OF_A_SITE: NonZeroU32 = NonZeroU32::new(PeerLimit::NETWORKS_OF_A_SITE).unwrap();

fn prefix(address: Ipv6Addr, bits: u32) -> IpAddr {
    let mask = u128::MAX.checked_shl(u128::BITS - bits).unwrap_or_default();
    IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
}

/// governor's state of each peer: the time at which it will have all of its quota again, in nanoseconds of governor's, and 0
/// for those who never had less.
struct Counters {
    counters: Box<[AtomicU64]>,
    /// With keys out of the system's randomness: nobody can choose an address for the counter that it falls on.
    hasher: RandomState,
}

impl Counters {
    fn new() -> Self {
        let counters = (0..PeerLimit::COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self { counters, hasher: RandomState::new() }
    }
}

impl StateStore for Counters {
    type Key = Option<IpAddr>;

    fn measure_and_replace<T, F, E>(&self, peer: &Self::Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
        let index = self.hasher.hash_one(peer) as usize % self.counters.len();
        let counter = &self.counters[index];
        let mut found = counter.load(Ordering::Relaxed);
        loop {
            let (outcome, next) = decide((found != 0).then(|| Nanos::from(found)))?;
            match counter.compare_exchange_weak(found, next.into(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(outcome),
                Err(changed) => found = changed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limits(per_minute: u32, burst: u32) -> (Limits<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let [per_minute, burst] = [per_minute, burst].map(|number| NonZeroU32::new(number).unwrap());
        (Limits::new(per_minute, burst, clock.clone()), clock)
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// How many refusals in a row are answered for what they are.
    fn answered(limits: &Limits<FakeRelativeClock>, addresses: impl IntoIterator<Item = Option<IpAddr>>) -> usize {
        addresses.into_iter().filter(|address| limits.retry_after(*address).is_none()).count()
    }

    #[test]
    fn after_the_burst_comes_the_rate_and_the_wait_is_said() {
        let (limits, clock) = limits(30, 5);
        let peer = address("192.0.2.1");
        assert_eq!(answered(&limits, [peer; 1000]), 5);
        assert_eq!(limits.retry_after(peer), Some(Duration::from_secs(2)));
        clock.advance(Duration::from_millis(500));
        assert_eq!(limits.retry_after(peer), Some(Duration::from_millis(1500)), "asking does not make it longer");
        clock.advance(Duration::from_millis(1500));
        assert_eq!(answered(&limits, [peer; 1000]), 1);
        clock.advance(Duration::from_secs(60));
        assert_eq!(answered(&limits, [peer; 1000]), 5, "a minute of silence makes up for everything, and for no more");
    }

    #[test]
    fn peers_that_are_forgotten_leave_nothing_behind() {
        let (limits, clock) = limits(30, 30);
        for number in 0..200_000_u32 {
            limits.retry_after(Some(IpAddr::from(number.to_be_bytes())));
        }
        clock.advance(Duration::from_secs(60));
        assert_eq!(answered(&limits, [address("192.0.2.1"); 1000]), 30);
    }

    #[test]
    fn a_peer_of_ipv6_is_a_network_and_a_site_has_sixteen_of_them() {
        let (limits, _) = limits(30, 10);
        let in_one_network = (0..1000_u32).map(|host| address(&format!("2001:db8:1:1::{host:x}")));
        assert_eq!(answered(&limits, in_one_network), 10);
        // Of a site's 160 the first network has taken as many as it has tried for: the rest is limited whoever asks. Counted anew, because one of them
        // might share its counter with the network above.
        let (limits, _) = self::limits(30, 10);
        let networks = (0..65_536_u32).map(|network| address(&format!("2001:db8:2:{network:x}::1")));
        assert_eq!(answered(&limits, networks), 160);
        assert!(answered(&limits, (0..3).map(|site| address(&format!("2001:db8:a{site}::1")))) > 0);
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        let (limits, _) = limits(30, 10);
        assert_eq!(answered(&limits, [address("::ffff:192.0.2.1"); 100]), 10);
        assert_eq!(answered(&limits, [address("192.0.2.1"); 100]), 0);
        // The other neighbours may have the same counter as that one; not all of them.
        assert!(answered(&limits, (2..6).map(|last| address(&format!("::ffff:192.0.2.{last}")))) > 0);
    }

    #[test]
    fn whoever_is_not_known_is_one_peer() {
        let (limits, _) = limits(30, 10);
        assert_eq!(answered(&limits, [None; 100]), 10);
        assert!(answered(&limits, ["::1", "192.0.2.1", "192.0.2.2"].map(address)) > 0);
    }

    #[test]
    fn the_most_that_can_be_set_is_no_overflow() {
        for (per_minute, burst) in [(1, u32::MAX), (u32::MAX, u32::MAX), (u32::MAX, 1), (1, 1)] {
            let (limits, clock) = limits(per_minute, burst);
            for peer in ["192.0.2.1", "2001:db8::1"].map(address) {
                assert_eq!(limits.retry_after(peer), None);
                clock.advance(Duration::from_secs(100 * 365 * 24 * 3600));
                assert_eq!(limits.retry_after(peer), None);
            }
        }
        let limit = PeerLimit::per_minute(NonZeroU32::MIN, |_, _| None).burst(NonZeroU32::MAX);
        assert_eq!(format!("{limit:?}"), "PeerLimit { per_minute: 1, burst: 1000000, .. }");
    }

    #[test]
    fn threads_that_count_one_peer_together_get_no_more_than_one() {
        const BURST: u32 = 300_000;
        let (limits, _) = limits(30, BURST);
        let peer = address("192.0.2.1");
        let start = std::sync::Barrier::new(4);
        let counted: usize = std::thread::scope(|scope| {
            let count = || {
                start.wait();
                answered(&limits, (0..BURST / 2).map(|_| peer))
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(counted, 300_000);
    }
}

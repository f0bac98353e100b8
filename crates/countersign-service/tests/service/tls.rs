//! TLS under the connections: which versions, for how long, and with which certificate.

use std::sync::Arc;
use std::time::Duration;

use countersign_service::{ConnectionLimits, MAX_PEM_BYTES, Tls, TlsPem};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::{ProtocolVersion, version};

use crate::bench::{Answer, read};
use crate::connections::{LONG, Served, limits, request, served_with};
use crate::pki::{Authority, BOTH, Identity, client, secure};

async fn served(authority: &Authority, limits: ConnectionLimits) -> (Served, Tls) {
    let tls = Tls::new(&authority.service(), ()).unwrap();
    (served_with(limits, Some(tls.clone())).await.0, tls)
}

async fn get(served: &Served, config: Arc<tokio_rustls::rustls::ClientConfig>) -> std::io::Result<Answer> {
    let mut stream = secure(config, TcpStream::connect(served.address).await?).await?;
    stream.write_all(request("/", "").as_bytes()).await?;
    Ok(read(&mut stream).await)
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken() {
    let authority = Authority::new("a");
    let (served, _) = served(&authority, ConnectionLimits::default()).await;
    for (version, name) in [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)] {
        for protocols in [&[][..], &["http/1.1"]] {
            let config = client(&authority, None, protocols, &[version]);
            let mut stream = secure(config, TcpStream::connect(served.address).await.unwrap()).await.unwrap();
            assert_eq!(stream.get_ref().1.protocol_version(), Some(name));
            stream.write_all(request("/", "").as_bytes()).await.unwrap();
            assert_eq!(read(&mut stream).await.body, b"ok");
        }
    }
    // Neither something else over TLS, nor a client that trusts somebody else.
    assert!(get(&served, client(&authority, None, &["spdy/1"], BOTH)).await.is_err());
    assert!(get(&served, client(&Authority::new("b"), None, &[], BOTH)).await.is_err());
}

/// A `ClientHello` of somebody who knows no later version than this.
fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.push(0);
    // ECDHE with ECDSA: AES-128-CBC of TLS 1.0, and AES-128-GCM.
    body.extend([0, 4, 0xC0, 0x09, 0xC0, 0x2B]);
    body.extend([1, 0]);
    // Extensions: P-256, no compression of points, ECDSA with SHA-256.
    body.extend([0, 22]);
    body.extend([0, 10, 0, 4, 0, 2, 0, 23]);
    body.extend([0, 11, 0, 2, 1, 0]);
    body.extend([0, 13, 0, 4, 0, 2, 4, 3]);
    let mut hello =
        vec![22, 3, 1, 0, u8::try_from(body.len() + 4).unwrap(), 1, 0, 0, u8::try_from(body.len()).unwrap()];
    hello.extend(body);
    hello
}

#[tokio::test]
async fn tls_1_1_and_older_and_plain_http_are_turned_away() {
    let authority = Authority::new("a");
    let (served, _) = served(&authority, ConnectionLimits::default()).await;
    let answer = async |sent: &[u8]| {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut answer = vec![0; 7];
        let length = timeout(LONG, stream.read(&mut answer)).await.unwrap().unwrap_or(0);
        answer.truncate(length);
        answer
    };
    // With a `ServerHello`, so that nothing is wrong with the rest of it.
    assert_eq!(answer(&hello(3)).await[0], 22);
    for minor in [0, 1, 2] {
        let answer = answer(&hello(minor)).await;
        // A fatal alert: `protocol_version`.
        assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]), "TLS 1.{minor}");
    }
    let answer = answer(request("/", "").as_bytes()).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn a_slow_handshake_is_cut_off_and_has_counted_as_a_connection() {
    let authority = Authority::new("a");
    let mut limits = limits();
    limits.handshake_time = Duration::from_millis(500);
    limits.connections = 1;
    let (served, _) = served(&authority, limits).await;
    for sent in [&b""[..], &[22], &hello(3)[..9]] {
        let mut slow = TcpStream::connect(served.address).await.unwrap();
        slow.write_all(sent).await.unwrap();
        // The only connection there may be is the slow one, until it has had its time.
        let started = std::time::Instant::now();
        let other = get(&served, client(&authority, None, &[], BOTH));
        assert_eq!(timeout(LONG, other).await.unwrap().unwrap().body, b"ok");
        assert!(started.elapsed() > Duration::from_millis(200), "{sent:?} was no connection");
        let mut rest = Vec::new();
        assert!(timeout(LONG, slow.read_to_end(&mut rest)).await.is_ok(), "{sent:?} holds its connection");
    }
}

#[tokio::test]
async fn the_end_of_the_service_ends_a_handshake() {
    let authority = Authority::new("a");
    let mut limits = ConnectionLimits::default();
    limits.handshake_time = LONG;
    limits.ending_time = LONG;
    let (served, _) = served(&authority, limits).await;
    let slow = TcpStream::connect(served.address).await.unwrap();
    // One that is served after it shows that it was accepted.
    assert!(get(&served, client(&authority, None, &[], BOTH)).await.is_ok());
    served.end.send(()).unwrap();
    timeout(Duration::from_secs(5), served.ended).await.unwrap().unwrap();
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_exchanged_under_load_and_a_bad_one_changes_nothing() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let (served, tls) = served(&first, ConnectionLimits::default()).await;
    let served = Arc::new(served);
    // Whoever trusts both is served all the time.
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    roots.add(first.certificate.der().clone()).unwrap();
    roots.add(second.certificate.der().clone()).unwrap();
    let both = tokio_rustls::rustls::ClientConfig::builder_with_provider(Arc::new(
        tokio_rustls::rustls::crypto::aws_lc_rs::default_provider(),
    ));
    let both = both.with_protocol_versions(BOTH).unwrap().with_root_certificates(roots).with_no_client_auth();
    let both = Arc::new(both);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (served, both, stop) = (Arc::clone(&served), Arc::clone(&both), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut times = 0;
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    assert_eq!(get(&served, Arc::clone(&both)).await.unwrap().status, 200);
                    times += 1;
                }
                times
            })
        })
        .collect();
    // A connection that is there stays.
    let mut before = secure(Arc::clone(&both), TcpStream::connect(served.address).await.unwrap()).await.unwrap();

    let now = async |authority: &Authority| get(&served, client(authority, None, &[], BOTH)).await.is_ok();
    let good = second.service();
    let mut others_key = good.clone();
    others_key.key = first.service().key;
    let mut no_key = good.clone();
    no_key.key.clear();
    let mut no_certificate = good.clone();
    no_certificate.certificates = b"nothing".to_vec();
    let mut cut_off = good.clone();
    cut_off.certificates.truncate(200);
    let ended = second.identity_with(&["localhost"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let early = second.identity_with(&["localhost"], |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
    let no_authority = good.clone().client_authorities("nothing");
    let too_long = good.clone().client_authorities(second.pem() + &"#".repeat(600_000));
    for (what, bad) in [
        ("others_key", others_key),
        ("no_key", no_key),
        ("no_certificate", no_certificate),
        ("cut_off", cut_off),
        ("ended", ended.pem()),
        ("early", early.pem()),
        ("no_authority", no_authority),
        ("too_long", too_long),
    ] {
        assert!(tls.reload(&bad).is_err(), "{what}");
        assert!(now(&first).await && !now(&second).await, "{what}");
    }
    tls.reload(&good).unwrap();
    assert!(now(&second).await && !now(&first).await);
    before.write_all(request("/", "").as_bytes()).await.unwrap();
    assert_eq!(read(&mut before).await.body, b"ok");
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    for load in load {
        assert!(load.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn each_connection_shakes_hands_in_full() {
    let authority = Authority::new("a");
    let (served, _) = served(&authority, ConnectionLimits::default()).await;
    for version in [&version::TLS12, &version::TLS13] {
        // The same configuration remembers sessions, if it is given any.
        let config = client(&authority, None, &[], &[version]);
        for _ in 0..2 {
            let stream = TcpStream::connect(served.address).await.unwrap();
            let mut stream = secure(Arc::clone(&config), stream).await.unwrap();
            stream.write_all(request("/", "").as_bytes()).await.unwrap();
            assert_eq!(read(&mut stream).await.status, 200);
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(tokio_rustls::rustls::HandshakeKind::Full));
        }
    }
}

#[test]
fn of_a_key_nothing_is_shown() {
    let pem = Identity::self_signed(&["localhost"]).pem();
    let tls = Tls::new(&pem, ()).unwrap();
    assert_eq!(format!("{pem:?} {tls:?}"), "TlsPem { .. } Tls { .. }");
}

#[test]
fn a_chain_is_so_long_and_so_is_each_file() {
    let authority = Authority::new("a");
    let pem = authority.service().client_authorities(authority.pem());
    let use_it = |change: &dyn Fn(&mut TlsPem)| {
        let mut changed = pem.clone();
        change(&mut changed);
        Tls::new(&changed, ()).map(drop)
    };
    let chain = |of: usize| use_it(&|pem| pem.certificates.extend(authority.pem().repeat(of - 1).into_bytes()));
    assert_eq!(chain(8), Ok(()));
    assert!(chain(9).unwrap_err().to_string().contains("a chain of 1 to 8"));
    let files: [fn(&mut TlsPem) -> &mut Vec<u8>; 3] =
        [|pem| &mut pem.certificates, |pem| &mut pem.key, |pem| pem.client_authorities.as_mut().unwrap()];
    for file in files {
        assert_eq!(use_it(&|pem| file(pem).resize(MAX_PEM_BYTES, b'\n')), Ok(()));
        let error = use_it(&|pem| file(pem).resize(MAX_PEM_BYTES + 1, b'\n')).unwrap_err().to_string();
        assert!(error.contains("too long") || error.contains("longer than"), "{error}");
    }
}

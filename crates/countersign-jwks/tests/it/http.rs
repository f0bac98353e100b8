//! `HttpFetch` against real sockets on loopback whose other end misbehaves.
use std::time::{Duration, Instant};

use crate::support::{document, look_up};
use countersign_jwks::{HttpFetch, KeyState, Keys, MAX_BODY_BYTES, Remote};
use countersign_token::{Fetch, FetchError, FetchRequest, Fetched};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const TIMEOUT: Duration = Duration::from_millis(500);

/// Answers every connection with `behave` after having read its request; gives the URL and the requests.
async fn serve<F>(behave: impl Fn(TcpStream) -> F + Send + 'static) -> (String, mpsc::UnboundedReceiver<String>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/keys?tenant=hunter2", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            let _ = sender.send(String::from_utf8(request).unwrap());
            tokio::spawn(behave(stream));
        }
    });
    (url, requests)
}

async fn write(mut stream: TcpStream, bytes: Vec<u8>) {
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn fetch(url: &str) -> Result<Fetched, FetchError> {
    HttpFetch::new().fetch(FetchRequest::new(url, MAX_BODY_BYTES, TIMEOUT)).await
}

async fn fetch_from(bytes: Vec<u8>) -> Result<Fetched, FetchError> {
    let (url, _requests) = serve(move |stream| write(stream, bytes.clone())).await;
    fetch(&url).await
}

#[tokio::test]
async fn a_key_set_with_its_headers() {
    let headers = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nExpires: Sun, 06 Nov 1994 08:59:37 GMT\r\nAge: 60\r\n\
                   Cache-Control: max-age=600\r\nCache-Control: public\r\nETag: \"x\"\r\nRetry-After: 7\r\n\
                   Last-Modified: Sat, 05 Nov 1994 08:49:37 GMT\r\n";
    let bytes = response("200 OK", headers, &document([0]));
    let (url, mut requests) = serve(move |stream| write(stream, bytes.clone())).await;
    let mut request = FetchRequest::new(&url, MAX_BODY_BYTES, TIMEOUT);
    request.revalidate = true;
    request.etag = Some("\"w\"".into());
    let fetched = HttpFetch::new().fetch(request).await.unwrap();
    assert_eq!((fetched.status, fetched.body), (200, document([0])));
    assert_eq!(fetched.age, Some(Duration::from_secs(60)));
    assert_eq!(fetched.retry_after, Some(Duration::from_secs(7)));
    assert_eq!(fetched.cache_control.as_deref(), Some("max-age=600, public"));
    assert_eq!(fetched.etag.as_deref(), Some("\"x\""));
    assert_eq!(fetched.last_modified.as_deref(), Some("Sat, 05 Nov 1994 08:49:37 GMT"));
    let lifetime = fetched.expires.unwrap().duration_since(fetched.date.unwrap()).unwrap();
    assert_eq!(lifetime, Duration::from_secs(600));

    let request = requests.recv().await.unwrap().to_ascii_lowercase();
    for line in [
        "get /keys?tenant=hunter2 http/1.1\r\n",
        "accept: application/json, application/jwk-set+json\r\n",
        "accept-encoding: identity\r\n",
        "cache-control: no-cache\r\n",
        "if-none-match: \"w\"\r\n",
        concat!("user-agent: countersign-jwks/", env!("CARGO_PKG_VERSION"), "\r\n"),
    ] {
        assert!(request.contains(line), "{line:?} is not in {request:?}");
    }
}

#[tokio::test]
async fn t17_redirects_are_refused_and_not_followed() {
    let (target, mut visited) = serve(|stream| write(stream, response("200 OK", "", &document([0])))).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let answer = fetch_from(response(status, &format!("Location: {target}\r\n"), b"")).await;
        assert!(matches!(answer, Err(FetchError::Redirected)), "{status}: {answer:?}");
    }
    assert!(visited.try_recv().is_err());
}

#[tokio::test]
async fn t16_a_long_body_is_cut_off() {
    let fits = fetch_from(response("200 OK", "", &vec![b' '; MAX_BODY_BYTES])).await;
    assert_eq!(fits.unwrap().body.len(), MAX_BODY_BYTES);
    let answer = fetch_from(response("200 OK", "", &vec![b' '; MAX_BODY_BYTES + 1])).await;
    assert!(matches!(answer, Err(FetchError::TooLarge)), "{answer:?}");
}

#[tokio::test]
async fn t16_a_body_that_never_ends_is_cut_off() {
    let (url, _requests) = serve(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
        while stream.write_all(&chunk).await.is_ok() {}
    })
    .await;
    let answer = HttpFetch::new().fetch(FetchRequest::new(&url, MAX_BODY_BYTES, 20 * TIMEOUT)).await;
    assert!(matches!(answer, Err(FetchError::TooLarge)), "{answer:?}");
}

#[tokio::test]
async fn t15_a_dripping_body_does_not_outlive_the_time_out() {
    let (url, _requests) = serve(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
        // Real time: what is tested is a time-out over real sockets.
        while stream.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let begun = Instant::now();
    let answer = fetch(&url).await;
    assert!(matches!(answer, Err(FetchError::TimedOut)), "{answer:?}");
    assert!(begun.elapsed() < 4 * TIMEOUT);
}

#[tokio::test]
async fn t15_silence_does_not_outlive_the_time_out() {
    let (url, _requests) = serve(|stream| async move {
        sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let answer = fetch(&url).await;
    assert!(matches!(answer, Err(FetchError::TimedOut)), "{answer:?}");
}

#[tokio::test]
async fn compressed_bodies_are_refused() {
    for encoding in ["gzip", "br", "identity, gzip", "x"] {
        let headers = format!("Content-Encoding: {encoding}\r\n");
        let answer = fetch_from(response("200 OK", &headers, &document([0]))).await;
        assert!(matches!(answer, Err(FetchError::Broken(_))), "{encoding}: {answer:?}");
    }
    fetch_from(response("200 OK", "Content-Encoding: Identity\r\n", &document([0]))).await.unwrap();
}

#[tokio::test]
async fn what_is_not_http_or_breaks_off_is_an_error_without_the_query() {
    for bytes in [b"SSH-2.0-OpenSSH\r\n".to_vec(), Vec::new(), response("200 OK", "", &document([0]))[..90].to_vec()] {
        let error = fetch_from(bytes).await.unwrap_err();
        assert!(matches!(error, FetchError::Broken(_)), "{error:?}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let error = fetch("http://127.0.0.1:1/keys?tenant=hunter2").await.unwrap_err();
    assert!(matches!(error, FetchError::Connect(_)) && !error.to_string().contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn an_error_page_is_a_status_and_no_key_set() {
    let fetched = fetch_from(response("500 Oops", "", &document([0]))).await.unwrap();
    assert_eq!((fetched.status, fetched.body.len()), (500, 0));
}

#[tokio::test]
async fn keys_over_a_real_socket() {
    let (url, mut requests) = serve(|stream| write(stream, response("200 OK", "", &document([0, 1])))).await;
    let remote = Remote::new(&url).unwrap();
    remote.check().unwrap();
    let keys = Keys::remote(remote);
    timeout(Duration::from_secs(10), keys.handle().ready()).await.unwrap().unwrap();
    assert_eq!(look_up(&keys, "k1").await, None);
    let status = keys.handle().status();
    assert_eq!((status.state, status.keys, status.last_error), (KeyState::Ready, 2, None));
    requests.recv().await.unwrap();
    assert!(!format!("{keys:?}").contains("hunter2"));
}

//! A refusal does not wait for what the caller has to say, and does not read it, whoever refuses.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::map_request;
use bytes::Bytes;
use countersign_tests::refusals::all_cases;
use http::{Response, StatusCode, Version};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::{PATIENCE, serve};

/// A piece of an upload.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// After so many pieces (64 MiB) a caller to whom nobody listens gives up sending, and waits.
const PIECES: usize = 1024;

/// An upload without an end.
#[derive(Default)]
pub(crate) struct Endless(usize);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0 += 1;
        if self.0 > PIECES {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS)))))
    }
}

/// A body as the server hands it on, and how often somebody has asked it for more.
struct Watched(Body, Arc<AtomicUsize>);

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.0).poll_frame(context)
    }
}

async fn upload(version: Version, stream: TcpStream, request: http::Request<Endless>) -> Response<Incoming> {
    let stream = TokioIo::new(stream);
    if version == Version::HTTP_2 {
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        client.send_request(request).await.unwrap()
    } else {
        let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        client.send_request(request).await.unwrap()
    }
}

#[tokio::test]
async fn a_refused_upload_is_not_read_whoever_refuses() {
    for case in all_cases() {
        let asked_for = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&asked_for);
        let watch = map_request(move |request: Request| {
            let counter = Arc::clone(&counter);
            async move { request.map(|body| Body::new(Watched(body, counter))) }
        });
        let address = serve(case.app(|layer| layer).layer(watch)).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            for content_type in ["application/octet-stream", "application/grpc"] {
                let shown = format!("{}, {version:?}, {content_type}", case.name);
                let uri = match version {
                    Version::HTTP_2 => format!("http://{address}/upload{}", case.query),
                    _ => format!("/upload{}", case.query),
                };
                let mut request = http::Request::post(uri).header("host", address.to_string());
                for value in &case.authorization {
                    request = request.header("authorization", value);
                }
                let request = request.header("content-type", content_type).body(Endless::default()).unwrap();
                let stream = TcpStream::connect(address).await.unwrap();
                let answer = tokio::time::timeout(PATIENCE, upload(version, stream, request)).await;
                let answer = answer.unwrap_or_else(|_| panic!("{shown}: no answer"));
                let is_grpc = content_type == "application/grpc";
                let status = if is_grpc { StatusCode::OK.as_u16() } else { case.status };
                assert_eq!(answer.status(), status, "{shown}");
                assert_eq!(answer.headers().contains_key("grpc-status"), is_grpc, "{shown}");
                assert_eq!(asked_for.load(Ordering::SeqCst), 0, "{shown}: the body was asked for");
            }
        }
    }
}

//! Each row as tonic's client reads it, and as the frames are.

use std::net::SocketAddr;

use countersign_tests::documented::is_said;
use countersign_tests::refusals::{RefusalCase, all_cases};
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use hyper::body::Body as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::uploads::Endless;
use crate::{PATIENCE, cases, serve};

async fn channel(address: SocketAddr) -> tonic::client::Grpc<Channel> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().timeout(PATIENCE);
    let mut client = tonic::client::Grpc::new(channel.connect().await.unwrap());
    client.ready().await.unwrap();
    client
}

fn request<T>(case: &RefusalCase, message: T) -> (Request<T>, PathAndQuery) {
    let mut request = Request::new(message);
    for value in &case.authorization {
        request.metadata_mut().append("authorization", value.parse().unwrap());
    }
    (request, format!("/orders.Orders/List{}", case.query).parse().unwrap())
}

fn compare(case: &RefusalCase, status: &Status) {
    assert_eq!(i32::from(status.code()), case.grpc_status, "{}", case.name);
    assert!(is_said(&case.grpc_message, status.message()), "{}: {}", case.name, status.message());
    let metadata = |name| status.metadata().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(metadata("retry-after"), case.retry_after.as_deref(), "{}", case.name);
    assert_eq!(metadata("cache-control"), Some("no-store"), "{}", case.name);
    assert_eq!(metadata("www-authenticate"), None, "{}", case.name);
    assert_eq!(status.details(), b"", "{}", case.name);
}

#[tokio::test]
async fn each_row_as_tonic_reads_it() {
    for case in cases() {
        let mut client = channel(serve(case.app(|layer| layer)).await).await;
        let codec = ProstCodec::<(), ()>::default;
        let (one, path) = request(&case, ());
        compare(&case, &client.unary(one, path, codec()).await.unwrap_err());
        client.ready().await.unwrap();
        let (one, path) = request(&case, ());
        compare(&case, &client.server_streaming(one, path, codec()).await.unwrap_err());
        // Callers that never stop sending are refused all the same.
        client.ready().await.unwrap();
        let (many, path) = request(&case, tokio_stream::pending());
        compare(&case, &client.client_streaming(many, path, codec()).await.unwrap_err());
        client.ready().await.unwrap();
        let (many, path) = request(&case, tokio_stream::pending());
        compare(&case, &client.streaming(many, path, codec()).await.unwrap_err());
    }
}

/// Whoever refuses, the layer, a route or a handler: one HEADERS frame that ends the stream, which tonic's client does not show.
#[tokio::test]
async fn statement_60_each_refused_call_is_trailers_only() {
    for case in all_cases() {
        let address = serve(case.app(|layer| layer)).await;
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::post(format!("http://{address}/orders.Orders/List{}", case.query));
        for value in &case.authorization {
            request = request.header("authorization", value);
        }
        // A caller that streams has not ended its side.
        let request = request.header(CONTENT_TYPE, "application/grpc").body(Endless::default()).unwrap();
        let response = tokio::time::timeout(PATIENCE, client.send_request(request)).await.expect("no answer").unwrap();
        assert_eq!(response.status(), 200, "{}", case.name);
        assert_eq!(response.headers()["grpc-status"].to_str().unwrap(), case.grpc_status.to_string(), "{}", case.name);
        assert!(response.body().is_end_stream(), "{}: END_STREAM on HEADERS", case.name);
    }
}

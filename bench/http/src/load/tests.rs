use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use super::{Answer, CONNECTIONS, Pace, Plan, Shown, due, request, run};

#[test]
fn requests_are_due_at_equal_distances_from_one_start() {
    assert_eq!(due(0, 8000), Duration::ZERO);
    assert_eq!(due(1, 8000), Duration::from_micros(125));
    assert_eq!(due(3, 3), Duration::from_secs(1));
    assert_eq!(due(3_000_000_000, 3), Duration::from_secs(1_000_000_000));
}

#[test]
fn a_request_has_six_header_fields() {
    let octets = request(([127, 0, 0, 1], 80).into(), "abc");
    let mut fields = [httparse::EMPTY_HEADER; 8];
    let mut parsed = httparse::Request::new(&mut fields);
    assert!(parsed.parse(&octets).unwrap().is_complete());
    assert_eq!(parsed.headers.len(), 6);
}

/// Each connection has its thread, which answers what `answer` makes of the number of the request on it.
fn server(answer: fn(usize) -> Option<&'static [u8]>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                for n in 0.. {
                    if connection.read(&mut buffer).unwrap_or(0) == 0 {
                        break;
                    }
                    match answer(n) {
                        Some(octets) => drop(connection.write_all(octets)),
                        None => break,
                    }
                }
            });
        }
    });
    address
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn plan<'a>(address: std::net::SocketAddr, shown: &'a [Shown], pace: Pace) -> Plan<'a> {
    let length = Duration::from_millis(200);
    Plan {
        address,
        connections: CONNECTIONS,
        pace,
        warm_up: Duration::from_millis(100),
        length,
        before: shown,
        after: &[],
    }
}

fn shown(address: std::net::SocketAddr) -> Vec<Shown> {
    vec![Shown { group: 0, octets: request(address, "abc") }]
}

#[test]
fn every_request_that_was_due_is_counted_once() {
    let address = server(|_| Some(OK));
    let seen = run(&plan(address, &shown(address), Pace::Constant(1000)), &AtomicBool::new(false)).unwrap();
    assert_eq!((seen.samples.len(), seen.answered, seen.lags.len()), (200, 300, 200));
    assert!(seen.samples.iter().all(|sample| sample.answer == Answer::Status(200)));
}

#[test]
fn requests_that_a_stalled_server_never_answers_are_counted_with_all_of_their_wait() {
    let address = server(|_| Some(b""));
    let seen = run(&plan(address, &shown(address), Pace::Constant(1000)), &AtomicBool::new(false)).unwrap();
    assert_eq!((seen.samples.len(), seen.answered), (200, 0));
    assert!(seen.samples.iter().all(|sample| sample.answer == Answer::Missing && sample.took >= super::PATIENCE));
    assert!(seen.queued > 200 - CONNECTIONS);
}

#[test]
fn a_connection_that_ends_is_replaced_and_its_request_counts_as_broken() {
    let address = server(|n| (n == 0).then_some(OK));
    let seen = run(&plan(address, &shown(address), Pace::Constant(1000)), &AtomicBool::new(false)).unwrap();
    assert_eq!(seen.samples.len(), 200);
    let count = |answer| seen.samples.iter().filter(|sample| sample.answer == answer).count();
    assert!(count(Answer::Status(200)) > 50 && count(Answer::Broken) > 50);
}

#[test]
fn after_the_change_the_other_tokens_are_shown() {
    let address = server(|_| Some(OK));
    let (before, after) = (shown(address), vec![Shown { group: 1, octets: request(address, "def") }]);
    let plan = Plan { after: &after, ..plan(address, &before, Pace::Saturation) };
    let seen = run(&plan, &AtomicBool::new(true)).unwrap();
    assert!(!seen.samples.is_empty() && seen.samples.iter().all(|sample| sample.group == 1));
}

//! A double of S3 with a lock, so that its conditional writes are atomic, and which fails as it is told. It checks no
//! signatures.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::SystemTime;

/// What goes wrong with one request that writes an object.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is not done, and this is the status.
    Refuse(u16),
    /// It is done, and the answer is no more than this status.
    Deny(u16),
    /// It is done, and then the connection is closed.
    Vanish,
    /// It is done, and nothing more is ever heard.
    Hang,
}

/// What is wrong with the store as such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    #[default]
    None,
    /// Conditions are not looked at.
    IgnoresConditions,
    /// Only `If-None-Match` is.
    IgnoresIfMatch,
    /// Only `If-Match` is.
    IgnoresIfNoneMatch,
    /// Conditions that do not hold are answered as they should be, and then it is written all the same.
    WritesWhatItRefuses,
    /// `If-Match` writes what is not there.
    RevivesWhatIsGone,
    /// No `If-Match` ever holds.
    NothingMatches,
    /// What is read has another ETag than what was written.
    OtherEtags,
    /// There are no ETags.
    NoEtags,
    /// What was removed is still shown.
    RemovesNothing,
    /// It knows no conditional writes, and says so.
    KnowsNoConditions,
    /// The bucket is gone.
    NoBucket,
}

#[derive(Default)]
struct World {
    objects: BTreeMap<String, Object>,
    faults: VecDeque<Fault>,
    flaw: Flaw,
    writes: u64,
}

struct Object {
    bytes: Vec<u8>,
    etag: String,
    written_at: SystemTime,
}

/// The double, which listens until the process ends.
#[derive(Clone)]
pub struct Double {
    port: u16,
    world: Arc<Mutex<World>>,
}

impl Double {
    /// Starts it on a free port of loopback, with all buckets there can be, which are one.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let double = Self { port, world: Arc::default() };
        let server = double.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                // What a client does wrong is its own business.
                thread::spawn(move || server.serve(stream));
            }
        });
        double
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// This goes wrong with the next write for which nothing is planned yet.
    pub fn plan(&self, fault: Fault) {
        self.world().faults.push_back(fault);
    }

    /// This is wrong with it from now on.
    pub fn set_flaw(&self, flaw: Flaw) {
        self.world().flaw = flaw;
    }

    /// How many requests to write an object there were.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.world().writes
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let request = Request::read(&stream)?;
        let (answer, fault) = self.world().answer(&request);
        match fault {
            None | Some(Fault::None) => drop(stream.write_all(&answer)),
            Some(Fault::Refuse(status) | Fault::Deny(status)) => drop(stream.write_all(&plain(status))),
            Some(Fault::Vanish) => {}
            Some(Fault::Hang) => loop {
                thread::park();
            },
        }
        Some(())
    }
}

impl World {
    fn answer(&mut self, request: &Request) -> (Vec<u8>, Option<Fault>) {
        if self.flaw == Flaw::NoBucket {
            return (error(404, "NoSuchBucket"), None);
        }
        let key = request.key.as_str();
        match request.method.as_str() {
            "PUT" => {
                self.writes += 1;
                let fault = self.faults.pop_front();
                if let Some(Fault::Refuse(_)) = fault {
                    return (Vec::new(), fault);
                }
                (self.put(request), fault)
            }
            "POST" => {
                let body = String::from_utf8_lossy(&request.body);
                let mut answer = String::from("<DeleteResult>");
                for (key, _) in body.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>")) {
                    if self.flaw != Flaw::RemovesNothing {
                        self.objects.remove(key);
                    }
                    let _ = write!(answer, "<Deleted><Key>{key}</Key></Deleted>");
                }
                (ok((answer + "</DeleteResult>").as_bytes(), ""), None)
            }
            "GET" if request.query.contains("list-type=2") => (self.list(&request.query), None),
            _ => match self.objects.get(key) {
                None => (error(404, "NoSuchKey"), None),
                Some(object) => {
                    let etag = match self.flaw {
                        Flaw::NoEtags => String::new(),
                        Flaw::OtherEtags => "ETag: \"other\"\r\n".into(),
                        _ => format!("ETag: {}\r\n", object.etag),
                    };
                    let written_at = httpdate::fmt_http_date(object.written_at);
                    (ok(&object.bytes, &format!("{etag}Last-Modified: {written_at}\r\n")), None)
                }
            },
        }
    }

    fn put(&mut self, request: &Request) -> Vec<u8> {
        let there = self.objects.get(&request.key).map(|object| object.etag.as_str());
        let (none, matches) = (request.header("if-none-match"), request.header("if-match"));
        if self.flaw == Flaw::KnowsNoConditions && (none.is_some() || matches.is_some()) {
            return error(501, "NotImplemented");
        }
        let none_holds = none.is_none() || there.is_none();
        let match_holds = match (matches, there) {
            (None, _) => true,
            (Some(_), None) => self.flaw == Flaw::RevivesWhatIsGone,
            (Some(wanted), Some(there)) => wanted == there && self.flaw != Flaw::NothingMatches,
        };
        let holds = match self.flaw {
            Flaw::IgnoresConditions => true,
            Flaw::IgnoresIfMatch => none_holds,
            Flaw::IgnoresIfNoneMatch => match_holds,
            _ => none_holds && match_holds,
        };
        if !holds && self.flaw != Flaw::WritesWhatItRefuses {
            return if matches.is_some() && there.is_none() {
                error(404, "NoSuchKey")
            } else {
                error(412, "PreconditionFailed")
            };
        }
        let etag = format!("\"{}\"", self.writes);
        let header = if self.flaw == Flaw::NoEtags { String::new() } else { format!("ETag: {etag}\r\n") };
        let object = Object { bytes: request.body.clone(), etag, written_at: SystemTime::now() };
        self.objects.insert(request.key.clone(), object);
        if holds { ok(b"", &header) } else { error(412, "PreconditionFailed") }
    }

    fn list(&self, query: &str) -> Vec<u8> {
        let prefix =
            query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default().replace("%2F", "/");
        let mut body = String::from("<ListBucketResult>");
        for (key, object) in self.objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let _ = write!(
                body,
                "<Contents><Key>{key}</Key><Size>{}</Size>\
                 <LastModified>2026-11-29T06:00:00.000Z</LastModified><ETag>{}</ETag></Contents>",
                object.bytes.len(),
                object.etag.replace('"', "&quot;")
            );
        }
        ok((body + "</ListBucketResult>").as_bytes(), "")
    }
}

struct Request {
    method: String,
    key: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut lines = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let first = lines.next()?;
        let headers: Vec<_> = lines
            .filter_map(|line| {
                line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // The first part is the bucket.
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key).to_owned();
        let mut request = Self { method, key, query: query.to_owned(), headers, body: Vec::new() };
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        reader.take(length).read_to_end(&mut request.body).ok()?;
        (request.body.len() as u64 == length).then_some(request)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

fn ok(body: &[u8], headers: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn error(status: u16, code: &str) -> Vec<u8> {
    let body = format!("<Error><Code>{code}</Code><Message>hunter2</Message></Error>");
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

fn plain(status: u16) -> Vec<u8> {
    error(status, "Injected")
}

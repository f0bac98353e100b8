//! Tokens over HTTP: how many a core signs with the policy on, beside what it mints by itself.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign::claims::signed_request::{BodyDigest, TYPE};
use countersign::{Algorithm, SigningKey, UnixTime};
use countersign_service::{ClientSecret, MAX_BATCH};
use serde_json::{Value, json};

use crate::children::Server;
use crate::contender::Site;
use crate::issue::{ISSUER, SLOTS, body, secret_key};
use crate::load::{Answer, CONNECTIONS, Pace, Plan, Shown};
use crate::measured::{Clients, answers, measure};
use crate::percentiles::median;
use crate::run::{Broken, Effort};
use crate::table::{self, Table, number, numbers};
use crate::{Failure, method};

/// They take turns, so that what is remembered of the assertions of one (65,536 at most) is no bound here.
const CLIENTS: usize = 64;

/// Who has a secret.
const SECRETIVE: &str = "cron";

/// More than any core answers in a second: so many requests are made beforehand for each.
const MOST_REQUESTS: u32 = 16_000;
const MOST_BATCHES: u32 = 400;

/// Of batches: so many that the server never waits, and that none of them waits for long.
const BATCH_CONNECTIONS: usize = 4;

/// The keys of the ring are there after so long, and assertions are taken that are younger than the service.
const TO_START: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// How a client shows who it is, and how much it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Assertion,
    Signed,
    Secret,
    Batch,
}

impl Way {
    const ALL: [Self; 4] = [Self::Assertion, Self::Signed, Self::Secret, Self::Batch];

    fn name(self) -> &'static str {
        match self {
            Self::Assertion => "one token a request, `private_key_jwt`",
            Self::Signed => "one token a request, the request signed",
            Self::Secret => "one token a request, `client_secret_basic`",
            Self::Batch => "256 tokens a request, `private_key_jwt`",
        }
    }

    fn tokens(self) -> usize {
        if self == Self::Batch { MAX_BATCH } else { 1 }
    }

    fn path(self) -> &'static str {
        if self == Self::Batch { "/v1/tokens:batch" } else { "/v1/tokens" }
    }
}

/// Of one algorithm in one way, a number for each round.
#[derive(Default)]
struct Row {
    requests: Vec<f64>,
    /// Of the server's processes, in microseconds.
    cpu_per_token: Vec<f64>,
}

struct Bench {
    address: SocketAddr,
    servers: Vec<Server>,
    key: SigningKey,
    secret: ClientSecret,
    policy: String,
}

/// The table.
pub fn run(site: &Site<'_>, effort: &Effort, broken: &mut Broken) -> Result<String, Failure> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let bench = Bench::start(site)?;
    let mut mints: Vec<Vec<f64>> = SLOTS.map(|_| Vec::new()).into();
    let mut rows: Vec<[Row; Way::ALL.len()]> = SLOTS.map(|_| Default::default()).into();
    let mut all_clients = Vec::new();
    let mut turn = 0;
    for round in 0..effort.rounds {
        for (at, (slot, _)) in SLOTS.into_iter().enumerate() {
            mints[at].push(bench.mint(site, slot, effort.signing)?);
            for (way, row) in Way::ALL.into_iter().zip(&mut rows[at]) {
                let name = format!("client{}", turn % CLIENTS);
                turn += 1;
                let clients = bench.measure(&name, slot, way, effort.signing, row, broken)?;
                eprintln!("round {round}, {slot}, {}: {:.0} requests/s", way.name(), row.requests[round]);
                all_clients.push(clients);
            }
        }
    }
    let mut table =
        Table::new(2, &["", "", "requests/s", "tokens/s", "server CPU, µs/token", "of each round", "× mint alone"]);
    for (at, (slot, _)) in SLOTS.into_iter().enumerate() {
        let alone = &mints[at];
        table.row(&[
            slot.to_owned(),
            "`Minter::mint` alone, one thread".to_owned(),
            String::new(),
            format!("{:.0}", 1e6 / median(alone.iter().copied())),
            number(median(alone.iter().copied())),
            numbers(alone.iter().copied()),
            "1.00".to_owned(),
        ]);
        for (way, row) in Way::ALL.into_iter().zip(&rows[at]) {
            let requests = median(row.requests.iter().copied());
            let ratios = alone.iter().zip(&row.cpu_per_token).map(|(alone, ours)| alone / ours);
            table.row(&[
                slot.to_owned(),
                way.name().to_owned(),
                format!("{requests:.0}"),
                format!("{:.0}", requests * way.tokens() as f64),
                number(median(row.cpu_per_token.iter().copied())),
                numbers(row.cpu_per_token.iter().copied()),
                number(median(ratios)),
            ]);
        }
    }
    let worst = |number: fn(&Clients) -> f64| all_clients.iter().map(number).fold(0.0, f64::max);
    let idle = all_clients.iter().map(|clients| clients.idle).fold(1.0, f64::min);
    Ok(format!(
        "{}. Load average before it: {}.\n\n{} rounds of {} s for each row, in turn; {CONNECTIONS} kept connections, {BATCH_CONNECTIONS} of batches. \
         Processor {} has the service, and `Minter::mint` by itself; processor {} has the clients, which waited for at least \
         {:.0} % of the time. Other programs had up to {:.2} processors meanwhile, and the host withheld up to {:.2}.\n\n{}",
        method::machine(),
        load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        effort.rounds,
        effort.signing.as_secs_f64(),
        site.cores.server,
        site.cores.clients,
        idle * 100.0,
        worst(|clients| clients.others),
        worst(|clients| clients.stolen),
        table.finish(),
    ))
}

impl Bench {
    /// One that signs in every way with every slot.
    fn start(site: &Site<'_>) -> Result<Self, Failure> {
        let key = SigningKey::generate(Algorithm::Es256)?.with_kid("bench");
        let secret = ClientSecret::generate(SECRETIVE, &secret_key()?)?;
        let policy = site.files.write("policy.toml", &policy(&key, &secret)?)?;
        let mut server = Server::start("token service", site.cores, &[&program()?, "tokens", "--policy", &policy])?;
        let address = server.address()?;
        let mut bench = Self { address, servers: vec![server], key, secret, policy };
        let started = Instant::now();
        while bench.ask("client0", SLOTS[0].0, Way::Assertion).is_err() {
            if started.elapsed() > TO_START || bench.servers.iter_mut().any(Server::has_ended) {
                return bench.ask("client0", SLOTS[0].0, Way::Assertion).map(|()| bench);
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        for (slot, _) in SLOTS {
            Way::ALL.into_iter().try_for_each(|way| bench.ask("client0", slot, way))?;
        }
        Ok(bench)
    }

    /// Microseconds of one thread on the server's processor for a token, without all else.
    fn mint(&self, site: &Site<'_>, slot: &str, time: Duration) -> Result<f64, Failure> {
        let (program, time) = (program()?, time.as_millis().to_string());
        let what = ["--client", "client0", "--slot", slot, "--milliseconds", &*time];
        let program = [&[&*program, "mint", "--policy", &*self.policy], &what[..]].concat();
        let line = Server::start("mint", site.cores, &program)?.first_line()?;
        let (count, nanoseconds) = line.trim().split_once(' ').ok_or("it does not mint")?;
        Ok(nanoseconds.parse::<f64>()? / 1e3 / count.parse::<f64>()?)
    }

    fn measure(
        &self,
        client: &str,
        slot: &str,
        way: Way,
        length: Duration,
        row: &mut Row,
        broken: &mut Broken,
    ) -> Result<Clients, Failure> {
        let most = match way {
            Way::Assertion | Way::Signed => MOST_REQUESTS,
            Way::Batch => MOST_BATCHES,
            // The same again and again.
            Way::Secret => 0,
        };
        let count = (f64::from(most) * length.as_secs_f64()) as usize + CONNECTIONS;
        let one = |_| Ok(Shown { group: 0, octets: self.request(client, slot, way, "")? });
        let shown = (0..count).map(one).collect::<Result<Vec<_>, Failure>>()?;
        let plan = Plan {
            address: self.address,
            connections: if way == Way::Batch { BATCH_CONNECTIONS } else { CONNECTIONS },
            pace: Pace::Saturation,
            // Where requests come once and take long, those that it would cut in two would be many.
            warm_up: Duration::ZERO,
            length,
            before: &shown,
            after: &[],
        };
        let (measured, seen) = measure(&self.servers, &plan, |_| Ok(()))?;
        let rule = format!("{slot}, {}: all get 200", way.name());
        let bad = |answer: Answer| !matches!(answer, Answer::Status(200) | Answer::Missing);
        let is_good = seen.answered > 0 && !seen.samples.iter().any(|sample| bad(sample.answer));
        broken.expect(&rule, is_good, || table::answers(&answers(&seen.samples)));
        // Of a batch the parts are not looked at above: none of them is refused for how many there were.
        self.ask(client, slot, way)?;
        let answered = seen.samples.iter().filter(|sample| sample.answer != Answer::Missing);
        let last = answered.map(|sample| sample.due + sample.took).max().unwrap_or_default();
        row.requests.push(seen.answered as f64 / last.as_secs_f64());
        row.cpu_per_token.push(measured.cpu_per_request / way.tokens() as f64);
        Ok(measured.clients)
    }

    /// Whether all that is asked for is signed, and with what it is to be signed with.
    fn ask(&self, client: &str, slot: &str, way: Way) -> Result<(), Failure> {
        let mut connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(TO_START))?;
        connection.write_all(&self.request(client, slot, way, "connection: close\r\n")?)?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let signed = answer.matches(&format!("\"alg\":\"{slot}\"")).count();
        if signed == way.tokens() {
            return Ok(());
        }
        let told = answer.lines().next().unwrap_or_default();
        Err(format!("{slot}, {}: {signed} are signed of {}, {told}", way.name(), way.tokens()).into())
    }

    /// As it goes over the wire, with an assertion that no other has.
    fn request(&self, client: &str, slot: &str, way: Way, more: &str) -> Result<Vec<u8>, Failure> {
        let body = match way {
            Way::Batch => format!(r#"{{"requests":[{}]}}"#, vec![body(slot); MAX_BATCH].join(",")),
            _ => body(slot),
        };
        let authorization = match way {
            Way::Secret => {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{SECRETIVE}:{}", self.secret.secret())))
            }
            Way::Assertion | Way::Batch => {
                format!("Bearer {}", self.key.sign_as("client-authentication+jwt", &claims(client))?)
            }
            Way::Signed => {
                let mut claims = claims(client);
                claims["htm"] = json!("POST");
                claims["htu"] = json!(format!("{ISSUER}{}", way.path()));
                claims["body_sha256"] = json!(BodyDigest::of(body.as_bytes()).to_string());
                format!("Bearer {}", self.key.sign_as(TYPE, &claims)?)
            }
        };
        Ok(format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: bench/1.0\r\naccept: application/json\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\nauthorization: {authorization}\r\n{more}\r\n{body}",
            path = way.path(),
            address = self.address,
            length = body.len(),
        )
        .into_bytes())
    }
}

fn program() -> Result<String, Failure> {
    Ok(std::env::current_exe()?.to_str().ok_or("a program whose name is no text")?.to_owned())
}

/// Of an assertion that is made now.
fn claims(client: &str) -> Value {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let now = UnixTime::from(SystemTime::now()).as_secs();
    let jti = format!("{:022x}", SERIAL.fetch_add(1, Ordering::Relaxed));
    json!({ "iss": client, "sub": client, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": jti })
}

/// Each client may have what is asked for here, and ask for it as often as it can.
fn policy(key: &SigningKey, secret: &ClientSecret) -> Result<String, Failure> {
    let mut text = String::from("version = 1\nallow_client_secret_basic = true\n");
    for (slot, _) in SLOTS {
        text.push_str(&format!("[profiles.{slot}]\nslots = [\"{slot}\"]\nlifetime = 300\n"));
    }
    let jwks = json!({ "keys": [key.public_jwk()?] });
    let by_key = (0..CLIENTS).map(|at| (format!("client{at}"), format!("jwks = '{jwks}'")));
    let by_secret = (SECRETIVE.to_owned(), format!("secrets = [\"{}\"]", secret.hashed()));
    for (name, known_by) in by_key.chain([by_secret]) {
        text.push_str(&format!(
            "[clients.{name}]\n{known_by}\nrate = {{ per_second = 10_000_000, burst = 10_000_000 }}\n\
             [clients.{name}.grants.orders]\nprofiles = [\"ES256\", \"Ed25519\", \"RS256\"]\n\
             subjects = {{ self = true, prefixes = [\"user:\"] }}\naudiences = {{ exact = [\"https://orders.example\"] }}\n\
             scopes = [\"orders:read\", \"orders:write\"]\n\
             claims.tenant = {{ type = \"string\", values = [\"acme\"] }}\nclaims.sid = {{ type = \"string\" }}\n"
        ));
    }
    Ok(text)
}

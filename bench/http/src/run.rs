//! All of it, in order.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use countersign::Algorithm;
use countersign_testkit::IdentityProvider;

use crate::contender::{Kind, Site};
use crate::cores::{Cores, take_precedence};
use crate::load::{Answer, Sample};
use crate::proxies::{EnvoyAuth, Files};
use crate::{Failure, events, method, plots, readme, signing, steady};

#[derive(Args)]
pub struct Options {
    /// Short rounds and few requests: to see that it runs.
    #[arg(long)]
    quick: bool,
    /// One of the two parts.
    #[arg(long)]
    only: Option<Section>,
    /// How many rounds, of which the median counts.
    #[arg(long)]
    rounds: Option<NonZeroUsize>,
    /// Put the tables into bench/README.md and the plots into bench/plots.
    #[arg(long)]
    write: bool,
    /// Run before all other programs of a machine that is shared: needs the rights for it.
    #[arg(long)]
    realtime: bool,
    /// Envoy's program. Without it there is no Envoy.
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// HAProxy's program. Without it there is no HAProxy.
    #[arg(long, value_name = "PATH")]
    haproxy: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// What authentication costs.
    Http,
    /// What signing does.
    Signing,
}

/// How much is measured.
pub struct Effort {
    /// Of which the median counts.
    pub rounds: usize,
    /// Requests a second.
    pub rates: &'static [u32],
    /// The same while something happens.
    pub event_rate: u32,
    /// How many tokens take turns, of each key.
    pub tokens: u32,
    /// Long enough for each token to come three times: what remembers a token may do so when it comes again.
    pub warm_up: Duration,
    pub steady: Duration,
    /// Before something happens, and afterwards.
    pub before: Duration,
    pub after: Duration,
    /// Of tokens that are signed.
    pub signing: Duration,
}

impl Effort {
    /// The rate that is asked for, and one at which the central validator can be expected to work on any machine.
    const FULL: Self = Self {
        rounds: 5,
        rates: &[8000, 2000],
        event_rate: 8000,
        tokens: 1000,
        warm_up: Duration::from_millis(1500),
        steady: Duration::from_secs(4),
        before: Duration::from_secs(2),
        after: Duration::from_secs(5),
        signing: Duration::from_secs(2),
    };

    const QUICK: Self = Self {
        rounds: 1,
        rates: &[1000],
        event_rate: 1000,
        tokens: 50,
        warm_up: Duration::from_millis(200),
        steady: Duration::from_millis(800),
        before: Duration::from_millis(500),
        after: Duration::from_millis(1500),
        signing: Duration::from_millis(250),
    };
}

/// The rules that were not kept.
#[derive(Default)]
pub struct Broken(Vec<String>);

impl Broken {
    pub fn expect(&mut self, rule: &str, kept: bool, details: impl FnOnce() -> String) {
        if !kept {
            self.0.push(format!("{rule}: {}", details()));
        }
    }

    /// A service that leaves most requests without an answer shows nothing; other contenders may be overloaded.
    pub fn expect_answers(&mut self, kind: Kind, samples: &[Sample]) {
        let answered = samples.iter().filter(|sample| sample.answer != Answer::Missing).count();
        let is_service = matches!(kind, Kind::Plain | Kind::Countersign);
        self.expect("half of the requests are answered", !is_service || answered * 2 > samples.len(), || {
            format!("{answered} of {}, {}", samples.len(), kind.name())
        });
    }
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let cores = Cores::choose()?;
    cores.take_clients()?;
    if options.realtime {
        take_precedence()?;
    }
    let files = Files::new()?;
    // Its thread comes after the move, and so is where the clients are.
    let provider = IdentityProvider::with_algorithm(Algorithm::Rs256);
    let (envoy, haproxy) = (options.envoy.clone(), options.haproxy.clone());
    let site = Site { cores, files: &files, provider: &provider, envoy, haproxy };
    let mut effort = if options.quick { Effort::QUICK } else { Effort::FULL };
    if let Some(rounds) = options.rounds {
        effort.rounds = rounds.get();
    }
    let mut broken = Broken::default();

    if options.only != Some(Section::Signing) {
        authentication(&site, &effort, options, &mut broken)?;
    }
    if options.only != Some(Section::Http) {
        let text = signing::run(&site, &effort, &mut broken)?;
        println!("{text}");
        if options.write {
            readme::write_section("signing", &text)?;
        }
    }
    if broken.0.is_empty() { Ok(()) } else { Err(format!("BROKEN: {}", broken.0.join("\nBROKEN: ")).into()) }
}

fn authentication(site: &Site<'_>, effort: &Effort, options: &Options, broken: &mut Broken) -> Result<(), Failure> {
    let rows = steady::run(&kinds(site), site, effort, broken)?;
    let events = events::run(site, effort, broken)?;

    let method = method::text(site, effort, options.realtime);
    let text = format!("{method}\n{}{}", steady::tables(&rows, effort), events.tables(effort));
    println!("{text}");
    if options.write {
        readme::write_section("http", &text)?;
        readme::write_plot("http-p99", &plots::p99(&rows, effort))?;
        readme::write_plot("rotation", &plots::rotation(&events, effort))?;
    }
    Ok(())
}

fn kinds(site: &Site<'_>) -> Vec<Kind> {
    let mut kinds = vec![Kind::Plain, Kind::Countersign, Kind::Central(0), Kind::Central(2)];
    if site.envoy.is_some() {
        kinds.extend([EnvoyAuth::None, EnvoyAuth::Verify, EnvoyAuth::Cache].map(Kind::Envoy));
    }
    if site.haproxy.is_some() {
        kinds.extend([false, true].map(|verifies| Kind::HaProxy { verifies }));
    }
    kinds
}

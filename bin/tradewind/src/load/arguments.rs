//! The command line of `tradewind load`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tradewind_load::http::Request;
use tradewind_load::{Arrivals, Plan, Stage, parse_duration, parse_rate, text};

/// What is offered, to whom, and what is said about it.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Where to: `http://host:port/path`.
    ///
    /// Path, header values and body may have placeholders: {sequence}, {run}, {id} (32 random
    /// hexadecimal digits), {number:1..200}.
    pub(crate) url: String,

    /// Requests per second.
    #[arg(long, value_name = "N", value_parser = parse_rate, conflicts_with = "stage",
          required_unless_present = "stage")]
    rate: Option<f64>,

    /// How long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration,
          conflicts_with = "stage")]
    duration: Duration,

    /// One stage after the other instead: `--stage 10s:100 --stage 30s:100..1000`.
    #[arg(long, value_name = "TIME:RATE", value_parser = Stage::parse)]
    stage: Vec<Stage>,

    /// How requests are spread over time.
    #[arg(long, value_enum, default_value_t = Spread::Poisson)]
    arrivals: Spread,

    /// Repeats the arrivals of another run (Poisson only).
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// What is due in this first stretch is sent and shown, but not in the summary.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    warm_up: Duration,

    /// How long after the last request the rest may take.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    drain: Duration,

    /// Most connections; each carries one request at a time.
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,

    /// Most requests that may wait for a connection; more are dropped, and counted.
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    queue: u32,

    /// From sending to the end of the answer.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,

    /// GET without a body, POST with one, unless this says otherwise.
    #[arg(short = 'X', long)]
    method: Option<http::Method>,

    /// A header; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// The body of each request. One that begins with a brace or a bracket is declared as JSON
    /// unless a header says otherwise.
    #[arg(short = 'd', long, value_name = "TEXT", conflicts_with = "body_file")]
    body: Option<String>,

    /// The body of each request, from a file.
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,

    /// Gives each request an `Idempotency-Key` of its own.
    #[arg(long)]
    idempotency_key: bool,

    /// Writes the report to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draws the run into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Ends with exit code 3 if the 99th percentile of the response time is above this.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    p99_max: Option<Duration>,

    /// Ends with exit code 3 if more than this share (0 to 1) of what was offered was not served.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    failed_max: Option<f64>,
}

/// How requests are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Spread {
    /// At random, as independent buyers come; the rate is the mean.
    Poisson,
    /// One after the other at equal distances.
    Uniform,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(super) plan: Plan,
    pub(super) request: Request,
    pub(super) json: Option<PathBuf>,
    pub(super) svg: Option<PathBuf>,
    pub(super) p99_max: Option<Duration>,
    pub(super) failed_max: Option<f64>,
}

impl Load {
    pub(super) fn wanted(&self) -> anyhow::Result<Wanted> {
        let stages = match self.rate {
            Some(rate) => vec![Stage::flat(rate, self.duration)],
            None => self.stage.clone(),
        };
        let arrivals = match self.arrivals {
            Spread::Poisson => Arrivals::Poisson { seed: self.seed },
            Spread::Uniform => Arrivals::Uniform,
        };
        let plan = Plan {
            stages,
            arrivals,
            in_flight_max: self.connections as usize,
            queue_max: self.queue as usize,
            warm_up: self.warm_up,
            drain: self.drain,
        };
        plan.check()?;
        if self.timeout.is_zero() {
            bail!("the time limit of a request is zero");
        }
        let request = self.request()?;
        request.check()?;
        Ok(Wanted {
            plan,
            request,
            json: self.json.clone(),
            svg: self.svg.clone(),
            p99_max: self.p99_max,
            failed_max: self.failed_max,
        })
    }

    fn request(&self) -> anyhow::Result<Request> {
        let given = match (&self.body, &self.body_file) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(path)) => Some(read(path)?),
            (None, None) => None,
        };
        let method = if given.is_some() { http::Method::POST } else { http::Method::GET };
        let body = given.unwrap_or_default();
        let mut headers = self.headers.clone();
        let declared = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if !declared && body.first().is_some_and(|it| matches!(it, b'{' | b'[')) {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        Ok(Request {
            method: self.method.clone().unwrap_or(method),
            url: self.url.clone(),
            headers,
            body,
            idempotency_key: self.idempotency_key,
            timeout: self.timeout,
        })
    }
}

impl Wanted {
    /// What is sent; headers are left out, they may hold a token.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.request.method, self.request.url)
    }

    /// How it is offered.
    pub(super) fn subtitle(&self) -> String {
        let stage = |it: &Stage| {
            let lasts = text::time(it.lasts);
            if (it.from - it.rate).abs() < f64::EPSILON {
                format!("{}/s for {lasts}", it.rate)
            } else {
                format!("{} to {}/s in {lasts}", it.from, it.rate)
            }
        };
        let stages: Vec<_> = self.plan.stages.iter().map(stage).collect();
        let spread = match self.plan.arrivals {
            Arrivals::Uniform => "evenly".to_owned(),
            Arrivals::Poisson { seed } => format!("at random, seed {seed}"),
        };
        format!(
            "{}, {spread}; {} connections, {} may wait for one",
            stages.join(", "),
            self.plan.in_flight_max,
            self.plan.queue_max
        )
    }
}

/// The largest body that is sent.
const BODY_MAX: u64 = 64 * 1024 * 1024;

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_or(0, |it| it.len());
    if BODY_MAX < size {
        bail!("{} is larger than 64 MiB", path.display());
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = "expected a number with ms, s, m or h, at most a day, such as 30s";
    parse_duration(text).ok_or_else(|| wrong.to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|it| (0.0..=1.0).contains(it));
    share.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

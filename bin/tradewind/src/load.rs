//! `tradewind load`: open-loop load on one address, shown while it runs and summed up at its end.

mod arguments;
mod view;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tradewind_base::{Rng, Tasks};
use tradewind_load::http::Target;
use tradewind_load::{Plan, Report, run_until, svg, text};

pub(crate) use arguments::Load;
use arguments::Wanted;
use view::View;

/// A bound that was asked for did not hold.
const MISSED: u8 = 3;

/// How long connections may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Descriptors for everything that is no connection.
const OTHER_DESCRIPTORS: u64 = 64;

/// Whether the command line makes sense beyond its syntax.
///
/// # Errors
/// What does not.
pub(crate) fn wanted(arguments: &Load) -> anyhow::Result<Wanted> {
    arguments.wanted()
}

/// Runs the load and says how it went; the exit code is zero, or [`MISSED`].
///
/// # Errors
/// When it could not start, a file could not be written, or not one request was served.
pub(crate) fn run(wanted: &Wanted) -> anyhow::Result<u8> {
    allow_descriptors(wanted.plan.in_flight_max)?;
    // Opened first: a run of an hour must not end with "permission denied".
    for path in [&wanted.json, &wanted.svg].into_iter().flatten() {
        std::fs::write(path, "").with_context(|| format!("cannot write {}", path.display()))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let report = runtime.block_on(measure(wanted))?;
    say(&format!("\n{}", text::summary(&report)));
    if let Some(path) = &wanted.json {
        let mut document = text::json(&report);
        document["request"] = wanted.title().into();
        document["offered_as"] = wanted.subtitle().into();
        write(path, &format!("{document:#}\n"))?;
    }
    if let Some(path) = &wanted.svg {
        write(path, &svg::draw(&report, &wanted.title(), &wanted.subtitle()))?;
    }
    if report.served == 0 && !report.stopped {
        bail!("not one request was served");
    }
    Ok(verdict(wanted, &report))
}

async fn measure(wanted: &Wanted) -> anyhow::Result<Report> {
    let tasks = Tasks::new();
    let run = format!("load-{:08x}", Rng::from_entropy().u64() >> 32);
    let Plan { in_flight_max, .. } = wanted.plan;
    let target = Target::new(&wanted.request, in_flight_max, &run, &tasks)?;
    if let Err(error) = target.probe().await {
        let server = target.server().clone();
        return Err(error).with_context(|| format!("{server} cannot be reached"));
    }
    let stop = CancellationToken::new();
    stop_on_signals(&stop, &tasks)?;
    let mut view = View::new(wanted, std::io::stdout().is_terminal());
    say(&view.opening());
    let watch = |tick: &_| say(&view.next(tick));
    let report = run_until(&wanted.plan, Arc::new(target), watch, stop).await;
    // What is still connected holds nothing anybody waits for.
    drop(tasks.shutdown(CLOSE_LIMIT).await);
    Ok(report)
}

/// The first signal ends the run in order, the second at once.
fn stop_on_signals(stop: &CancellationToken, tasks: &Tasks) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let stop = stop.clone();
    tasks.spawn("signals", |cancel| async move {
        let mut times = 0;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            times += 1;
            if 1 < times {
                at_once();
            }
            stop.cancel();
        }
    });
    Ok(())
}

#[expect(clippy::exit, reason = "somebody asked twice, and nothing here needs to be saved")]
fn at_once() {
    std::process::exit(130);
}

/// Every connection is a descriptor: takes as many as the system gives.
fn allow_descriptors(connections: usize) -> anyhow::Result<()> {
    let needed = connections as u64 + OTHER_DESCRIPTORS;
    let mut limit = getrlimit(Resource::Nofile);
    let enough = |it: Option<u64>| it.is_none_or(|it| needed <= it);
    if enough(limit.current) {
        return Ok(());
    }
    if !enough(limit.maximum) {
        bail!("{connections} connections need {needed} open files; `ulimit -n` allows fewer");
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}

/// Whether the bounds held that were asked for.
fn verdict(wanted: &Wanted, report: &Report) -> u8 {
    let mut code = 0;
    if let Some(most) = wanted.p99_max {
        let p99 = report.response.quantile(0.99).unwrap_or(Duration::MAX);
        if most < p99 {
            complain(&format!("p99 is {}, over {}", text::time(p99), text::time(most)));
            code = MISSED;
        }
    }
    if let Some(most) = wanted.failed_max {
        let lost = report.offered - report.served;
        #[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
        let share = if report.offered == 0 { 0.0 } else { lost as f64 / report.offered as f64 };
        if most < share {
            complain(&format!("{:.3} % were not served, over {:.3} %", share * 1e2, most * 1e2));
            code = MISSED;
        }
    }
    code
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that went away is no failure of ours: the files are still written.
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

fn complain(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "tradewind: {text}"));
}

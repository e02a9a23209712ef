//! All children: order of start and end, restarts, `run.json`, and what the screen shows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tradewind_base::{Clock as _, Monotonic, SystemClock, Tasks};

use super::child::{self, Exit, Process};
use super::claim;
use super::machine::{Life, Verdict, patience};
use super::plan::{ChildPlan, Plan};
use crate::signals::Signals;

/// How often a child that is not ready is asked again.
const READY_POLL: Duration = Duration::from_millis(50);
/// How long all of it may take to become ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long all of it may take to end by itself; what is left then is killed. Together with the
/// kill it stays within the ten seconds that are promised.
const END_LIMIT: Duration = Duration::from_millis(8500);
/// How long what was killed may take to be gone.
const KILL_LIMIT: Duration = Duration::from_millis(400);

/// Starts everything, keeps it running, and ends it on a signal.
pub(super) async fn supervise(plan: Plan) -> anyhow::Result<()> {
    let _telemetry =
        tradewind_service::telemetry::init(&plan.telemetry).context("cannot set up logging")?;
    let mut signals = Signals::new(plan.supervised)?;
    let _claim = claim::folder(&plan.data)?;
    claim::ports(&plan.children)?;
    let mut supervisor = Supervisor::new(plan);
    let outcome = tokio::select! {
        outcome = supervisor.run() => outcome,
        () = signals.next() => Ok(()),
    };
    if outcome.is_ok() {
        say("\nstopping: what is in flight is finished first; Ctrl-C again ends it at once\n");
    }
    tokio::select! {
        () = supervisor.end() => {}
        () = signals.next() => {}
    }
    supervisor.kill_the_rest().await;
    outcome
}

struct Running {
    plan: ChildPlan,
    life: Life,
    process: Option<Process>,
    ready: bool,
}

struct Supervisor {
    plan: Plan,
    children: Vec<Running>,
    clock: SystemClock,
    tasks: Tasks,
}

impl Supervisor {
    fn new(plan: Plan) -> Self {
        Self { plan, children: Vec::new(), clock: SystemClock::new(), tasks: Tasks::new() }
    }

    /// Starts stage after stage, then watches; returns only when something cannot be kept up.
    async fn run(&mut self) -> anyhow::Result<()> {
        say("starting …\n");
        let limit = Instant::now() + READY_LIMIT;
        let stages: BTreeSet<u8> = self.plan.children.iter().map(|it| it.stage).collect();
        for stage in stages {
            let plans: Vec<_> =
                self.plan.children.iter().filter(|it| it.stage == stage).cloned().collect();
            for plan in plans {
                let process = self.start(&plan).await?;
                let life = Life::start(self.clock.monotonic());
                self.children.push(Running { plan, life, process: Some(process), ready: false });
            }
            self.write_state();
            while !self.children.iter().all(|it| it.ready) {
                if limit <= Instant::now() {
                    bail!(
                        "not ready within {} s: {}; their logs are in {}",
                        READY_LIMIT.as_secs(),
                        self.missing().join(", "),
                        self.plan.data.join("logs").display(),
                    );
                }
                self.turn(READY_POLL).await?;
                self.ask_for_readiness().await;
            }
        }
        self.greet();
        loop {
            self.turn(Duration::from_secs(3600)).await?;
        }
    }

    async fn start(&self, plan: &ChildPlan) -> anyhow::Result<Process> {
        Process::start(plan, &self.plan.executable, &self.plan.data, &self.tasks).await
    }

    fn missing(&self) -> Vec<&str> {
        self.children.iter().filter(|it| !it.ready).map(|it| it.plan.name).collect()
    }

    async fn ask_for_readiness(&mut self) {
        for it in self.children.iter_mut().filter(|it| !it.ready) {
            if it.process.is_some() && child::ready(&it.plan).await {
                it.ready = true;
                it.life.ready();
            }
        }
    }

    /// Waits until a child ended, a restart is due, or `limit` has passed, and acts on it.
    async fn turn(&mut self, limit: Duration) -> anyhow::Result<()> {
        let now = self.clock.monotonic();
        let due = self.children.iter().filter_map(|it| it.life.due_at()).min();
        let wait = due.map_or(limit, |it| it.since(now).min(limit));
        if let Ok((index, exit)) = tokio::time::timeout(wait, any_ended(&mut self.children)).await {
            self.ended(index, &exit)?;
        }
        self.restart_due().await
    }

    fn ended(&mut self, index: usize, exit: &Exit) -> anyhow::Result<()> {
        let now = self.clock.monotonic();
        let Some(child) = self.children.get_mut(index) else { return Ok(()) };
        child.process = None;
        let name = child.plan.name;
        match child.life.exited(now, exit.misconfigured) {
            Verdict::Expected => {}
            Verdict::RestartAt(at) => {
                let pause_ms = at.since(now).as_millis();
                tracing::warn!(child = name, how = exit.how, pause_ms, "child ended, restarting");
            }
            Verdict::GiveUp => {
                let log = self.plan.data.join("logs").join(format!("{name}.log"));
                bail!("{name} cannot run ({}); from {}:\n{}", exit.how, log.display(), exit.tail);
            }
        }
        self.write_state();
        Ok(())
    }

    async fn restart_due(&mut self) -> anyhow::Result<()> {
        let now: Monotonic = self.clock.monotonic();
        for index in 0..self.children.len() {
            let Some(child) = self.children.get_mut(index) else { break };
            if !child.life.due(now) {
                continue;
            }
            let plan = child.plan.clone();
            match self.start(&plan).await {
                Ok(process) => {
                    tracing::info!(child = plan.name, pid = process.pid(), "child started again");
                    if let Some(child) = self.children.get_mut(index) {
                        child.process = Some(process);
                    }
                    self.write_state();
                }
                // A machine without memory or a binary that is being replaced: as if it had
                // started and ended at once.
                Err(error) => {
                    let how = format!("{error:#}");
                    let exit = Exit { how, misconfigured: false, tail: String::new() };
                    self.ended(index, &exit)?;
                }
            }
        }
        Ok(())
    }

    /// Ends all children, the last stage first, each stage at the same time. A stage that takes
    /// long goes on ending while the next is told.
    async fn end(&mut self) {
        let limit = Instant::now() + END_LIMIT;
        for child in &mut self.children {
            child.life.stop();
        }
        let stages: BTreeSet<u8> = self.children.iter().map(|it| it.plan.stage).collect();
        for (after, stage) in stages.into_iter().enumerate().rev() {
            for child in self.children.iter_mut().filter(|it| it.plan.stage == stage) {
                if let Some(process) = &mut child.process {
                    process.ask_to_end();
                }
            }
            let now = Instant::now();
            let until = now + patience(limit.saturating_duration_since(now), after);
            self.wait_for_all(until, |it| it.plan.stage == stage).await;
        }
        self.wait_for_all(limit, |_| true).await;
    }

    /// Waits until all `wanted` children have ended; `false` when some have not by `limit`.
    async fn wait_for_all(&mut self, limit: Instant, wanted: impl Fn(&Running) -> bool) -> bool {
        while self.children.iter().any(|it| it.process.is_some() && wanted(it)) {
            let ended = any_ended(&mut self.children);
            let Ok((index, exit)) = tokio::time::timeout_at(limit, ended).await else {
                return false;
            };
            if let Some(child) = self.children.get_mut(index) {
                tracing::debug!(child = child.plan.name, how = exit.how, "child ended");
                child.process = None;
            }
        }
        true
    }

    async fn kill_the_rest(&mut self) {
        for child in &mut self.children {
            if let Some(process) = &mut child.process {
                tracing::warn!(child = child.plan.name, "killing a child that has not ended");
                process.kill();
            }
        }
        let gone = self.wait_for_all(Instant::now() + KILL_LIMIT, |_| true).await;
        if !gone {
            tracing::error!("a killed child is still there: the kernel does not let go of it");
        }
        // What they wrote last is in the pipes.
        drop(self.tasks.shutdown(KILL_LIMIT).await);
        let path = self.plan.data.join("run.json");
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove the state file");
        }
    }

    /// `run.json`: name, pid and address of every child that runs.
    fn write_state(&self) {
        let rows: Vec<_> = self
            .children
            .iter()
            .filter_map(|it| {
                let pid = it.process.as_ref()?.pid()?;
                Some(serde_json::json!({
                    "name": it.plan.name,
                    "pid": pid,
                    "address": it.plan.address()?.to_string(),
                }))
            })
            .collect();
        let path = self.plan.data.join("run.json");
        if let Err(error) = replace(&path, &format!("{:#}\n", serde_json::Value::from(rows))) {
            tracing::warn!(path = %path.display(), %error, "cannot write the state file");
        }
    }

    fn greet(&self) {
        let mut text = String::from("\nTradewind is up. Ctrl-C ends it.\n\n");
        let mut line = |name: &str, value: &str| {
            text.push_str(&format!("  {name:<14}{value}\n"));
        };
        let mut groups: BTreeMap<(u8, &str), Vec<String>> = BTreeMap::new();
        for child in &self.plan.children {
            let name = child.name.split('-').next().unwrap_or(child.name);
            let address = child.address().map(|it| format!("http://{it}"));
            groups.entry((u8::MAX - child.stage, name)).or_default().extend(address);
        }
        for ((_, name), addresses) in groups {
            line(name, &addresses.join("  "));
        }
        let admin = self.plan.children.iter().find(|it| it.name == "gateway");
        if let Some(address) = admin.and_then(ChildPlan::health) {
            line("gateway admin", &format!("http://{address}"));
        }
        line("admin token", &self.plan.data.join("admin.token").display().to_string());
        line("data", &self.plan.data.display().to_string());
        line("logs", &self.plan.data.join("logs").display().to_string());
        let users: Vec<_> = self
            .plan
            .demo_users
            .iter()
            .map(|(name, password)| format!("{name} / {password}"))
            .collect();
        if !users.is_empty() {
            line("demo users", &users.join("   "));
        }
        text.push('\n');
        say(&text);
    }
}

/// Waits for the first of the running children to end.
async fn any_ended(children: &mut [Running]) -> (usize, Exit) {
    let waits = children.iter_mut().enumerate().filter_map(|(index, child)| {
        let process = child.process.as_mut()?;
        Some(async move { (index, process.ended().await) })
    });
    let mut waits: FuturesUnordered<_> = waits.collect();
    match waits.next().await {
        Some(ended) => ended,
        None => std::future::pending().await,
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("json.new");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}

fn say(text: &str) {
    // The screen may be gone; the servers are not there for the screen.
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()));
    drop(out.flush());
}

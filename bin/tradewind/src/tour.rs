//! `tradewind tour`: a guided run on real processes. It starts an estate for itself, does what a
//! user does, breaks what can break, and says what it saw and why it held.
//!
//! | part | what it does |
//! |---|---|
//! | [`chapters`] | the story: each chapter does one thing and holds what must come of it |
//! | [`scene`] | what all chapters use: buyers, and questions to the estate |
//! | [`proof`] | what must hold, and what was seen instead |
//! | [`estate`] | `up` as a child process in a folder and on ports of its own |
//! | [`wire`] | the wire between broker and warehouse, which can lose an answer |
//! | [`web`] | requests |
//! | [`story`] | how it is told |
//!
//! Whatever ends it, a failed chapter, Ctrl-C or a kill, nothing keeps running: the estate ends
//! when its standard input closes. The folder is kept when a chapter failed, for its logs.

mod chapters;
mod estate;
mod proof;
mod scene;
mod story;
mod web;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;
use tradewind_base::Tasks;

use crate::cli::{Cli, Tour};
use crate::config::Config;
use crate::signals::Signals;
use crate::{FAILED, MISCONFIGURED, OK, complain, config};

use estate::Estate;
use proof::{Held, Unmet};
use scene::Scene;
use story::{Story, span};
use web::Web;
use wire::Wire;

/// What the shell calls a program that was interrupted.
const INTERRUPTED: u8 = 130;
/// Settings of the tour that the command line may change: nobody wants to wait.
const DEFAULTS: [&str; 1] = ["warehouse.ship_after=1s"];
/// How often a start is tried: a port that was free can be taken when it is needed.
const STARTS: u8 = 2;
/// How long the tour's own tasks may take to end.
const TASKS_LIMIT: Duration = Duration::from_secs(1);

/// How it went.
#[derive(Debug)]
enum Outcome {
    Held,
    Failed(Unmet),
    Interrupted,
}

/// Runs the tour and returns its exit code.
pub(crate) fn run(cli: &Cli, options: Tour) -> ExitCode {
    if cli.data.is_some() {
        let text = "--data: the tour has a folder of its own; --keep keeps it";
        return complain(&text, MISCONFIGURED);
    }
    let sources = match config::sources_named(cli) {
        Ok(sources) => sources,
        Err(error) => return complain(&error, MISCONFIGURED),
    };
    let config = match Config::read(sources) {
        Ok((config, _)) => config,
        Err(error) => return complain(&error, MISCONFIGURED),
    };
    let guide = Guide {
        cli,
        options,
        place_limit: config.order.orders.place_limit,
        story: Story::begin(),
        wire: Wire::default(),
        tasks: Tasks::new(),
    };
    match guide.conduct() {
        Ok(Outcome::Held) => ExitCode::from(OK),
        Ok(Outcome::Failed(_)) => ExitCode::from(FAILED),
        Ok(Outcome::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => complain(&format!("{error:#}"), FAILED),
    }
}

/// Who leads the tour.
struct Guide<'a> {
    cli: &'a Cli,
    options: Tour,
    place_limit: Duration,
    story: Story,
    wire: Wire,
    tasks: Tasks,
}

impl Guide<'_> {
    fn conduct(&self) -> anyhow::Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(async {
            let mut signals = Signals::new(self.cli.supervised)?;
            self.story.title("Tradewind: a tour");
            let begun = Instant::now();
            let web = Web::new(&self.tasks);
            let (mut estate, ready) = self.open(&web, &mut signals).await?;
            let outcome = match ready {
                None => Outcome::Interrupted,
                Some(Err(unmet)) => Outcome::Failed(unmet),
                Some(Ok(())) => tokio::select! {
                    it = self.tell(&estate, &web, begun) => match it {
                        Ok(()) => Outcome::Held,
                        Err(unmet) => Outcome::Failed(unmet),
                    },
                    () = signals.next() => Outcome::Interrupted,
                },
            };
            self.close(&mut estate, &mut signals, &outcome, begun).await;
            drop(self.tasks.clone().shutdown(TASKS_LIMIT).await);
            Ok(outcome)
        })
    }

    /// Starts the estate, and whether it got ready; nothing when somebody did not want to wait.
    async fn open(
        &self,
        web: &Web,
        signals: &mut Signals,
    ) -> anyhow::Result<(Estate, Option<Held>)> {
        let mut starts = 1;
        loop {
            let mut estate = Estate::start(self.cli, &DEFAULTS, &self.wire, &self.tasks).await?;
            let ready = tokio::select! {
                it = estate.ready(web) => Some(it),
                () = signals.next() => None,
            };
            if !matches!(ready, Some(Err(_))) || starts == STARTS {
                return Ok((estate, ready));
            }
            estate.end().await;
            estate.remove().context("cannot remove the folder of a start that failed")?;
            starts += 1;
        }
    }

    /// Tells the chapters, up to the first that does not hold.
    async fn tell(&self, estate: &Estate, web: &Web, begun: Instant) -> Held {
        self.introduce(estate, begun)?;
        let scene = Scene::set(self.story, estate, &self.wire, web, self.place_limit).await?;
        let wanted = |it: &u8| self.options.chapter.is_none_or(|only| only == *it);
        for number in (1..=chapters::COUNT).filter(wanted) {
            chapters::tell(number, &scene).await?;
        }
        Ok(())
    }

    /// Says what was started.
    fn introduce(&self, estate: &Estate, begun: Instant) -> Held {
        let processes = estate.processes()?;
        let mut text = format!(
            "{} processes of its own on this machine, ready after {}:",
            processes.len(),
            span(begun.elapsed()),
        );
        for it in &processes {
            text.push_str(&format!("\n   {:<13}{:<18}process {}", it.name, it.address, it.pid));
        }
        text.push_str(&format!("\n   {:<13}{}", "data", estate.folder().display()));
        self.story.tells(&text);
        Ok(())
    }

    /// Says how it went, ends the estate, and removes the folder unless somebody needs it.
    async fn close(
        &self,
        estate: &mut Estate,
        signals: &mut Signals,
        outcome: &Outcome,
        begun: Instant,
    ) {
        let (story, took) = (self.story, span(begun.elapsed()));
        match outcome {
            Outcome::Held => {}
            Outcome::Failed(unmet) => story.failed(unmet, &estate.logs()),
            Outcome::Interrupted => {
                story.tells("\nstopping; Ctrl-C again ends everything at once");
            }
        }
        let hurried = tokio::select! {
            () = estate.end() => false,
            () = signals.next() => true,
        };
        if hurried {
            estate.kill().await;
        }
        let keep = self.options.keep || matches!(outcome, Outcome::Failed(_));
        let folder = estate.folder().display();
        let rest = if keep {
            format!("databases and logs are in {folder}")
        } else if let Err(error) = estate.remove() {
            format!("the folder {folder} could not be removed: {error}")
        } else {
            "all processes have ended and the folder is removed".to_owned()
        };
        match outcome {
            Outcome::Held => story.well(&format!("All of it held, in {took}; {rest}.")),
            Outcome::Failed(_) => story.badly(&format!("Not all of it held; {rest}.")),
            Outcome::Interrupted => story.tells(&format!("interrupted; {rest}")),
        }
    }
}

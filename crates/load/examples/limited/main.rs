//! A service that can do 800 requests a second, to be offered 1,000:
//!
//! ```sh
//! cargo run --release -p tradewind-load --example limited
//! tradewind load http://127.0.0.1:8800/ --rate 1000 --duration 30s --svg load.svg
//! ```
//!
//! `limited RATE QUEUE ADDRESS` sets the ceiling, how many may wait, and where it listens.

mod server;

use std::io::Write as _;

use anyhow::Context as _;
use tokio::net::TcpListener;

use server::{Capacity, serve};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rate = arguments.next().unwrap_or_else(|| "800".to_owned());
    let rate = rate.parse().ok().filter(|it: &f64| 0.0 < *it && it.is_finite());
    let rate = rate.context("the rate is no number above zero")?;
    let queue = arguments.next().map(|it| it.parse()).transpose();
    let queue = queue.context("the queue is no number of requests")?.unwrap_or(usize::MAX);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8800".to_owned());
    let listener = TcpListener::bind(&address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let waiting = if queue == usize::MAX { "any number".to_owned() } else { queue.to_string() };
    writeln!(
        std::io::stdout(),
        "http://{}/ does {rate} requests a second; {waiting} may wait; Ctrl-C ends it",
        listener.local_addr()?
    )?;
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    serve(listener, Capacity { rate, queue }, stop).await.context("cannot serve")
}

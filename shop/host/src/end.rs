//! The end of a service, in order.

use std::convert::Infallible;
use std::time::Duration;

use tradewind::base::Tasks;
use tradewind::base::shutdown::Shutdown;
use tradewind::discovery::Registration;
use tradewind::service::edge::Serving;
use tradewind::sql::{CloseError, Database};

/// How long the end of a service takes at most: a supervisor that waits 10 s need not kill it.
pub const END_LIMIT: Duration = Duration::from_millis(9_500);

const LEAVE: Duration = Duration::from_secs(1);
/// Longer than a request may take by default would be patience for the clients and none for the
/// operator, who waits for all services of the machine.
const DRAIN: Duration = Duration::from_secs(5);
const BACKGROUND: Duration = Duration::from_secs(1);
const CLOSE: Duration = Duration::from_secs(2);

/// What has been started and is to be ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) registration: Option<Registration>,
    pub(crate) serving: Option<Serving>,
    tasks: Tasks,
    databases: Vec<Database>,
}

impl End {
    pub(crate) const fn new(tasks: Tasks, databases: Vec<Database>) -> Self {
        Self { registration: None, serving: None, tasks, databases }
    }

    /// Ends everything. What fails or runs out of time is logged, and the next step starts.
    pub(crate) async fn run(self) {
        let Self { registration, serving, tasks, databases } = self;
        let leave = async move {
            if let Some(it) = registration {
                it.leave(LEAVE).await;
            }
            Ok::<_, Infallible>(())
        };
        let drain = async move {
            let Some(serving) = serving else { return Ok(()) };
            match serving.drain(DRAIN).await.cut {
                0 => Ok(()),
                cut => Err(format!("{cut} requests were cut off")),
            }
        };
        let background = async move { tasks.shutdown(BACKGROUND).await };
        let close = async move {
            for it in databases {
                it.close().await?;
            }
            Ok::<_, CloseError>(())
        };
        // Each work bounds itself; the limit of its step is the net below it.
        let net = Duration::from_millis(100);
        Shutdown::new()
            .step("leave the registry", LEAVE + net, leave)
            .step("drain", DRAIN + net, drain)
            .step("end background work", BACKGROUND + net, background)
            .step("close the database", CLOSE, close)
            .run()
            .await;
    }
}

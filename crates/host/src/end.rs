//! The end of a service, in order.

use std::time::Duration;

use tradewind_base::Tasks;
use tradewind_base::shutdown::Shutdown;
use tradewind_discovery::Registration;
use tradewind_service::edge::Serving;
use tradewind_sql::{CloseError, Database};

/// How long the end of a service takes at most: a supervisor that waits 10 s need not kill it.
pub const END_LIMIT: Duration = Duration::from_millis(9_500);

const LEAVE: Duration = Duration::from_secs(1);
/// Longer than a request may take by default would be patience for the clients and none for the
/// operator, who waits for all services of the machine.
const DRAIN: Duration = Duration::from_secs(5);
const BACKGROUND: Duration = Duration::from_secs(1);
const CLOSE: Duration = Duration::from_secs(2);

/// What is left to a step beyond the limit that its work keeps by itself.
const NET: Duration = Duration::from_millis(100);

/// The limits of the steps, in their order.
pub(crate) const STEPS: [Duration; 4] =
    [LEAVE.saturating_add(NET), DRAIN.saturating_add(NET), BACKGROUND.saturating_add(NET), CLOSE];

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
            let Some(it) = registration else { return Ok(()) };
            let confirmed = it.leave(LEAVE).await;
            if confirmed { Ok(()) } else { Err("no registry confirmed it; the lease runs out") }
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
        let [to_leave, to_drain, to_end, to_close] = STEPS;
        Shutdown::new()
            .step("leave the registry", to_leave, leave)
            .step("drain", to_drain, drain)
            .step("end background work", to_end, background)
            .step("close the database", to_close, close)
            .run()
            .await;
    }
}

//! Speaking the branch protocol to one process, as a service of the estate would.

use http::StatusCode;
use serde_json::{Value, json};
use tradewind_base::id::Xid;
use tradewind_base::identity::{CALLER_HEADER, Caller};
use tradewind_base::{Clock as _, Rng, SystemClock};
use tradewind_service::Keys;

use crate::{Client, Estate};

/// One branch of a transaction that the test itself makes up, in the name of a service.
#[derive(Debug)]
pub struct Branch {
    client: Client,
    sealed: String,
    action: String,
    /// The transaction.
    pub xid: Xid,
    branch: u16,
    initiator: String,
    payload: Value,
    /// When its Try is too late, in milliseconds.
    pub deadline_ms: i64,
}

/// What a participant answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The status.
    pub status: StatusCode,
    /// `state` of a success, `code` of a problem.
    pub word: String,
}

impl Estate {
    /// A branch of a new transaction of `initiator` at the process that listens on `port`.
    ///
    /// # Panics
    /// When the secret of the estate cannot be read.
    #[must_use]
    pub fn branch(&self, initiator: &str, port: u16, action: &str, payload: Value) -> Branch {
        let keys = Keys::load_or_create(&self.data()).expect("the secret of the estate");
        let now = SystemClock::new().now();
        let caller = Caller { service: initiator.to_owned() };
        let sealed = caller.seal(keys.seal(), now).expect("a caller can be sealed");
        Branch {
            client: client(port, &sealed),
            sealed,
            action: action.to_owned(),
            xid: Xid::generate(now, &mut Rng::from_entropy()),
            branch: 1,
            initiator: initiator.to_owned(),
            payload,
            deadline_ms: now.millis() + 3000,
        }
    }
}

impl Branch {
    /// Asks the initiator, whose process listens on `port`, what became of the transaction. One
    /// that it does not know has ended with that.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn outcome(&self, port: u16) -> String {
        let path = format!("/tcc/outcome/{}", self.xid);
        let answer = client(port, &self.sealed).get(&path).await.expect("an answer");
        answer.json()["decision"].as_str().unwrap_or_default().to_owned()
    }

    /// The same branch at another process.
    #[must_use]
    pub fn at(self, port: u16) -> Self {
        Self { client: client(port, &self.sealed), ..self }
    }

    /// A branch of a transaction that is there.
    ///
    /// # Panics
    /// When the text names none.
    #[must_use]
    pub fn of(self, xid: &str, branch: u16) -> Self {
        Self { xid: xid.parse().expect("the id of a transaction"), branch, ..self }
    }

    /// Says that it speaks for another service than it is.
    #[must_use]
    pub fn on_behalf_of(self, initiator: &str) -> Self {
        Self { initiator: initiator.to_owned(), ..self }
    }

    /// Sends the Try.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn reserve(&mut self) -> Said {
        let body = json!({
            "xid": self.xid, "branch": self.branch, "initiator": self.initiator,
            "deadline_ms": self.deadline_ms, "payload": self.payload,
        });
        self.say("try", &body).await
    }

    /// Sends the Confirm.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn confirm(&mut self) -> Said {
        let body = self.second();
        self.say("confirm", &body).await
    }

    /// Sends the Cancel.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn cancel(&mut self) -> Said {
        let body = self.second();
        self.say("cancel", &body).await
    }

    fn second(&self) -> Value {
        json!({"xid": self.xid, "branch": self.branch, "initiator": self.initiator})
    }

    async fn say(&mut self, step: &str, body: &Value) -> Said {
        let path = format!("/tcc/{}/{step}", self.action);
        let answer = self.client.post(&path, body).await.expect("an answer");
        let json = answer.json();
        let word = json["state"].as_str().or(json["code"].as_str()).unwrap_or_default();
        Said { status: answer.status, word: word.to_owned() }
    }
}

fn client(port: u16, sealed: &str) -> Client {
    Client::new(format!("127.0.0.1:{port}")).with(CALLER_HEADER, sealed)
}

/// `200` and this state.
#[must_use]
pub fn done(state: &str) -> Said {
    Said { status: StatusCode::OK, word: state.to_owned() }
}

/// `409` with this code.
#[must_use]
pub fn refused(code: &str) -> Said {
    Said { status: StatusCode::CONFLICT, word: code.to_owned() }
}

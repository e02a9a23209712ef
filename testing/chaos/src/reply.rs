//! What an answer says: something definite, or nothing.

use http::StatusCode;
use tradewind_e2e::Answer;

/// An answer as a careful client reads it.
#[derive(Debug)]
pub enum Reply {
    /// It says what is so.
    Definite(Answer),
    /// It does not; the same request is sent again.
    Unknown(String),
}

/// Codes with which a 409 says that it may pass.
const PASSING: [&str; 3] = ["idempotency.in-flight", "order.cancelling", "order.placing"];

impl Reply {
    /// Reads the answer to a request, or its absence.
    #[must_use]
    pub fn read(answer: anyhow::Result<Answer>) -> Self {
        let Ok(answer) = answer else { return Self::Unknown("no answer".to_owned()) };
        let passing = match answer.status {
            StatusCode::ACCEPTED
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::CONFLICT => PASSING.contains(&&*code(&answer)),
            it => it.is_server_error(),
        };
        if passing {
            Self::Unknown(format!("{} {}", answer.status.as_u16(), code(&answer)))
        } else {
            Self::Definite(answer)
        }
    }
}

/// The code of a problem document; empty when it is none.
#[must_use]
pub fn code(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// An answer in one line.
#[must_use]
pub fn short(answer: &Answer) -> String {
    let text: String = answer.text().chars().take(300).collect();
    format!("{} {text}", answer.status.as_u16())
}

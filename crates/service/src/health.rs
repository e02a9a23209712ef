//! What a server needs in order to serve, and whether it has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// The components of a server and their states. Clones show the same components.
#[derive(Clone, Debug, Default)]
pub struct Health {
    components: Arc<Mutex<BTreeMap<&'static str, State>>>,
}

/// One component: a handle to report its state with.
#[derive(Clone, Debug)]
pub struct Component {
    health: Health,
    name: &'static str,
}

/// The state of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// It does its work.
    Up,
    /// It does not, and why.
    Down {
        /// The reason, for an operator.
        reason: String,
    },
}

impl Health {
    /// No components yet: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a component, which is down until it reports. A known name gives its other handle.
    #[must_use]
    pub fn component(&self, name: &'static str) -> Component {
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        components.entry(name).or_insert_with(|| State::Down { reason: "starting".to_owned() });
        Component { health: self.clone(), name }
    }

    /// Whether every component is up.
    #[must_use]
    pub fn ready(&self) -> bool {
        let components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        components.values().all(|it| *it == State::Up)
    }

    /// The components by name.
    #[must_use]
    pub fn states(&self) -> BTreeMap<&'static str, State> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Component {
    /// The component does its work.
    pub fn up(&self) {
        self.set(State::Up);
    }

    /// The component does not do its work. The change is logged; a repeat of the reason is not.
    pub fn down(&self, reason: impl Into<String>) {
        self.set(State::Down { reason: reason.into() });
    }

    fn set(&self, state: State) {
        let mut all = self.health.components.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(self.name) == Some(&state) {
            return;
        }
        match &state {
            State::Up => tracing::info!(component = self.name, "component is up"),
            State::Down { reason } => {
                tracing::warn!(component = self.name, reason, "component is down");
            }
        }
        all.insert(self.name, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_while_every_component_is_up() {
        let health = Health::new();
        assert!(health.ready());
        let (database, registry) = (health.component("database"), health.component("registry"));
        database.up();
        assert!(!health.ready(), "the registry is still starting");
        registry.up();
        assert!(health.ready());
        database.down("disk full");
        assert!(!health.ready());
        let reason = State::Down { reason: "disk full".into() };
        assert_eq!(health.states().get("database"), Some(&reason));
    }
}

//! What all servers of one estate are given.

use std::path::PathBuf;
use std::sync::Arc;

use tradewind_base::{Clock, SecretString, SystemClock};

use super::{Keys, KeysError};
use crate::config::Reader;

/// The settings behind [`Shared`]. Reading them touches nothing on disk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SharedConfig {
    /// The folder for everything that is kept.
    pub data: PathBuf,
    /// What tells this instance from others of its service on this machine.
    pub instance: Option<String>,
    /// The name or address under which other machines reach this one.
    pub host: Option<String>,
    /// The URLs of the registry's nodes.
    pub registry: Vec<String>,
    /// User and password for the registry.
    pub registry_user: Option<(String, SecretString)>,
}

/// What every server is given at its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shared {
    /// The folder for everything that is kept; it exists.
    pub data: PathBuf,
    /// The secret of the estate.
    pub keys: Keys,
    /// The one clock of the process.
    pub clock: Arc<dyn Clock>,
    /// The URLs of the registry's nodes.
    pub registry: Vec<String>,
    /// User and password for the registry.
    pub registry_user: Option<(String, SecretString)>,
    /// What tells this instance from others of its service on this machine: "a", "b".
    pub instance: Option<String>,
    /// The name or address under which other machines reach this one; the listener's own when
    /// absent.
    pub host: Option<String>,
}

impl SharedConfig {
    /// Reads the sections `tradewind` and `discovery`.
    pub fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("tradewind");
        let data = section.get("data", PathBuf::from("data"), "folder for everything that is kept");
        let instance: Option<String> = section
            .optional("instance", "what tells this instance from others of its service here");
        if let Some(instance) = &instance {
            let fits = (1..=64).contains(&instance.len())
                && instance.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
            if !fits {
                section.invalid("instance", "expected 1 to 64 letters, digits and hyphens");
            }
        }
        let host = section.optional("host", "name or address under which others reach this one");
        let mut section = reader.section("discovery");
        let default = vec!["http://127.0.0.1:8761".to_owned()];
        let registry = section.get("urls", default, "URLs of the registry's nodes");
        if registry.is_empty() {
            section.invalid("urls", "expected at least one URL");
        }
        let user: Option<String> = section.optional("user", "user for the registry");
        let password = section.secret("password", "password for the registry");
        let registry_user = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => {
                section.invalid("password", "must be set together with discovery.user");
                None
            }
            (None, Some(_)) => {
                section.invalid("user", "must be set together with discovery.password");
                None
            }
        };
        Self { data, instance, host, registry, registry_user }
    }
}

impl Shared {
    /// Makes the data folder, for its owner alone, loads or creates the secret and starts the clock.
    ///
    /// # Errors
    /// When the folder or the secret cannot be made or read, or the secret is readable by others.
    pub fn open(config: SharedConfig) -> Result<Self, KeysError> {
        let keys = Keys::load_or_create(&config.data)?;
        Ok(Self {
            data: config.data,
            keys,
            clock: Arc::new(SystemClock::new()),
            registry: config.registry,
            registry_user: config.registry_user,
            instance: config.instance,
            host: config.host,
        })
    }

    /// For tests and simulation: everything given.
    #[must_use]
    pub const fn new(
        data: PathBuf,
        keys: Keys,
        clock: Arc<dyn Clock>,
        registry: Vec<String>,
    ) -> Self {
        Self { data, keys, clock, registry, registry_user: None, instance: None, host: None }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::Sources;

    fn read(file: &str) -> (SharedConfig, Option<String>) {
        let file = Some(("tradewind.toml".into(), file.to_owned()));
        let mut reader = Reader::new(Sources { file, ..Sources::default() });
        let config = SharedConfig::read(&mut reader);
        (config, reader.finish().err().map(|it| it.to_string()))
    }

    #[test]
    fn the_defaults_find_the_registry_of_this_machine() {
        let (config, errors) = read("");
        assert_eq!(errors, None);
        assert_eq!(config.registry, ["http://127.0.0.1:8761"]);
        assert_eq!((config.data, config.instance), (PathBuf::from("data"), None));
    }

    #[test]
    fn no_registry_is_a_mistake() {
        let (_, error) = read("[discovery]\nurls = []\n");
        assert!(error.unwrap().contains("discovery.urls"));
    }

    #[test]
    fn half_a_login_and_a_strange_instance_are_mistakes() {
        let (_, errors) = read("tradewind.instance = \"a/b\"\ndiscovery.user = \"me\"");
        let errors = errors.unwrap();
        assert!(errors.contains("tradewind.instance") && errors.contains("hyphens"), "{errors}");
        assert!(errors.contains("discovery.password: must be set together"), "{errors}");
        let (_, errors) = read("discovery.password = \"hush\"");
        let errors = errors.unwrap();
        assert!(errors.contains("discovery.user") && !errors.contains("hush"), "{errors}");
    }

    #[test]
    fn opening_makes_the_folder_and_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let (config, _) = read(&format!("tradewind.data = \"{}\"", data.display()));
        assert!(!data.exists(), "reading touches nothing");
        let shared = Shared::open(config).unwrap();
        assert!(data.join("secret").exists());
        let mode = std::fs::metadata(&data).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "nobody else looks into it");
        assert!(
            !format!("{shared:?}").contains(&std::fs::read_to_string(data.join("secret")).unwrap())
        );
    }
}

//! Initiator and participants over real databases and real HTTP.

mod crashes;
mod fences;
mod flow;
mod implied;
mod shelf;
mod support;

/// Declares each test once for every kind of database.
macro_rules! on_each_database {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {
        mod sqlite {
            $($(#[$meta])* #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::tests::support::Kind::Sqlite).await;
            })*
        }
        #[cfg(feature = "services")]
        mod mysql {
            $($(#[$meta])* #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::tests::support::Kind::MySql).await;
            })*
        }
    };
}
use on_each_database;

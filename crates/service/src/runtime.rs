//! The threads that run a server's tasks.
//!
//! A server alone on its machine has one for each processor. Where several share a machine each
//! does better with fewer: a thread that hands a task to its neighbour, which was asleep, waits for
//! a processor twice, and other servers want it too. A server with a single thread hands nothing
//! over. (The gateway serves its clients on threads besides these: `gateway.workers`.) Work that
//! blocks (SQL, hashing of passwords) has threads of its own everywhere.

use std::io;
use std::num::NonZero;

use tokio::runtime::{Builder, Runtime};

use crate::config::Reader;

/// The most threads that can be asked for.
const THREADS_MAX: usize = 1024;

/// How many threads there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// So many; none given: one for each processor.
    pub threads: Option<NonZero<usize>>,
}

impl RuntimeConfig {
    /// Reads the section `runtime`.
    pub fn read(reader: &mut Reader) -> Self {
        let threads = reader.section("runtime").get_within(
            "threads",
            0,
            &(0..=THREADS_MAX),
            "threads that run a server's tasks; 0: one for each processor, and half of that for \
             each server of `tradewind up`, which share a machine",
        );
        Self { threads: NonZero::new(threads) }
    }

    /// A part of the machine, for a server that shares it with others: half of its processors, and
    /// at least one.
    #[must_use]
    pub fn shared() -> Self {
        Self { threads: Some(half(processors())) }
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread or no file descriptor.
    pub fn start(self) -> io::Result<Runtime> {
        let threads = self.threads.unwrap_or_else(processors).get();
        let mut builder = match threads {
            1 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        builder.worker_threads(threads).enable_all().build()
    }
}

fn processors() -> NonZero<usize> {
    std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

fn half(all: NonZero<usize>) -> NonZero<usize> {
    NonZero::new(all.get() / 2).unwrap_or(NonZero::<usize>::MIN)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Handle, RuntimeFlavor};

    use super::*;
    use crate::config::Sources;

    fn read(value: &str) -> Result<RuntimeConfig, String> {
        let flags = vec![("runtime.threads".to_owned(), value.to_owned())];
        let mut reader = Reader::new(Sources { flags, ..Sources::default() });
        let config = RuntimeConfig::read(&mut reader);
        reader.finish().map(|_| config).map_err(|it| it.to_string())
    }

    #[test]
    fn so_many_as_were_asked_for() {
        for (asked, flavor) in
            [("1", RuntimeFlavor::CurrentThread), ("3", RuntimeFlavor::MultiThread)]
        {
            let runtime = read(asked).unwrap().start().unwrap();
            let (found, threads) = runtime.block_on(async {
                let handle = Handle::current();
                (handle.runtime_flavor(), handle.metrics().num_workers())
            });
            assert_eq!((found, threads.to_string()), (flavor, asked.to_owned()));
        }
    }

    #[test]
    fn zero_is_one_for_each_processor_and_too_many_are_a_mistake() {
        assert_eq!(read("0").unwrap(), RuntimeConfig { threads: None });
        let runtime = RuntimeConfig::default().start().unwrap();
        assert_eq!(runtime.metrics().num_workers(), processors().get());
        let error = read("1025").unwrap_err();
        assert!(error.contains("runtime.threads"), "{error}");
    }

    #[test]
    fn a_share_is_half_and_at_least_one() {
        for (all, share) in [(1, 1), (2, 1), (3, 1), (4, 2), (64, 32)] {
            assert_eq!(half(NonZero::new(all).unwrap()).get(), share);
        }
    }
}

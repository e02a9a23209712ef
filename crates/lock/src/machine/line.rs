//! The order of waiters in one process.
//!
//! Everybody who wants names stands in the line of each of them. Who is first in all its lines may
//! ask the store, and stays first while it holds the names; so one contender of this process asks
//! for each name, and those behind it are not refused but served in order. A ticket is in all its
//! lines from the same moment, so the oldest ticket is first everywhere: there is no deadlock.

use std::collections::{BTreeSet, HashMap};

use crate::name::{LockName, Names};

/// A place in the line; later tickets are higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// All lines of one process.
#[derive(Debug)]
pub struct Line {
    next: u64,
    entries: HashMap<Ticket, Names>,
    lines: HashMap<LockName, BTreeSet<Ticket>>,
    entries_max: usize,
}

impl Line {
    /// Lines for at most `entries_max` tickets.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self { next: 0, entries: HashMap::new(), lines: HashMap::new(), entries_max }
    }

    /// Joins the lines of all names; `None` when there is no room.
    pub fn join(&mut self, names: &Names) -> Option<Ticket> {
        if self.entries_max <= self.entries.len() {
            return None;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        for name in names.iter() {
            self.lines.entry(name.clone()).or_default().insert(ticket);
        }
        self.entries.insert(ticket, names.clone());
        Some(ticket)
    }

    /// The first name for which somebody is before this ticket; `None` when it is its turn.
    #[must_use]
    pub fn blocked(&self, ticket: Ticket) -> Option<&LockName> {
        let first = |it: &&LockName| {
            self.lines.get(*it).and_then(BTreeSet::first).is_some_and(|first| *first != ticket)
        };
        self.entries.get(&ticket)?.iter().find(first)
    }

    /// Leaves, and tells whose turn it is now who had to wait before.
    pub fn leave(&mut self, ticket: Ticket) -> Vec<Ticket> {
        let Some(names) = self.entries.remove(&ticket) else { return Vec::new() };
        let mut heads = BTreeSet::new();
        for name in names.iter() {
            let Some(line) = self.lines.get_mut(name) else { continue };
            let was_first = line.first() == Some(&ticket);
            line.remove(&ticket);
            match line.first() {
                Some(head) if was_first => {
                    heads.insert(*head);
                }
                Some(_) => {}
                None => {
                    self.lines.remove(name);
                }
            }
        }
        heads.into_iter().filter(|it| self.blocked(*it).is_none()).collect()
    }

    /// How many tickets are in line, with those who hold.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is in line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.lines.is_empty()
    }
}

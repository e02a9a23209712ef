//! What is to hold, and what was found.

/// The most rows that one finding keeps; the others are counted.
pub const ROWS_MAX: usize = 100;

/// Something that holds at every moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// Its number: `STOCK-1`.
    pub number: &'static str,
    /// What holds, in a sentence.
    pub statement: &'static str,
}

/// A row that breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: `STOCK-1`.
    pub invariant: &'static str,
    /// The row and what is wrong with it.
    pub row: String,
}

/// What looking for one invariant came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub invariant: &'static Invariant,
    /// How many things were looked at.
    pub checked: u64,
    /// How many rows break it.
    pub violations: u64,
    /// The first of them, at most [`ROWS_MAX`].
    pub rows: Vec<String>,
}

/// Findings, one for each invariant, in the order in which they were first mentioned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Nothing looked at yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds to how many things were looked at; with 0 the invariant is merely mentioned.
    pub fn checked(&mut self, invariant: &'static Invariant, count: u64) {
        let it = self.of(invariant);
        it.checked = it.checked.saturating_add(count);
    }

    /// Adds a row that breaks an invariant.
    pub fn broken(&mut self, invariant: &'static Invariant, row: String) {
        let it = self.of(invariant);
        it.violations = it.violations.saturating_add(1);
        if it.rows.len() < ROWS_MAX {
            it.rows.push(row);
        }
    }

    /// Adds what somebody else found.
    pub fn merge(&mut self, other: Self) {
        for found in other.0 {
            let it = self.of(found.invariant);
            it.checked = it.checked.saturating_add(found.checked);
            it.violations = it.violations.saturating_add(found.violations);
            let room = ROWS_MAX.saturating_sub(it.rows.len());
            it.rows.extend(found.rows.into_iter().take(room));
        }
    }

    /// How many rows break something.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.0.iter().map(|it| it.violations).sum()
    }

    /// The finding of one invariant, if it was looked at.
    #[must_use]
    pub fn get(&self, number: &str) -> Option<&Finding> {
        self.0.iter().find(|it| it.invariant.number == number)
    }

    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[Finding] {
        &self.0
    }

    /// All of them, to keep.
    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        self.0
    }

    fn of(&mut self, invariant: &'static Invariant) -> &mut Finding {
        let known = self.0.iter().position(|it| it.invariant.number == invariant.number);
        let at = known.unwrap_or(self.0.len());
        if known.is_none() {
            self.0.push(Finding { invariant, checked: 0, violations: 0, rows: Vec::new() });
        }
        &mut self.0[at]
    }
}

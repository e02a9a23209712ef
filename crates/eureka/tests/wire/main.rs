//! The wire as a whole: recorded bodies, what clients get away with, and the laws of the codecs.

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod leniency;
#[cfg(test)]
mod mutated;

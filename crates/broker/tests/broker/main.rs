//! The broker in one process with its producers and subscribers, on free ports of loopback, with
//! instance lists that the test gives.

#![cfg(test)]

mod api;
mod branch;
mod delivery;
mod foreign;
mod half;
mod outbox;
mod run;
mod support;
mod together;

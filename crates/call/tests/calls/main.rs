//! Calls over real sockets: servers in this process, lists that are given.

#![cfg(test)]

mod balance;
mod content;
mod context;
mod failure;
mod killed;
mod limits;
mod support;
mod warm;

//! Clusters of real processes: real sockets, a real store, signals that really kill.
//!
//! Each test has its own folder, its own free ports and its own nodes, which end with the test, whatever its outcome.

mod api;
mod failover;
mod main_job;
mod processes;
mod recovery;

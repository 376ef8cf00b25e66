//! Mesto books desks in coworking spaces on a replicated state machine.
//!
//! ARCHITECTURE.md, beside Cargo.toml, is the map: what each module is for, the way of one booking through them, and what
//! must always be true.

pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod http;
pub mod limits;
pub mod load;
pub mod node;
pub mod replica;
pub mod service;

pub use mesto_booking as booking;

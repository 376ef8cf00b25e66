//! Mesto books desks in coworking spaces on a replicated state machine.

pub mod booking;
pub mod config;

//! Mesto books desks in coworking spaces on a replicated state machine.

pub mod booking;
pub mod clock;
pub mod config;
pub mod http;
pub mod limits;
pub mod replica;
pub mod service;

//! The one integration binary.

mod absences;
mod api_accounts;
mod api_behind;
mod api_contract;
mod api_sockets;
mod api_surface;
mod api_world;
mod bad_input;
mod booking_codec;
mod booking_erasure;
mod booking_limits;
mod booking_model;
mod booking_shown;
mod booking_story;
mod booking_world;
mod checker_checked;
mod cluster;
mod model;
mod scenarios;

#[path = "../checker/mod.rs"]
mod checker;

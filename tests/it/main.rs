//! The one integration binary.

mod absences;
mod api_accounts;
mod api_behind;
mod api_contract;
mod api_sockets;
mod api_surface;
mod api_world;
mod bad_input;
mod checker_checked;
mod cluster;

#[path = "../checker/mod.rs"]
mod checker;

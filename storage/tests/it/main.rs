//! The store from outside: models, power cuts, damage, formats.

mod corruption;
mod data_dir;
mod disks;
mod formats;
mod log_failures;
mod log_model;
mod power_cuts;
mod snapshots;
mod state_images;
mod state_model;

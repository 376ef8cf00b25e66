//! One node of a cluster, put together: the booking domain on consensus, under the service layer and HTTP.
//!
//! ```text
//! http ─► service ─► Replica ─► mesto_raft::Node ─► … ─► BookingApp ─► booking::apply
//! ```
//!
//! Here, and only here, the three meet: [`BookingApp`] lets consensus apply booking's commands, [`ClusterReplica`] gives
//! the service layer the node that it needs, and [`serve`] starts and stops a process.

mod adapter;
mod metrics;
mod replica;
mod serve;

pub use adapter::BookingApp;
pub use replica::ClusterReplica;
pub use serve::serve;

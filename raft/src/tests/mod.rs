//! Tests of whole parts: openraft's own conformance suite, and clusters of nodes in one process on simulated time.

mod cluster;
mod conformance;
mod harness;
mod write_behind;

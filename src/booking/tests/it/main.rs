//! The domain from outside: its bytes and bounds, scenarios as text, and properties against a naive model.

mod codec;
mod erasure;
mod limits;
mod model;
mod properties;
mod queries;
mod scenarios;
mod shown;
mod story;
mod world;

//! The `mesto` command.

fn main() {}

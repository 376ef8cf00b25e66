//! `mesto admin`: accounts, by e-mail.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{ClusterArgs, Method, say};

#[derive(Debug, Subcommand)]
pub(super) enum AdminCommand {
    /// Give an account a role
    ///
    /// The account must exist: people register themselves. This is how the first admin of a new
    /// cluster comes to be.
    Grant(GrantArgs),
}

#[derive(Debug, Args)]
pub(super) struct GrantArgs {
    /// The e-mail address of the account
    email: String,
    /// The role that it gets
    #[arg(long, value_enum, default_value_t = Role::Admin)]
    role: Role,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Books for themselves
    Member,
    /// Runs the spaces: plans, users, every booking
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

pub(super) async fn run(command: AdminCommand) -> anyhow::Result<ExitCode> {
    let AdminCommand::Grant(args) = command;
    let client = args.cluster.client()?;
    let role = args.role.name();
    client
        .expect(
            Method::PUT,
            &role_path(&args.email),
            Some(&json!({ "role": role })),
        )
        .await?;
    say(&format!("{} has the role {role}", args.email));
    Ok(ExitCode::SUCCESS)
}

/// Where the role of an account is set.
pub(crate) fn role_path(email: &str) -> String {
    format!("/api/v1/admin/users/{}/role", escape(email))
}

/// Percent-encodes whatever might end a path segment or be taken for something else.
fn escape(segment: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte);
    segment
        .bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stays_one_segment_of_the_path() {
        assert_eq!(
            role_path("a@example.com"),
            "/api/v1/admin/users/a@example.com/role"
        );
        assert_eq!(escape("a/../b?c#d+e%п"), "a%2F..%2Fb%3Fc%23d%2Be%25%D0%BF");
    }
}

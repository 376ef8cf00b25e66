//! `mesto cluster`: to see and change a cluster.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{new_key, root_cause};
use super::{Client, ClusterArgs, Method, say, status};
use crate::config::{Address, create_secret_file};

/// How often a waiting command looks again.
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Create the files with the cluster's secrets, where they do not exist yet
    ///
    /// Each is readable by its owner only. Copy them to every machine of the cluster.
    Secrets(SecretsArgs),
    /// Make the nodes of the configuration a new cluster; once in its life
    ///
    /// All nodes must be running and empty. A node that belongs to a cluster already refuses.
    Init(InitArgs),
    /// Wait until the nodes serve
    Wait(WaitArgs),
    /// Ask every node how it is
    Status(StatusArgs),
    /// Hand leadership to another node
    TransferLeader(TransferArgs),
    /// Take a snapshot of the state now
    Snapshot(NodeArgs),
    /// Let a new node join; it must be running, empty, and have a number that was never used
    AddNode(AddNodeArgs),
    /// Remove a node for good; its number is never used again
    RemoveNode(RemoveNodeArgs),
}

#[derive(Debug, Args)]
pub(super) struct SecretsArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Succeed without doing anything if any of the nodes belongs to a cluster already
    #[arg(long)]
    if_needed: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Wait for one node only
    #[arg(long, value_name = "N")]
    node: Option<u64>,
    /// Be content when the processes are up, even if they cannot serve yet
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// For programs: one JSON object
    #[arg(long)]
    json: bool,
    /// Exit code 1 unless a leader with a quorum is known, every node is a member that can serve and
    /// is not far behind, and no two digests differ
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(super) struct TransferArgs {
    /// The node that shall lead; any other voter if left out
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// The node to ask; any if left out
    #[arg(long, value_name = "N")]
    node: Option<u64>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(super) struct AddNodeArgs {
    /// The number of the new node
    #[arg(long, value_name = "N")]
    id: u64,
    /// Where clients reach it
    #[arg(long, value_name = "HOST:PORT")]
    http: Address,
    /// Where the other nodes reach it
    #[arg(long, value_name = "HOST:PORT")]
    peer: Address,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(super) struct RemoveNodeArgs {
    /// The number of the node
    #[arg(long, value_name = "N")]
    id: u64,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(command: ClusterCommand) -> anyhow::Result<ExitCode> {
    match command {
        ClusterCommand::Secrets(args) => secrets(&args)?,
        ClusterCommand::Init(args) => init(&args).await?,
        ClusterCommand::Wait(args) => wait(&args).await?,
        ClusterCommand::Status(args) => return show_status(&args).await,
        ClusterCommand::TransferLeader(args) => transfer_leader(&args).await?,
        ClusterCommand::Snapshot(args) => snapshot(&args).await?,
        ClusterCommand::AddNode(args) => add_node(&args).await?,
        ClusterCommand::RemoveNode(args) => remove_node(&args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn secrets(args: &SecretsArgs) -> anyhow::Result<()> {
    let config = args.cluster.load_config()?;
    for path in [
        &config.security.secret_file,
        &config.security.operator_token_file,
    ] {
        let verdict = if create_secret_file(path)? {
            "created"
        } else {
            "exists"
        };
        say(&format!("{}: {verdict}", path.display()));
    }
    Ok(())
}

/// Never bootstraps beside a cluster that exists: every node is asked first, and one that cannot
/// be asked might be the one that remembers.
async fn init(args: &InitArgs) -> anyhow::Result<()> {
    let client = args.cluster.client()?;
    let deadline = Instant::now() + Duration::from_secs(args.cluster.timeout_s);
    for node in client.nodes() {
        let view = view_of(&client, node, deadline).await?;
        let Some(id) = view["cluster"].as_str() else {
            continue;
        };
        if args.if_needed {
            say(&format!("{node} belongs to the cluster {id} already"));
            return Ok(());
        }
        bail!("{node} belongs to the cluster {id} already; nothing was changed");
    }
    let first = client
        .nodes()
        .first()
        .context("the configuration names no node")?
        .clone();
    let path = "/api/v1/cluster/init";
    let answer = client
        .only(first)
        .expect(Method::POST, path, Some(&json!({})))
        .await?;
    say(&format!(
        "the cluster {} is initialized",
        answer["cluster_id"].as_str().unwrap_or("(without an id)")
    ));
    Ok(())
}

/// What one node says about itself, waiting for its process to answer.
async fn view_of(client: &Client, node: &Address, deadline: Instant) -> anyhow::Result<Value> {
    loop {
        let failure = match client
            .try_once(node, Method::GET, status::VIEW_PATH, None, &new_key())
            .await
        {
            Ok(answer) if answer.is_success() => return Ok(answer.body),
            Ok(answer) if !answer.is_retryable() => {
                return Err(answer.refused(&Method::GET, status::VIEW_PATH).into());
            }
            Ok(answer) => format!("it answered {} {}", answer.status, answer.code()),
            Err(error) => root_cause(&error),
        };
        if Instant::now() >= deadline {
            bail!("node {node} must be running, but cannot be asked: {failure}");
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn wait(args: &WaitArgs) -> anyhow::Result<()> {
    let timeout = Duration::from_secs(args.cluster.timeout_s);
    let nodes = match args.node {
        Some(id) => vec![http_of(&args.cluster, id)?],
        None => args.cluster.addresses()?,
    };
    let path = if args.live { "/livez" } else { "/readyz" };
    let deadline = Instant::now() + timeout;
    let client = Client::new(nodes.clone(), timeout)?;
    for node in &nodes {
        loop {
            let failure = match client.try_once(node, Method::GET, path, None, "").await {
                Ok(answer) if answer.is_success() => break,
                Ok(answer) => format!("it answers {} {}", answer.status, answer.code()),
                Err(error) => root_cause(&error),
            };
            if Instant::now() >= deadline {
                bail!(
                    "{node} does not serve after {} s: {failure}",
                    timeout.as_secs()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

async fn show_status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let client = args.cluster.client()?;
    let mut name = None;
    let asked = if args.cluster.server.is_empty() {
        let config = args.cluster.load_config()?;
        name = Some(config.cluster.name);
        config
            .nodes
            .into_iter()
            .map(|node| (Some(node.id), node.http))
            .collect()
    } else {
        args.cluster
            .server
            .iter()
            .map(|address| (None, address.clone()))
            .collect()
    };
    let mut status = status::gather(&client, asked).await;
    status.name = name;
    if args.json {
        say(&status.to_json().to_string());
    } else {
        for line in status.to_lines() {
            say(&line);
        }
    }
    let healthy = !args.check || status.is_healthy();
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn transfer_leader(args: &TransferArgs) -> anyhow::Result<()> {
    let client = args.cluster.client()?;
    let body = args.to.map_or_else(|| json!({}), |id| json!({ "to": id }));
    let answer = client
        .expect(Method::POST, "/api/v1/cluster/transfer-leader", Some(&body))
        .await?;
    match answer["leader"].as_u64().or(args.to) {
        Some(leader) => say(&format!("node {leader} was asked to lead")),
        None => say("another node was asked to lead"),
    }
    Ok(())
}

async fn snapshot(args: &NodeArgs) -> anyhow::Result<()> {
    let mut client = args.cluster.client()?;
    if let Some(id) = args.node {
        client = client.only(http_of(&args.cluster, id)?);
    }
    let answer = client
        .expect(Method::POST, "/api/v1/cluster/snapshot", Some(&json!({})))
        .await?;
    match answer["index"].as_u64() {
        Some(index) => say(&format!(
            "the snapshot covers everything up to index {index}"
        )),
        None => say("the snapshot is being taken"),
    }
    Ok(())
}

async fn add_node(args: &AddNodeArgs) -> anyhow::Result<()> {
    let client = args.cluster.client()?;
    let body =
        json!({ "id": args.id, "http": args.http.to_string(), "peer": args.peer.to_string() });
    client
        .expect(Method::POST, "/api/v1/cluster/nodes", Some(&body))
        .await?;
    say(&format!(
        "node {} has joined; add it to the configuration of every machine",
        args.id
    ));
    Ok(())
}

async fn remove_node(args: &RemoveNodeArgs) -> anyhow::Result<()> {
    let client = args.cluster.client()?;
    client
        .expect(
            Method::DELETE,
            &format!("/api/v1/cluster/nodes/{}", args.id),
            None,
        )
        .await?;
    say(&format!(
        "node {} is no member any more; stop it, and never use its number again",
        args.id
    ));
    Ok(())
}

fn http_of(args: &ClusterArgs, id: u64) -> anyhow::Result<Address> {
    let config = args.load_config()?;
    let node = config
        .node(id)
        .with_context(|| format!("{} names no node {id}", args.config.display()))?;
    Ok(node.http.clone())
}

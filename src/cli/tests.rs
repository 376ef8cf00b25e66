//! What operators type is understood, and what they mistype is refused.

use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(line.split(' '))
}

#[test]
fn the_command_line_is_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn every_documented_command_is_understood() {
    for line in [
        "mesto serve --config cluster.toml --node 1",
        "mesto cluster secrets",
        "mesto cluster init",
        "mesto cluster init --if-needed --timeout-s 60",
        "mesto cluster wait --node 2",
        "mesto cluster wait --live",
        "mesto cluster status",
        "mesto cluster status --json --check",
        "mesto cluster status --server 127.0.0.1:8101 --server 127.0.0.1:8102",
        "mesto cluster transfer-leader",
        "mesto cluster transfer-leader --to 2",
        "mesto cluster snapshot",
        "mesto cluster snapshot --node 3",
        "mesto cluster add-node --id 4 --http 127.0.0.1:8104 --peer 127.0.0.1:8204",
        "mesto cluster remove-node --id 4",
        "mesto admin grant someone@example.com",
        "mesto admin grant someone@example.com --role member",
        "mesto demo",
        "mesto verify data/node-1",
        "mesto load --seconds 5 --rate 100",
        "mesto load --clients 64 --mix availability=80,book=15,cancel=5",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "mesto",
        "mesto serve",
        "mesto serve --node one",
        "mesto cluster",
        "mesto cluster stats",
        "mesto cluster status --server 127.0.0.1",
        "mesto cluster status --timeout-s 0",
        "mesto cluster add-node --id 4",
        "mesto admin grant",
        "mesto admin grant someone@example.com --role owner",
        "mesto verify",
        "mesto load --mix availability=80,sleep=20",
        "mesto load --rate 0",
        "mesto backup file",
    ] {
        assert!(parse(line).is_err(), "{line} was understood");
    }
}

#[test]
fn every_command_and_option_explains_itself() {
    fn walk(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} has no help");
        for argument in command.get_arguments() {
            let name = argument.get_id();
            assert!(argument.get_help().is_some(), "{path} {name} has no help");
        }
        for inner in command
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help")
        {
            walk(inner, &format!("{path} {}", inner.get_name()));
        }
    }
    walk(&CommandLine::command(), "mesto");
}

#[test]
fn servers_given_by_hand_replace_those_of_the_configuration() {
    let args = ClusterArgs {
        config: PathBuf::from("does-not-exist.toml"),
        server: vec!["127.0.0.1:9999".parse().expect("an address")],
        timeout_s: 1,
    };
    let addresses = args.addresses().expect("the file is not needed for it");
    assert_eq!(addresses[0].to_string(), "127.0.0.1:9999");
    assert!(args.load_config().is_err());
}

/// Runs a command against a fake cluster, as `main` would.
fn run_against(cluster: &fake::FakeCluster, line: &str) -> anyhow::Result<ExitCode> {
    let config = cluster.config();
    let words = line
        .split(' ')
        .chain(["--config", config.to_str().expect("a path in UTF-8")]);
    execute(
        CommandLine::try_parse_from(words)
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .command,
    )
}

fn succeeds(cluster: &fake::FakeCluster, line: &str) {
    let code = run_against(cluster, line).unwrap_or_else(|error| panic!("{line}: {error:#}"));
    assert_eq!(
        format!("{code:?}"),
        format!("{:?}", ExitCode::SUCCESS),
        "{line}"
    );
}

fn fails(cluster: &fake::FakeCluster, line: &str) -> String {
    match run_against(cluster, line) {
        Ok(code) => {
            assert_ne!(
                format!("{code:?}"),
                format!("{:?}", ExitCode::SUCCESS),
                "{line}"
            );
            String::new()
        }
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_cluster_is_initialized_once_and_on_one_node() {
    let cluster = fake::FakeCluster::start(3);
    assert!(fails(&cluster, "mesto cluster wait --timeout-s 1").contains("no_leader"));
    succeeds(&cluster, "mesto cluster wait --live --timeout-s 5");
    succeeds(&cluster, "mesto cluster init");
    assert!(cluster.memory(0).cluster.is_some());
    assert!(
        cluster.memory(1).cluster.is_none(),
        "one node is told, and tells the others"
    );
    assert!(fails(&cluster, "mesto cluster init").contains("belongs to the cluster fake-cluster"));
    succeeds(&cluster, "mesto cluster init --if-needed");
    succeeds(&cluster, "mesto cluster wait --node 1 --timeout-s 5");
}

#[test]
fn no_cluster_is_made_beside_one_that_any_node_remembers() {
    let cluster = fake::FakeCluster::start(3);
    cluster.memory(2).cluster = Some("older".to_owned());
    assert!(fails(&cluster, "mesto cluster init").contains("belongs to the cluster older"));
    assert!(cluster.memory(0).cluster.is_none());
}

#[test]
fn a_node_that_cannot_be_asked_might_remember_so_nothing_is_made() {
    let mut cluster = fake::FakeCluster::start(2);
    drop(cluster.nodes.pop());
    let error = fails(&cluster, "mesto cluster init --timeout-s 1");
    assert!(error.contains("must be running"), "{error}");
    assert!(cluster.memory(0).cluster.is_none());
}

#[test]
fn the_status_is_asked_of_every_node() {
    let mut cluster = fake::FakeCluster::start(3);
    succeeds(&cluster, "mesto cluster status");
    fails(&cluster, "mesto cluster status --check");
    for node in 0..3 {
        cluster.memory(node).cluster = Some("fake-cluster".to_owned());
    }
    succeeds(&cluster, "mesto cluster status --json --check");
    assert!((0..3).all(|node| !cluster.memory(node).requests.is_empty()));
    let second = format!(
        "mesto cluster status --check --server {}",
        cluster.nodes[1].address
    );
    succeeds(&cluster, &second);
    cluster.memory(1).cluster = None;
    fails(&cluster, "mesto cluster status --check");
    cluster.memory(1).cluster = Some("fake-cluster".to_owned());
    drop(cluster.nodes.pop());
    succeeds(&cluster, "mesto cluster status --json");
    fails(&cluster, "mesto cluster status --check");
}

#[test]
fn membership_and_leadership_are_changed_through_any_node() {
    let cluster = fake::FakeCluster::start(1);
    succeeds(&cluster, "mesto cluster transfer-leader --to 2");
    succeeds(&cluster, "mesto cluster snapshot --node 1");
    succeeds(
        &cluster,
        "mesto cluster add-node --id 4 --http 127.0.0.1:8104 --peer 127.0.0.1:8204",
    );
    assert!(cluster.memory(0).members.contains(&4));
    succeeds(&cluster, "mesto cluster remove-node --id 4");
    assert!(fails(&cluster, "mesto cluster remove-node --id 4").contains("404 not_found"));
    assert!(fails(&cluster, "mesto cluster snapshot --node 9").contains("names no node 9"));
}

#[test]
fn secrets_are_left_alone_where_they_exist() {
    let cluster = fake::FakeCluster::start(1);
    let path = cluster.directory().join("data/cluster.secret");
    let before = std::fs::read_to_string(&path).expect("it exists");
    succeeds(&cluster, "mesto cluster secrets");
    assert_eq!(before, std::fs::read_to_string(&path).expect("it exists"));
}

#[test]
fn the_example_is_made_once_and_found_again() {
    let cluster = fake::FakeCluster::start(1);
    succeeds(&cluster, "mesto demo");
    succeeds(&cluster, "mesto demo");
    let memory = cluster.memory(0);
    assert_eq!(
        memory.roles.get(crate::demo::ADMIN.0).map(String::as_str),
        Some("admin")
    );
    assert!(!memory.roles.contains_key(crate::demo::MEMBER.0));
    let puts = memory
        .requests
        .iter()
        .filter(|(method, path, ..)| method == "PUT" && path.contains("spaces"));
    assert_eq!(puts.count(), 1, "the second time changes nothing");
    let registrations = memory
        .requests
        .iter()
        .filter(|(_, path, ..)| path == "/api/v1/users");
    assert!(
        registrations
            .into_iter()
            .all(|(.., token)| token.is_empty()),
        "people register themselves"
    );
}

#[test]
fn a_role_is_granted_to_an_account_that_exists() {
    let cluster = fake::FakeCluster::start(1);
    assert!(fails(&cluster, "mesto admin grant nobody@example.com").contains("404"));
    succeeds(&cluster, "mesto demo");
    succeeds(
        &cluster,
        "mesto admin grant member@example.com --role admin",
    );
    assert_eq!(cluster.memory(0).roles["member@example.com"], "admin");
}

#[test]
fn a_retry_carries_the_same_key_to_the_next_node() {
    let cluster = fake::FakeCluster::start(2);
    cluster.memory(0).unavailable = 1;
    succeeds(&cluster, "mesto cluster transfer-leader");
    let key = |node: usize| {
        cluster
            .memory(node)
            .requests
            .last()
            .expect("it was asked")
            .2
            .clone()
    };
    assert!(!key(0).is_empty());
    assert_eq!(key(0), key(1));
}

#[test]
fn a_dead_node_is_passed_over_and_dead_nodes_are_given_up() {
    let mut cluster = fake::FakeCluster::start(2);
    drop(cluster.nodes.remove(0));
    succeeds(&cluster, "mesto cluster transfer-leader");
    cluster.nodes.clear();
    let error = fails(&cluster, "mesto cluster transfer-leader --timeout-s 1");
    assert!(
        error.contains("no node answered") && error.contains("refused"),
        "{error}"
    );
}

#[test]
fn the_operator_token_is_presented_and_never_shown() {
    let cluster = fake::FakeCluster::start(1);
    succeeds(&cluster, "mesto cluster transfer-leader");
    let config = Config::load(&cluster.config()).expect("sound");
    let token = config.operator_token().expect("it exists");
    let sent = cluster
        .memory(0)
        .requests
        .last()
        .expect("it was asked")
        .3
        .clone();
    assert_eq!(sent, format!("Bearer {}", token.expose()));
    let client = Client::new(Vec::new(), Duration::from_secs(1))
        .expect("a client")
        .with_token(token.expose());
    assert!(!format!("{client:?}").contains(token.expose()));
}

#[test]
fn load_of_a_cluster_that_holds_is_good() {
    let cluster = fake::FakeCluster::start(1);
    let common = "--users 6 --desks 24 --seconds 1 --warmup-s 0 --quiet";
    succeeds(&cluster, &format!("mesto load {common} --rate 200"));
    succeeds(
        &cluster,
        &format!("mesto load {common} --rate 100 --arrivals even --json"),
    );
    succeeds(
        &cluster,
        &format!("mesto load {common} --clients 4 --think-ms 5 --mix book=1 --pattern hot"),
    );
    succeeds(
        &cluster,
        &format!("mesto load {common} --clients 4 --mix book=2,cancel=1 --pattern distinct"),
    );
    succeeds(
        &cluster,
        "mesto load --users 6 --desks 24 --quiet --fill 1200",
    );
    assert!(fails(&cluster, &format!("mesto load {common} --clients 7")).contains("raise --users"));
    assert!(
        fails(&cluster, "mesto load --users 6 --desks 24 --fill 9000000").contains("have room for")
    );
}

#[test]
fn load_notices_a_desk_that_was_given_twice() {
    // Two nodes that do not replicate: each gives the same desks away.
    let cluster = fake::FakeCluster::start(2);
    let slug = "load-20";
    fails(
        &cluster,
        "mesto load --users 4 --desks 20 --seconds 1 --warmup-s 0 --quiet --clients 4 --mix book=1 --pattern hot",
    );
    let space = cluster
        .memory(0)
        .spaces
        .get(slug)
        .or(cluster.memory(1).spaces.get(slug))
        .cloned();
    for node in 0..2 {
        cluster
            .memory(node)
            .spaces
            .insert(slug.to_owned(), space.clone().expect("one of them has it"));
    }
    let line = "mesto load --users 4 --desks 20 --seconds 2 --warmup-s 0 --quiet --clients 4 --mix book=1 --pattern hot";
    assert_eq!(
        fails(&cluster, line),
        "",
        "it ran to its end, and was not good"
    );
}

#[test]
fn load_notices_answers_that_no_correct_cluster_gives() {
    let cluster = fake::FakeCluster::start(1);
    let line =
        "mesto load --users 2 --desks 4 --seconds 1 --warmup-s 0 --quiet --rate 50 --mix book=1";
    cluster.memory(0).broken_bookings = Some(500);
    assert_eq!(fails(&cluster, line), "");
    cluster.memory(0).broken_bookings = Some(503);
    assert_eq!(fails(&cluster, line), "", "nothing was served");
}

#[test]
fn load_stays_on_this_machine_unless_told_otherwise() {
    let cluster = fake::FakeCluster::start(1);
    let error = fails(&cluster, "mesto load --server 192.0.2.1:80 --seconds 1");
    assert!(error.contains("another machine"), "{error}");
    assert!(cluster.memory(0).requests.is_empty());
}

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

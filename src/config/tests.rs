//! What is taken, what is refused, and in which words.

use std::path::Path;

use super::*;

const ONE_NODE: &str = r#"
[[nodes]]
id = 1
http = "127.0.0.1:8101"
peer = "127.0.0.1:8201"
data = "data/node-1"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "cluster.toml", Path::new("/etc/mesto"))
}

fn with(section: &str) -> Result<Config, ConfigError> {
    parse(&format!("{section}\n{ONE_NODE}"))
}

/// The keys that a configuration is refused for.
fn unsound(result: Result<Config, ConfigError>) -> Vec<String> {
    match result {
        Err(ConfigError::Unsound { problems, .. }) => {
            problems.into_iter().map(|problem| problem.key).collect()
        }
        other => panic!("expected unsound values, got {other:?}"),
    }
}

#[test]
fn nodes_are_enough() {
    let config = parse(ONE_NODE).expect("a list of nodes is a configuration");
    assert_eq!(config.raft.heartbeat_ms, 50);
    assert_eq!(
        config.node(1).expect("node 1").http.to_string(),
        "127.0.0.1:8101"
    );
    assert!(config.node(2).is_none());
}

#[test]
fn the_committed_file_states_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster.toml");
    let text = fs::read_to_string(&path).expect("cluster.toml is readable");
    let whole = Config::parse(&text, "cluster.toml", Path::new("/etc/mesto")).expect("it is sound");
    let nodes_only = format!(
        "{}\n",
        &text[text.find("[[nodes]]").expect("it lists nodes")..]
    );
    let nodes_only = &nodes_only[..nodes_only.find("[security]").expect("security follows")];
    let defaults = parse(nodes_only).expect("its nodes alone are sound");
    assert_eq!(format!("{whole:?}"), format!("{defaults:?}"));
    assert_eq!(whole.nodes.len(), 3);
    assert!(whole.warnings().is_empty(), "{:?}", whole.warnings());
}

#[test]
fn every_default_is_written_and_explained_in_the_committed_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster.toml");
    let text = fs::read_to_string(path).expect("cluster.toml is readable");
    // The derived Debug names every field, so a key that is added later cannot be forgotten there.
    let settings = parse(ONE_NODE).expect("sound");
    let shown = format!(
        "{:?} {:?} {:?}",
        settings.raft, settings.storage, settings.http
    ) + &format!(
        "{:?} {:?} {:?}",
        settings.sign_in, settings.log, settings.security
    );
    let names = shown
        .split([' ', ','])
        .filter_map(|word| word.strip_suffix(':'));
    for name in names {
        assert!(
            text.contains(&format!("\n{name} = ")),
            "{name} is missing in cluster.toml"
        );
    }
}

#[test]
fn the_limits_are_those_of_the_file() {
    assert_eq!(parse(ONE_NODE).expect("sound").limits(), Limits::default());
    let text = "[http]\nmax_body_kb = 8\nwrite_ms = 700\n[sign_in]\nfailure_window_s = 60";
    let limits = with(text).expect("sound").limits();
    assert_eq!((limits.body_bytes, limits.write_ms), (8_192, 700));
    assert_eq!(limits.failed_sign_ins_window_ms, 60_000);
}

#[test]
fn paths_start_from_the_file() {
    let config = parse(ONE_NODE).expect("sound");
    assert_eq!(
        config.node(1).expect("node 1").data,
        Path::new("/etc/mesto/data/node-1")
    );
    assert_eq!(
        config.security.secret_file,
        Path::new("/etc/mesto/data/cluster.secret")
    );
    let absolute = parse(&ONE_NODE.replace("data/node-1", "/var/lib/mesto")).expect("sound");
    assert_eq!(
        absolute.node(1).expect("node 1").data,
        Path::new("/var/lib/mesto")
    );
}

#[test]
fn an_unknown_key_is_refused_by_its_path() {
    let error = with("[raft]\nheartbeat = 50").expect_err("the key has no unit");
    let text = error.to_string();
    assert!(text.contains("raft.heartbeat"), "{text}");
    assert!(text.contains("unknown field `heartbeat`"), "{text}");
    assert!(
        text.contains("heartbeat_ms"),
        "the known keys are listed: {text}"
    );
    assert!(text.contains("line 2"), "{text}");
    let error = with("[rafts]").expect_err("there is no such section");
    assert!(error.to_string().contains("rafts"), "{error}");
}

#[test]
fn a_wrong_type_is_refused_by_its_path() {
    for (section, key) in [
        ("[raft]\nheartbeat_ms = \"50\"", "raft.heartbeat_ms"),
        ("[raft]\nheartbeat_ms = -1", "raft.heartbeat_ms"),
        ("[log]\nformat = \"xml\"", "log.format"),
        ("[security]\nsecret_file = 7", "security.secret_file"),
    ] {
        match with(section) {
            Err(ConfigError::Syntax { key: at, .. }) => assert_eq!(at, key),
            other => panic!("{section}: {other:?}"),
        }
    }
    match parse(&ONE_NODE.replace("127.0.0.1:8201", "127.0.0.1")) {
        Err(ConfigError::Syntax { key, message, .. }) => {
            assert_eq!(key, "nodes[0].peer");
            assert!(message.contains("no port"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    let error = parse("[raft\n").expect_err("a bracket is missing");
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[test]
fn a_file_without_nodes_is_refused() {
    assert!(matches!(parse(""), Err(ConfigError::Syntax { .. })));
    assert_eq!(unsound(parse("nodes = []")), ["nodes"]);
}

#[test]
fn unsound_values_are_all_told_at_once() {
    let told = unsound(with(
        "[raft]\nheartbeat_ms = 100\n[http]\nmax_body_kb = 1\n[storage]\ncache_mb = 0",
    ));
    assert_eq!(
        told,
        [
            "raft.election_min_ms",
            "storage.cache_mb",
            "http.max_body_kb"
        ]
    );
}

#[test]
fn elections_must_leave_room_for_heartbeats() {
    for (section, key) in [
        ("[raft]\nelection_min_ms = 150", "raft.election_min_ms"),
        ("[raft]\nelection_max_ms = 210", "raft.election_max_ms"),
        (
            "[raft]\nquorum_loss_probe_ms = 399",
            "raft.quorum_loss_probe_ms",
        ),
        ("[raft]\nheartbeat_ms = 0", "raft.heartbeat_ms"),
        ("[raft]\nmax_append_entries = 0", "raft.max_append_entries"),
        ("[http]\nwrite_ms = 40_000", "http.write_ms"),
        ("[sign_in]\nhash_workers = 257", "sign_in.hash_workers"),
        ("[cluster]\nname = \"\"", "cluster.name"),
        ("[log]\nlevel = \"loud\"", "log.level"),
        ("[log]\nlevel = \"info,mesto::http=loud\"", "log.level"),
    ] {
        assert_eq!(unsound(with(section)), [key], "{section}");
    }
    with("[log]\nlevel = \"info,mesto::http=debug\"").expect("directives are taken");
}

#[test]
fn nodes_must_be_apart() {
    let two = |id: u64, http: &str, peer: &str, data: &str| {
        parse(&format!(
            "{ONE_NODE}\n[[nodes]]\nid = {id}\nhttp = \"{http}\"\npeer = \"{peer}\"\ndata = \"{data}\""
        ))
    };
    two(2, "127.0.0.1:8102", "127.0.0.1:8202", "data/node-2").expect("two different nodes");
    for (result, key) in [
        (
            two(1, "127.0.0.1:8102", "127.0.0.1:8202", "data/node-2"),
            "nodes[1].id",
        ),
        (
            two(0, "127.0.0.1:8102", "127.0.0.1:8202", "data/node-2"),
            "nodes[1].id",
        ),
        (
            two(2, "127.0.0.1:8201", "127.0.0.1:8202", "data/node-2"),
            "nodes[1].http",
        ),
        (
            two(2, "127.0.0.1:8102", "127.0.0.1:8201", "data/node-2"),
            "nodes[1].peer",
        ),
        (
            two(2, "127.0.0.1:8102", "127.0.0.1:8202", "data/node-1"),
            "nodes[1].data",
        ),
        (
            two(2, "0.0.0.0:8102", "127.0.0.1:8202", "data/node-2"),
            "nodes[1].http",
        ),
    ] {
        assert_eq!(unsound(result), [key]);
    }
}

#[test]
fn a_node_may_listen_elsewhere_than_it_is_reached() {
    let text = format!("{ONE_NODE}http_listen = \"0.0.0.0:80\"\n");
    let config = parse(&text).expect("sound");
    let node = config.node(1).expect("node 1");
    assert_eq!(node.http_listen().to_string(), "0.0.0.0:80");
    assert_eq!(node.peer_listen(), &node.peer);
    let clash = format!("{ONE_NODE}http_listen = \"0.0.0.0:80\"\npeer_listen = \"0.0.0.0:80\"\n");
    assert_eq!(unsound(parse(&clash)), ["nodes[0].peer_listen"]);
}

#[test]
fn what_is_unwise_is_said() {
    let two = format!(
        "{ONE_NODE}\n{}",
        ONE_NODE
            .replace("id = 1", "id = 2")
            .replace("127.0.0.1", "10.0.0.2")
            .replace("node-1", "node-2")
    );
    let warnings = parse(&two).expect("sound").warnings().join("\n");
    for word in ["odd number", "in the clear", "loopback"] {
        assert!(warnings.contains(word), "{word} is not said: {warnings}");
    }
}

#[cfg(unix)]
mod secrets {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config_in(directory: &Path) -> Config {
        Config::parse(ONE_NODE, "cluster.toml", directory).expect("sound")
    }

    #[test]
    fn a_secret_is_created_once_and_for_its_owner_only() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = config_in(directory.path());
        let path = &config.security.secret_file;
        assert!(create_secret_file(path).expect("it is created"));
        let first = config.cluster_secret().expect("it is read");
        assert!(!create_secret_file(path).expect("it is left alone"));
        assert_eq!(
            first.expose(),
            config.cluster_secret().expect("it is read").expose()
        );
        assert_eq!(first.expose().len(), 64);
        let mode = fs::metadata(path).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        create_secret_file(&config.security.operator_token_file).expect("another");
        assert_ne!(
            first.expose(),
            config.operator_token().expect("it is read").expose()
        );
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret =
            Secret::new("0123456789abcdef0123456789abcdef", "a test").expect("long enough");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        let error = Secret::new("hunter2", "a test").expect_err("too short");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = config_in(directory.path());
        let path = &config.security.secret_file;
        create_secret_file(path).expect("it is created");
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("it is opened up");
        assert!(matches!(
            config.cluster_secret(),
            Err(SecretError::Exposed { mode: 0o640, .. })
        ));
    }

    #[test]
    fn a_missing_or_malformed_secret_says_where() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = config_in(directory.path());
        let error = config.cluster_secret().expect_err("there is none");
        assert!(error.to_string().contains("cluster.secret"), "{error}");
        assert!(
            error.to_string().contains(CLUSTER_SECRET_VARIABLE),
            "{error}"
        );
        for text in [
            "",
            "short",
            "0123456789abcdef 123456789abcdef0",
            "п0123456789abcdef0123456789abcdef",
        ] {
            assert!(Secret::new(text, "a test").is_err(), "{text} was taken");
        }
    }
}

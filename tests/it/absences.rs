//! What must not be there: the shape of the house, read off its sources.
//!
//! Comments and documentation may name anything; only code counts. Each rule is checked against a planted line too, so
//! that a rule which no longer looks at anything is noticed.

use std::fs;
use std::path::{Path, PathBuf};

/// A word that may stand nowhere in a folder but in some files.
struct Rule {
    folders: &'static [&'static str],
    word: &'static str,
    except: &'static [&'static str],
}

const RULES: &[Rule] = &[
    // Root → raft → storage, never back; and neither knows the domain.
    Rule {
        folders: &["storage/src"],
        word: "openraft",
        except: &[],
    },
    Rule {
        folders: &["storage/src"],
        word: "mesto_raft",
        except: &[],
    },
    Rule {
        folders: &["storage/src", "raft/src"],
        word: "mesto::",
        except: &[],
    },
    Rule {
        folders: &["storage/src", "raft/src"],
        word: "booking::",
        except: &[],
    },
    Rule {
        folders: &["storage/src", "raft/src"],
        word: "mesto_booking",
        except: &[],
    },
    Rule {
        folders: &["storage/src"],
        word: "axum",
        except: &[],
    },
    Rule {
        folders: &["storage/src"],
        word: "reqwest",
        except: &[],
    },
    // Each library behind one door.
    Rule {
        folders: &["src", "raft/src", "storage/src"],
        word: "sled::",
        except: &["storage/src/sled_engine.rs"],
    },
    Rule {
        folders: &["src", "storage/src"],
        word: "openraft",
        except: &["src/cli/serve.rs"],
    },
    Rule {
        folders: &["src", "raft/src", "storage/src"],
        word: "SystemTime::now",
        except: &["src/clock.rs"],
    },
    Rule {
        folders: &["src", "raft/src", "storage/src"],
        word: "unsafe {",
        except: &["storage/src/sync_repair.rs"],
    },
    Rule {
        folders: &["src", "raft/src", "storage/src"],
        word: "unsafe(",
        except: &["storage/src/sync_repair.rs"],
    },
    Rule {
        folders: &["src", "raft/src", "storage/src"],
        word: "unsafe impl",
        except: &[],
    },
    Rule {
        folders: &["src", "raft/src", "storage/src"],
        word: "unsafe fn",
        except: &[],
    },
    // The domain is pure: what its package may not depend on it cannot name, and of the standard library it leaves this.
    Rule {
        folders: &["src/booking"],
        word: "std::time",
        except: &[],
    },
    Rule {
        folders: &["src/booking"],
        word: "std::env",
        except: &[],
    },
    Rule {
        folders: &["src/booking"],
        word: "std::fs",
        except: &[],
    },
    Rule {
        folders: &["src/booking"],
        word: "std::thread",
        except: &[],
    },
    Rule {
        folders: &["src/booking"],
        word: "std::process",
        except: &[],
    },
    Rule {
        folders: &["src/booking"],
        word: "std::net",
        except: &[],
    },
    Rule {
        folders: &["src/booking", "raft/src"],
        word: "HashMap",
        except: &[],
    },
    Rule {
        folders: &["src/booking", "raft/src"],
        word: "HashSet",
        except: &[],
    },
    Rule {
        folders: &["src/booking"],
        word: "f64",
        except: &[],
    },
    Rule {
        folders: &["src/booking"],
        word: "f32",
        except: &[],
    },
    // HTTP decides nothing about bookings, and consensus is not its business.
    Rule {
        folders: &["src/http", "src/service"],
        word: "booking::apply",
        except: &[],
    },
    Rule {
        folders: &["src/http", "src/service"],
        word: "mesto_raft",
        except: &[],
    },
];

/// All that deciding can reach, beside the standard library: neither a clock nor random numbers, threads, files or network.
const DOMAIN_DEPENDENCIES: &[&str] = &["bincode", "blake3", "serde", "thiserror"];

/// The code of a line: what stands before a comment. A string with slashes only makes the check stricter or blind for
/// that line's rest, which no rule's word needs.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn names(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code(line).match_indices(word).any(|(at, _)| {
        let before = code(line)[..at].chars().next_back();
        let after = code(line)[at + word.len()..].chars().next();
        let open = !word.ends_with(is_name) || !after.is_some_and(is_name);
        !before.is_some_and(is_name) && open
    })
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            // The tests of a package that lies inside another may do what it may not.
            if path.ends_with("tests") && folder.join("Cargo.toml").exists() {
                continue;
            }
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn breaches(rule: &Rule) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for path in rule
        .folders
        .iter()
        .flat_map(|folder| sources(&root.join(folder)))
    {
        let name = path
            .strip_prefix(root)
            .expect("it is below the root")
            .display()
            .to_string();
        if rule.except.contains(&name.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file");
        for (number, line) in text.lines().enumerate() {
            if names(line, rule.word) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn the_house_keeps_its_shape() {
    for rule in RULES {
        let found = breaches(rule);
        assert!(
            found.is_empty(),
            "`{}` must not stand here:\n{}",
            rule.word,
            found.join("\n")
        );
    }
}

#[test]
fn the_domain_depends_on_nothing_that_is_not_pure() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/booking/Cargo.toml");
    let text = fs::read_to_string(path).expect("the domain's manifest");
    let manifest: toml::Table = text.parse().expect("a manifest is TOML");
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    assert!(
        dependencies.keys().eq(DOMAIN_DEPENDENCIES),
        "{dependencies:?}"
    );
    for key in ["build-dependencies", "target", "features"] {
        assert!(!manifest.contains_key(key), "the domain has {key}");
    }
}

#[test]
fn the_exceptions_are_needed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for rule in RULES {
        for except in rule.except {
            let text = fs::read_to_string(root.join(except)).expect("an excepted file exists");
            assert!(
                text.lines().any(|line| names(line, rule.word)),
                "{except} needs no exception for {}",
                rule.word
            );
        }
    }
}

#[test]
fn a_planted_breach_is_seen() {
    assert!(names("use tokio::time;", "tokio"));
    assert!(names(
        "    let now = std::time::Instant::now();",
        "std::time"
    ));
    assert!(names("let x: f64 = 1.0;", "f64"));
    assert!(!names("// tokio is not here", "tokio"));
    assert!(!names("let tokio_free = 1;", "tokio"));
    assert!(names("    unsafe { call() }", "unsafe {"));
    assert!(!names("fn unsafely() {}", "unsafe fn"));
}

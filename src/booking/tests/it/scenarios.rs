//! Scenarios: `tests/scripts/*.txt`, stories that read without Rust.
//!
//! A `#` line is a comment. A line at the margin is a command. The indented lines under it are
//! the answer that it must get, word for word. Times are `HH:MM` on day 1, a Monday, or `3T09:00`
//! on day 3, in UTC; the clock stands still unless `now` turns it. Options are `name=value`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::story::Story;
use std::fmt::Write as _;
use std::path::Path;

#[test]
fn every_booking_scenario_is_answered_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(
        files.len() >= 8,
        "only {} scenarios in {}",
        files.len(),
        folder.display()
    );
    let failures: String = files.iter().map(|file| run(file)).collect();
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn a_wrong_answer_is_noticed() {
    let script = "register anna\n  user anna member v1\n\nregister anna\n  user anna member v1\n";
    let failures = run_script("planted", script);
    assert!(failures.contains("refused email_taken"), "{failures}");
    assert!(failures.contains("planted:4"), "{failures}");
}

fn run(file: &Path) -> String {
    let script = std::fs::read_to_string(file).unwrap();
    let commands = script.lines().filter(|line| is_command(line)).count();
    assert!(commands > 0, "{} has no command", file.display());
    run_script(&file.display().to_string(), &script)
}

fn is_command(line: &str) -> bool {
    !line.is_empty() && !line.starts_with([' ', '#'])
}

/// Runs a script in a world of its own; what went wrong comes back as text.
fn run_script(name: &str, script: &str) -> String {
    let mut story = Story::new();
    let mut failures = String::new();
    let lines: Vec<&str> = script.lines().collect();
    for (at, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| is_command(line))
    {
        let answer = story.tell(line);
        let expected: Vec<&str> = lines[at + 1..]
            .iter()
            .take_while(|l| l.starts_with("  "))
            .map(|l| &l[2..])
            .collect();
        let answer: Vec<&str> = answer.lines().collect();
        if answer != expected {
            let (got, want) = (answer.join("\n    "), expected.join("\n    "));
            writeln!(
                failures,
                "{name}:{}: {line}\n  answers\n    {got}\n  not\n    {want}",
                at + 1
            )
            .unwrap();
        }
    }
    failures
}

//! The text of every `--help` but that of `bench`, so that a change of the command line is seen in review.
//! `PARLANCE_BLESS=1 cargo test -p parlance --test help` rewrites it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use clap::{Command, CommandFactory};

#[test]
fn help_is_as_reviewed() {
    let mut command = parlance::args::Args::command()
        .term_width(100)
        .mut_subcommand("bench", |bench| bench.hide(true));
    command.build();
    let mut text = String::new();
    collect(&mut command, &mut text);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help.txt");
    if std::env::var_os("PARLANCE_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap();
    let place = text
        .lines()
        .zip(reviewed.lines())
        .find(|(is, was)| is != was);
    assert!(
        text == reviewed,
        "the help has changed, first at {place:?}; PARLANCE_BLESS=1 takes it over"
    );
}

/// The load generator is left out, here and in the list of commands: its options follow what is measured.
fn collect(command: &mut Command, text: &mut String) {
    let name = command
        .get_bin_name()
        .unwrap_or(command.get_name())
        .to_owned();
    text.push_str(&format!("=== {name}\n{}\n", command.render_long_help()));
    for sub in command
        .get_subcommands_mut()
        .filter(|sub| !["help", "bench"].contains(&sub.get_name()))
    {
        collect(sub, text);
    }
}

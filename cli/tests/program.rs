//! The program as scripts see it: exit codes, what is on stdout and what on stderr. No cluster is needed.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn parlance(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlance"));
    command.env_clear().env("HOME", home).stdin(Stdio::null());
    command
}

fn run(home: &Path, args: &[&str]) -> Output {
    parlance(home).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn exit_codes_say_what_kind_of_end_it_was() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let help = run(home, &["--help"]);
    assert_eq!((code(&help), help.stderr.is_empty()), (0, true));
    let bad = run(home, &["cluster", "statsu"]);
    assert_eq!((code(&bad), bad.stdout.is_empty()), (64, true));
    assert!(
        stderr(&bad).contains("status"),
        "it suggests: {}",
        stderr(&bad)
    );
    assert_eq!(code(&run(home, &[])), 64);
    let nowhere = run(home, &["cluster", "status"]);
    assert_eq!(code(&nowhere), 2, "{}", stderr(&nowhere));
    assert!(
        stderr(&nowhere).contains("parlance dev"),
        "{}",
        stderr(&nowhere)
    );

    let dir = home.join("ca");
    let dir = dir.to_str().unwrap();
    assert_eq!(code(&run(home, &["ca", "create", "--dir", dir])), 0);
    assert_eq!(code(&run(home, &["ca", "create", "--dir", dir])), 2);
    assert_eq!(code(&run(home, &["ca", "issue", "admin", "--dir", dir])), 0);
    let unreachable = run(
        home,
        &[
            "cluster",
            "status",
            "--server",
            "127.0.0.1:1",
            "--tls-dir",
            dir,
        ],
    );
    assert_eq!(code(&unreachable), 1, "{}", stderr(&unreachable));
    let text = stderr(&unreachable);
    assert!(
        text.contains("127.0.0.1:1") && text.contains("check that"),
        "{text}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let mut child = parlance(home.path())
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
}

#[test]
fn settings_are_refused_by_name_and_shown_when_good() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("node.toml");
    let good = "node_id = 1\ndata_dir = \"/var/lib/parlance\"\nraft_listen = \"127.0.0.1:7200\"\n\
                link_listen = \"127.0.0.1:7100\"\n[tls]\nca = \"ca.pem\"\ncert = \"c.pem\"\nkey = \"k.pem\"\n";
    std::fs::write(&file, good).unwrap();
    let check = |variables: &[(&str, &str)]| {
        let mut command = parlance(home.path());
        command
            .args(["node", "--check", "--config"])
            .arg(&file)
            .envs(variables.iter().copied());
        command.output().unwrap()
    };
    let shown = check(&[
        ("PARLANCE_NODE__OPS_LISTEN", "127.0.0.1:9100"),
        ("PARLANCE_NODE__SEEDS", "a:1,b:2"),
    ]);
    assert_eq!(code(&shown), 0, "{}", stderr(&shown));
    let effective: toml::Table = toml::from_str(&String::from_utf8_lossy(&shown.stdout)).unwrap();
    assert_eq!(effective["ops_listen"].as_str(), Some("127.0.0.1:9100"));
    assert_eq!(effective["seeds"].as_array().map(Vec::len), Some(2));

    std::fs::write(&file, good.replace("node_id", "nodeid")).unwrap();
    let refused = check(&[("PARLANCE_NODE__RAFT_LISTN", "127.0.0.1:1")]);
    assert_eq!((code(&refused), refused.stdout.is_empty()), (2, true));
    let text = stderr(&refused);
    for fault in [
        "nodeid: unknown setting",
        "node_id: required",
        "PARLANCE_NODE__RAFT_LISTN: unknown setting",
    ] {
        assert!(text.contains(fault), "{fault:?} in {text}");
    }
}

#[test]
fn contexts_are_kept_and_tokens_can_be_signed_offline() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let add = [
        "context",
        "add",
        "prod",
        "--server",
        "127.0.0.1:7100",
        "--via",
        "ws://127.0.0.1:7070/ws",
        "--app",
        "shop",
    ];
    assert_eq!(code(&run(home, &add)), 0);
    let shown = run(home, &["context", "show", "--output", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        (shown["name"].as_str(), shown["app"].as_str()),
        (Some("prod"), Some("shop"))
    );
    assert_eq!(code(&run(home, &["context", "use", "nosuch"])), 2);

    let secret = home.join("secret");
    std::fs::write(&secret, "psk_00112233\n").unwrap();
    let secret = secret.to_str().unwrap();
    let issue = [
        "token",
        "issue",
        "--user",
        "alice",
        "--ttl",
        "1h",
        "--secret-file",
        secret,
        "--output",
        "json",
    ];
    let issued = run(home, &issue);
    assert_eq!(code(&issued), 0, "{}", stderr(&issued));
    let issued: serde_json::Value = serde_json::from_slice(&issued.stdout).unwrap();
    assert_eq!(
        (issued["app_id"].as_str(), issued["user_id"].as_str()),
        (Some("shop"), Some("alice"))
    );
    assert_eq!(
        issued["token"]
            .as_str()
            .map(|token| token.split('.').count()),
        Some(3)
    );
    assert_eq!(
        code(&run(
            home,
            &["token", "issue", "--user", "alice", "--ttl", "1"]
        )),
        64
    );
}

#[test]
fn a_process_with_too_few_open_files_says_so_and_does_not_start() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("ca");
    let dir = dir.to_str().unwrap();
    run(home.path(), &["ca", "create", "--dir", dir]);
    let tls = format!("tls = {{ ca = \"{dir}/ca.crt\", cert = \"x\", key = \"x\" }}\n");
    for (verb, settings) in [
        (
            "gateway",
            "gateway_id = \"g\"\nnodes = [\"127.0.0.1:1\"]\nlistener = [{ address = \"127.0.0.1:0\" }]\n",
        ),
        (
            "node",
            "node_id = 1\ndata_dir = \"data\"\nraft_listen = \"127.0.0.1:0\"\nlink_listen = \"127.0.0.1:0\"\n",
        ),
    ] {
        let file = home.path().join("settings.toml");
        std::fs::write(&file, format!("{settings}{tls}")).unwrap();
        let program = env!("CARGO_BIN_EXE_parlance");
        let script = format!(
            "ulimit -n 100 && exec {program} {verb} --config {}",
            file.display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(
            stderr(&output).contains("may have 100 open files"),
            "{}",
            stderr(&output)
        );
    }
}

//! The operator's commands against real processes: shapes that scripts rely on, exit codes, refusals by name.

use anyhow::{Context, Result, ensure};
use parlance_tests::cli::{Cli, DONE, FAILED, NOT_POSSIBLE, Said, Shell};
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::logs::Allowed;
use parlance_tests::story::tell;

const BAD_USAGE: Option<i32> = Some(64);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_runs_a_cluster_from_the_shell() -> Result<()> {
    tell(
        ClusterSpec {
            shards: 4,
            ..ClusterSpec::default()
        },
        Allowed::default(),
        async |cluster| {
            let shell = Shell::new(cluster)?;
            let status = shell.data(&["cluster", "status"]).await?;
            ensure!(
                status["nodes"]
                    .as_array()
                    .is_some_and(|nodes| nodes.len() == 3),
                "{status}"
            );
            ensure!(
                status["cluster_id"].is_string() && status["shard_count"] == 4,
                "{status}"
            );
            let (first, last) = (&status["shards"][0], &status["shards"][3]);
            ensure!(
                first["shard"] == 1 && first["first_slot"] == 0 && last["last_slot"] == 16_383,
                "{status}"
            );
            ensure!(status["feature_level"] == 1, "{status}");

            let app = shell
                .data(&["app", "create", "shop", "--name", "The shop"])
                .await?;
            ensure!(app["app_id"] == "shop", "{app}");
            let again = shell.run(&["app", "create", "shop"]).await?;
            ensure!(
                again.code == NOT_POSSIBLE && again.stdout.is_empty(),
                "{again:?}"
            );
            let apps = shell.data(&["app", "list"]).await?;
            ensure!(
                apps.to_string().contains("shop") && !apps.to_string().contains("secrets"),
                "{apps}"
            );

            let token = shell
                .data(&[
                    "token", "issue", "--app", "shop", "--user", "alice", "--ttl", "1h",
                ])
                .await?;
            ensure!(
                token["token"]
                    .as_str()
                    .is_some_and(|text| text.split('.').count() == 3),
                "{token}"
            );

            a_message_is_sent_and_read(&shell).await
        },
    )
    .await
}

/// Alice writes to bob, twice under one id, and bob reads it once.
async fn a_message_is_sent_and_read(shell: &Shell) -> Result<()> {
    let send = [
        "send", "--app", "shop", "--as", "alice", "--to", "bob", "--id", "m1", "hello",
    ];
    let sent = shell.data(&send).await?;
    ensure!(
        sent["seq"].to_string().trim_matches('"') == "1" && sent["duplicate"] == false,
        "{sent}"
    );
    let repeated = shell.data(&send).await?;
    ensure!(repeated["duplicate"] == true, "{repeated}");
    let history = shell
        .run_json(&["history", "--app", "shop", "--as", "bob", "--with", "alice"])
        .await?;
    ensure!(
        history.code == DONE && history.stdout.contains("hello"),
        "{history:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_end_with_their_exit_code_and_say_what_is_wrong() -> Result<()> {
    let home = tempfile::tempdir()?;
    let cli = Cli::new(home.path())?;
    let table: [(&[&str], Option<i32>, &str); 6] = [
        (&["--version"], DONE, ""),
        (&["completions", "bash"], DONE, ""),
        (&["no-such-command"], BAD_USAGE, "no-such-command"),
        (&["send", "--to", "bob", "hi"], BAD_USAGE, "--as"),
        (
            &["cluster", "init", "--node", "nonsense"],
            BAD_USAGE,
            "nonsense",
        ),
        (
            &["cluster", "status", "--context", "nowhere"],
            NOT_POSSIBLE,
            "nowhere",
        ),
    ];
    for (arguments, code, text) in table {
        let said = cli.run(arguments).await?;
        ensure!(
            said.code == code && said.stderr.contains(text),
            "{arguments:?}: {said:?}"
        );
        ensure!(
            code == DONE || said.stdout.is_empty(),
            "{arguments:?} talks on stdout: {said:?}"
        );
        ensure!(!said.stderr.contains("panicked"), "{arguments:?}: {said:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_settings_are_refused_by_name() -> Result<()> {
    let home = tempfile::tempdir()?;
    let cli = Cli::new(home.path())?;
    let cluster = Cluster::prepare(ClusterSpec::default())?;
    let good = |name: &str| std::fs::read_to_string(cluster.dir().join(name));
    let (node, gateway) = (good("node-1.toml")?, good("gateway-1.toml")?);
    let checked = check(&cli, "node", &node).await?;
    ensure!(checked.code == DONE, "good settings: {checked:?}");
    for (verb, settings, wrong) in [
        ("node", format!("surprise = 1\n{node}"), "surprise"),
        (
            "node",
            node.replace("node_id = 1", "node_id = 0"),
            "node_id",
        ),
        (
            "node",
            node.replace("node_id = 1", "node_id = \"one\""),
            "node_id",
        ),
        ("node", node.replace("node_id = 1", ""), "node_id"),
        (
            "node",
            format!("{node}\n[raft]\nsurprise = 1\n"),
            "surprise",
        ),
        ("node", "this is no TOML".to_owned(), "TOML"),
        ("gateway", format!("surprise = 1\n{gateway}"), "surprise"),
        (
            "gateway",
            gateway.replace("[limits]", "[limits]\nframe_bytes_max = \"big\""),
            "frame_bytes_max",
        ),
    ] {
        let said = check(&cli, verb, &settings).await?;
        ensure!(
            said.code != DONE && said.stderr.to_lowercase().contains(&wrong.to_lowercase()),
            "{wrong}: {said:?}"
        );
        ensure!(!said.stderr.contains("panicked"), "{wrong}: {said:?}");
    }
    let missing = cli.run(&["node", "--config", "nowhere.toml"]).await?;
    ensure!(
        missing.code != DONE && missing.stderr.contains("nowhere.toml"),
        "{missing:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_does_not_answer_is_a_failure_that_names_the_address() -> Result<()> {
    let cluster = Cluster::prepare(ClusterSpec {
        nodes: 1,
        gateways: 1,
        ..ClusterSpec::default()
    })?;
    let shell = Shell::new(&cluster)?;
    let said = shell.run(&["cluster", "status"]).await?;
    ensure!(
        said.code == FAILED && said.stderr.contains(&cluster.address.link(1).to_string()),
        "{said:?}"
    );
    Ok(())
}

async fn check(cli: &Cli, verb: &str, settings: &str) -> Result<Said> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), settings)?;
    let path = file.path().to_str().context("a path that is no UTF-8")?;
    cli.run(&[verb, "--config", path, "--check"]).await
}

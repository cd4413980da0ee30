//! What the settings promise: the environment wins, and every fault is told, by its name, at once.

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Demo {
    id: u64,
    #[serde(default = "listen")]
    listen: std::net::SocketAddr,
    #[serde(default)]
    seeds: Vec<String>,
    #[serde(default)]
    timing: Timing,
    #[serde(default)]
    tls: Option<Pair>,
}

fn listen() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 7000).into()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Timing {
    heartbeat_ms: u32,
    strict: bool,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_ms: 150,
            strict: false,
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    cert: String,
    key: String,
}

impl Settings for Demo {
    const NAME: &'static str = "demo";
    const REQUIRED: &'static [&'static str] = &["id"];

    fn placeholders() -> Value {
        serde_json::json!({ "id": 0 })
    }

    fn validate(&self) -> Result<(), Vec<String>> {
        if self.timing.heartbeat_ms < 10 {
            return Err(vec!["timing.heartbeat_ms: at least 10".to_owned()]);
        }
        Ok(())
    }
}

fn merged(file: &str, environment: &[(&str, &str)]) -> Result<Demo, Vec<String>> {
    merge(
        file,
        &environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    )
}

#[test]
fn the_environment_wins_over_the_file_and_that_over_the_defaults() {
    let file = "id = 1\nseeds = [\"a:1\"]\n[timing]\nheartbeat_ms = 200\n";
    let demo = merged(file, &[]).unwrap();
    assert_eq!(
        (demo.id, demo.timing.heartbeat_ms, demo.timing.strict),
        (1, 200, false)
    );
    let environment = [
        ("PARLANCE_DEMO__ID", "2"),
        ("PARLANCE_DEMO__TIMING__HEARTBEAT_MS", "300"),
        ("PARLANCE_DEMO__TIMING__STRICT", "true"),
        ("PARLANCE_DEMO__SEEDS", "b:1, c:2"),
        ("PARLANCE_DEMO__LISTEN", "[::1]:9"),
        ("PARLANCE_DEMO__TLS__CERT", "c.pem"),
        ("PARLANCE_DEMO__TLS__KEY", "k.pem"),
        ("PARLANCE_DEMOLITION", "not ours"),
    ];
    let demo = merged(file, &environment).unwrap();
    assert_eq!(
        (demo.id, demo.timing.heartbeat_ms, demo.timing.strict),
        (2, 300, true)
    );
    assert_eq!(demo.seeds, ["b:1", "c:2"]);
    assert_eq!(demo.listen.to_string(), "[::1]:9");
    assert_eq!(demo.tls.unwrap().key, "k.pem");
}

#[test]
fn every_fault_is_told_at_once_by_name() {
    let file = "listen = \"nowhere\"\nlisten_port = 1\n[timing]\nheartbeat_ms = 1\nbeat = 3\n[tls]\ncrt = \"x\"\n";
    let environment = [
        ("PARLANCE_DEMO__TIMING__STRICT", "maybe"),
        ("PARLANCE_DEMO__FOO__BAR", "1"),
    ];
    let faults = merged(file, &environment).unwrap_err();
    for start in [
        "PARLANCE_DEMO__TIMING__STRICT: ",
        "PARLANCE_DEMO__FOO__BAR: unknown setting",
        "id: required; set it in the file or as PARLANCE_DEMO__ID",
        "listen: invalid socket address",
        "listen_port: unknown setting; known settings: id, listen, seeds, timing, tls",
        "timing.beat: unknown setting; known settings: heartbeat_ms, strict",
        "timing.heartbeat_ms: at least 10",
        "tls: unknown field `crt`",
    ] {
        assert!(
            faults.iter().any(|f| f.starts_with(start)),
            "{start:?} in {faults:#?}"
        );
    }
    assert_eq!(faults.len(), 8, "{faults:#?}");
    assert!(
        merged("id = ", &[])
            .unwrap_err()
            .first()
            .unwrap()
            .starts_with("not valid TOML")
    );
}

#[test]
fn what_is_in_effect_reads_back_the_same() {
    let demo = merged("id = 1", &[]).unwrap();
    let toml = effective_toml(&demo).unwrap();
    assert_eq!(merged(&toml, &[]).unwrap(), demo);
}

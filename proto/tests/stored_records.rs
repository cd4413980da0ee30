//! The bytes of every stored record, compared with a checked-in file: what one version writes, all later ones read.
//!
//! Every field is set, and named: a new field or message does not pass unseen.

use std::collections::HashSet;
use std::path::Path;

use parlance_proto::common::v1::{AppLimits, TokenFormat, TokenPolicy};
use parlance_proto::store::v1::*;
use prost::Message;

const PROTOS: [&str; 3] = [
    include_str!("../parlance/store/v1/meta.proto"),
    include_str!("../parlance/store/v1/raft.proto"),
    include_str!("../parlance/store/v1/shard.proto"),
];

#[test]
fn records_have_the_bytes_that_they_always_had() {
    let written: String = records()
        .iter()
        .map(|(name, bytes)| format!("{name}: {}\n", hex::encode(bytes)))
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stored_records.txt");
    if std::env::var_os("PARLANCE_BLESS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    assert_eq!(
        written,
        std::fs::read_to_string(&path).unwrap(),
        "a stored record has other bytes. Data directories of a released version have the old ones: add fields and \
         records, change none. What is not released yet is written down anew by running this test with PARLANCE_BLESS=1"
    );
}

#[test]
fn no_record_is_left_out() {
    let (mut declared, mut parts) = (Vec::new(), HashSet::new());
    for line in PROTOS.iter().flat_map(|proto| proto.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        let mut words = code.split_whitespace().peekable();
        if words.next_if_eq(&"message").is_some() {
            declared.extend(words.next());
        }
        parts.extend(words);
    }
    let records = records();
    let written: HashSet<&str> = records
        .iter()
        .filter_map(|(name, _)| name.split(' ').next())
        .collect();
    assert!(!declared.is_empty());
    for name in declared {
        assert!(
            parts.contains(name) || written.contains(name),
            "{name} has no line"
        );
    }
}

fn records() -> Vec<(String, Vec<u8>)> {
    let mut records = vec![
        ("StoredEvent".to_owned(), stored_event().encode_to_vec()),
        ("ConversationHead".to_owned(), head().encode_to_vec()),
        ("Member".to_owned(), member().encode_to_vec()),
        (
            "UserConversation".to_owned(),
            user_conversation().encode_to_vec(),
        ),
        ("UserList".to_owned(), user_list().encode_to_vec()),
        ("DedupRecord".to_owned(), dedup().encode_to_vec()),
        ("OutboxBatch".to_owned(), outbox().encode_to_vec()),
        ("ShardState".to_owned(), shard_state().encode_to_vec()),
        ("ShardBatch".to_owned(), shard_batch().encode_to_vec()),
        ("Vote".to_owned(), vote().encode_to_vec()),
        (
            "LogMark".to_owned(),
            LogMark {
                id: Some(log_id(1)),
            }
            .encode_to_vec(),
        ),
        ("AppliedState".to_owned(), applied().encode_to_vec()),
        ("SnapshotInstall".to_owned(), install().encode_to_vec()),
        ("Identity".to_owned(), identity().encode_to_vec()),
        ("ClusterMap".to_owned(), cluster_map().encode_to_vec()),
        ("App".to_owned(), app().encode_to_vec()),
        ("Kick".to_owned(), kick().encode_to_vec()),
    ];
    for (name, payload) in log_payloads() {
        let entry = LogEntry {
            id: Some(log_id(4)),
            payload: Some(payload),
        };
        records.push((format!("LogEntry {name}"), entry.encode_to_vec()));
    }
    for (name, body) in meta_commands() {
        let command = MetaCommand {
            time_ms: 1_700_000_000_000,
            body: Some(body),
            level: 2,
        };
        records.push((format!("MetaCommand {name}"), command.encode_to_vec()));
    }
    for (name, result) in meta_outcomes() {
        let outcome = MetaOutcome {
            result: Some(result),
        };
        records.push((format!("MetaOutcome {name}"), outcome.encode_to_vec()));
    }
    records
}

fn stored_event() -> StoredEvent {
    StoredEvent {
        time_ms: 1_700_000_000_000,
        sender: "ann".into(),
        message_ordinal: 3,
        sender_ordinal: 2,
        body: vec![1, 2, 3].into(),
    }
}

fn head() -> ConversationHead {
    ConversationHead {
        head_seq: 7,
        message_ordinal: 6,
        created_ms: 1_700_000_000_000,
    }
}

fn user_conversation() -> UserConversation {
    UserConversation {
        added_ms: 1,
        generation: 2,
    }
}

fn user_list() -> UserList {
    UserList {
        began_ms: 1,
        generation: 2,
    }
}

fn member() -> Member {
    Member {
        read_seq: 7,
        read_ordinal: 6,
        sent: 5,
    }
}

fn dedup() -> DedupRecord {
    DedupRecord {
        seq: 7,
        time_ms: 1_700_000_000_000,
        payload_digest: 0x0102_0304_0506_0708,
    }
}

fn outbox() -> OutboxBatch {
    let item = |body| OutboxItem {
        app_id: "demo".into(),
        conversation_id: "d:3:ann:bob".into(),
        body: Some(body),
    };
    OutboxBatch {
        items: vec![
            item(outbox_item::Body::EventSeq(7)),
            item(outbox_item::Body::Frame(vec![1, 2].into())),
        ],
    }
}

fn watermark() -> Watermark {
    Watermark {
        consumer: Consumer::Relay.into(),
        number: 9,
    }
}

fn split() -> SplitCommand {
    SplitCommand {
        child: 3,
        first_slot: 4096,
        epoch: 2,
        last_slot: 8191,
    }
}

fn shard_state() -> ShardState {
    ShardState {
        time_ms: 1_700_000_000_000,
        outbox_last: 9,
        watermarks: vec![watermark()],
        dedup_ms: 86_400_123,
        first_slot: 1,
        last_slot: 4095,
        epoch: 2,
        splits: vec![split()],
    }
}

fn shard_batch() -> ShardBatch {
    let (app_id, conversation_id) = ("demo".to_owned(), "d:3:ann:bob".to_owned());
    let bodies = [
        command::Body::Send(SendCommand {
            app_id: app_id.clone(),
            conversation_id: conversation_id.clone(),
            sender: "ann".into(),
            session_id: "s1".into(),
            messages: vec![NewMessage {
                client_message_id: "m1".into(),
                body: vec![1, 2, 3].into(),
            }],
        }),
        command::Body::MarkRead(MarkReadCommand {
            app_id: app_id.clone(),
            conversation_id: conversation_id.clone(),
            user_id: "bob".into(),
            seq: 7,
        }),
        command::Body::TouchConversation(TouchConversationCommand {
            app_id: app_id.clone(),
            user_id: "bob".into(),
            conversation_id,
        }),
        command::Body::CloseGeneration(CloseGenerationCommand {
            app_id,
            user_id: "bob".into(),
            generation: 3,
        }),
        command::Body::Split(split()),
        command::Body::Found(FoundCommand {
            first_slot: 1,
            last_slot: 16_383,
        }),
        command::Body::Test(TestCommand {}),
    ];
    ShardBatch {
        time_ms: 1_700_000_000_000,
        commands: bodies.map(|body| Command { body: Some(body) }).to_vec(),
        watermarks: vec![watermark()],
        level: 2,
        elapsed_ms: 1_500,
    }
}

fn log_id(index: u64) -> LogId {
    LogId { term: 2, index }
}

fn vote() -> Vote {
    Vote {
        term: 2,
        node_id: 3,
        committed: true,
    }
}

fn membership() -> Membership {
    let set = |node_ids: &[u64]| NodeSet {
        node_ids: node_ids.to_vec(),
    };
    Membership {
        configs: vec![set(&[1, 2, 3]), set(&[2, 3, 4])],
        nodes: vec![1, 2, 3, 4],
    }
}

fn log_payloads() -> [(&'static str, log_entry::Payload); 3] {
    [
        ("blank", log_entry::Payload::Blank(true)),
        ("normal", log_entry::Payload::Normal(vec![1, 2, 3].into())),
        ("membership", log_entry::Payload::Membership(membership())),
    ]
}

fn applied() -> AppliedState {
    AppliedState {
        applied: Some(log_id(4)),
        membership_log_id: Some(log_id(1)),
        membership: Some(membership()),
    }
}

fn install() -> SnapshotInstall {
    SnapshotInstall {
        folder: "1-4".into(),
        replaced: vec![RowRange {
            table: "events".into(),
            from: vec![0, 1].into(),
            to: vec![0, 2].into(),
        }],
        files: vec![SnapshotFile {
            table: "events".into(),
            name: "events-0".into(),
            size_bytes: 4096,
            crc32c: 0x0102_0304,
        }],
    }
}

fn identity() -> Identity {
    Identity {
        cluster_id: "c1".into(),
        node_id: 3,
        store_id: "s1".into(),
        format: 1,
    }
}

fn map_node() -> MapNode {
    MapNode {
        node_id: 3,
        raft_address: "10.0.0.3:7200".into(),
        link_address: "10.0.0.3:7100".into(),
        store_id: "s1".into(),
        state: NodeState::Member.into(),
        replaced_by: 4,
    }
}

fn cluster_map() -> ClusterMap {
    ClusterMap {
        cluster_id: "c1".into(),
        version: 5,
        feature_level: 2,
        nodes: vec![map_node()],
        shards: vec![MapShard {
            shard: 3,
            replicas: vec![3, 1, 2],
            founder: 3,
            first_slot: 4096,
            last_slot: 8191,
            epoch: 2,
            parent: 1,
            pending: true,
        }],
        meta_replicas: vec![1, 2, 3],
        denied_certificates: vec![denied_certificate()],
        lease_ms: 600,
    }
}

fn denied_certificate() -> DeniedCertificate {
    DeniedCertificate {
        serial: vec![1, 2, 3].into(),
        reason: "stolen".into(),
        denied_ms: 1_700_000_000_000,
    }
}

fn app() -> App {
    App {
        app_id: "demo".into(),
        name: "Demo".into(),
        secrets: vec![AppSecret {
            secret_id: "k1".into(),
            secret: "psk_7".into(),
            created_ms: 1_700_000_000_000,
            format: TokenFormat::Usersig.into(),
        }],
        disabled: true,
        created_ms: 1_700_000_000_000,
        token_life_max_ms: 3_600_000,
        limits: Some(app_limits()),
        aliases: vec!["1400000000".into()],
        token_policy: Some(TokenPolicy {
            token04_gcm_only: true,
            alivc_nonce_prefix: true,
        }),
        token_life_ever_ms: 7_200_000,
    }
}

fn app_limits() -> AppLimits {
    AppLimits {
        session_messages_per_second: 10,
        user_messages_per_second: 20,
        app_messages_per_second: 10_000,
    }
}

fn kick() -> Kick {
    Kick {
        app_id: "demo".into(),
        user_id: "ann".into(),
        kicked_ms: 1_700_000_000_000,
        until_ms: 1_700_000_600_000,
        reason: "spam".into(),
    }
}

fn change_app(change: app_change::Change) -> meta_command::Body {
    meta_command::Body::ChangeApp(ChangeApp {
        app_id: "demo".into(),
        changes: vec![AppChange {
            change: Some(change),
        }],
    })
}

#[allow(clippy::too_many_lines, reason = "one of each")]
fn meta_commands() -> [(&'static str, meta_command::Body); 19] {
    use app_change::Change;
    use meta_command::Body;
    let secret = app().secrets.remove(0);
    [
        (
            "init_cluster",
            Body::InitCluster(InitCluster {
                map: Some(cluster_map()),
            }),
        ),
        (
            "create_app",
            Body::CreateApp(CreateApp { app: Some(app()) }),
        ),
        (
            "add_node",
            Body::AddNode(AddNode {
                node: Some(map_node()),
            }),
        ),
        (
            "replace_node",
            Body::ReplaceNode(ReplaceNode {
                old_node_id: 2,
                new_node_id: 4,
                map_version: 5,
            }),
        ),
        (
            "begin_split",
            Body::BeginSplit(BeginSplit {
                parent: 1,
                first_slot: 4096,
            }),
        ),
        (
            "finish_split",
            Body::FinishSplit(FinishSplit {
                parent: 1,
                child: 3,
                epoch: 2,
            }),
        ),
        (
            "raise_feature_level",
            Body::RaiseFeatureLevel(RaiseFeatureLevel { level: 2 }),
        ),
        (
            "change_app add_secret",
            change_app(Change::AddSecret(secret)),
        ),
        (
            "change_app retire_secret",
            change_app(Change::RetireSecret("k1".into())),
        ),
        ("change_app disabled", change_app(Change::Disabled(true))),
        (
            "change_app token_life_max_ms",
            change_app(Change::TokenLifeMaxMs(3_600_000)),
        ),
        (
            "change_app add_alias",
            change_app(Change::AddAlias("1400000000".into())),
        ),
        (
            "change_app remove_alias",
            change_app(Change::RemoveAlias("1400000000".into())),
        ),
        (
            "change_app token04_gcm_only",
            change_app(Change::Token04GcmOnly(true)),
        ),
        (
            "change_app alivc_nonce_prefix",
            change_app(Change::AlivcNoncePrefix(true)),
        ),
        (
            "kick_user",
            Body::KickUser(KickUser {
                kick: Some(kick()),
                keeps_until: true,
            }),
        ),
        (
            "set_app_limits",
            Body::SetAppLimits(SetAppLimits {
                app_id: "demo".into(),
                limits: Some(app_limits()),
            }),
        ),
        (
            "deny_certificate",
            Body::DenyCertificate(DenyCertificate {
                certificate: Some(denied_certificate()),
            }),
        ),
        (
            "allow_certificate",
            Body::AllowCertificate(AllowCertificate {
                serial: vec![1, 2, 3].into(),
            }),
        ),
    ]
}

fn meta_outcomes() -> [(&'static str, meta_outcome::Result); 2] {
    [
        ("map_version", meta_outcome::Result::MapVersion(5)),
        (
            "refusal",
            meta_outcome::Result::Refusal(MetaRefusal {
                reason: meta_refusal::Reason::NotFound.into(),
                message: "no".into(),
            }),
        ),
    ]
}

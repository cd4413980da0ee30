//! A shard with a replica of its own: what commands and reads come to.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};

use parlance_proto::client::v1::Direction;
use parlance_proto::common::v1::ErrorCode;
use parlance_proto::ids::{AppId, ConversationId, NodeId, UserId};
use parlance_proto::slot::Slot;
use parlance_proto::store::v1::{Consumer, SendCommand, TouchConversationCommand, command::Body};
use parlance_proto::tls::Role;
use tokio::time::Instant;

use super::*;
use crate::apply::tests::fixture::{CHAT, message, stored};
use crate::apply::{Levels, ShardMachine, dedup::Dedup, shard_state, watermark};
use crate::clock::{Environment, SystemEnvironment};
use crate::link::Turn;
use crate::machine::{CommandOutcome, MessageOutcome};
use crate::raft::tests::fixture::{
    Authority, InviteHandler, Nodes, ONE, config, empty_append, eventually,
};
use crate::raft::{QuicConfig, QuicLink, RaftHost, RaftHostConfig};
use crate::store::faulty::FaultyStore;
use crate::store::manifest::Existing;
use crate::totals::Total;

const NODE: NodeId = NodeId(1);

/// One node that leads one shard, which owns nothing yet.
pub(crate) struct Lone {
    _dir: tempfile::TempDir,
    host: RaftHost,
    link: QuicLink,
    pub(crate) shard: Arc<Shard>,
    pub(crate) store: Arc<FaultyStore>,
    /// What waits for entries, in bytes.
    pub(crate) queues: Arc<Total>,
}

impl Lone {
    async fn start(limits: ProposerLimits) -> Self {
        Self::with_clock(limits, Arc::new(SystemEnvironment)).await
    }

    async fn with_clock(limits: ProposerLimits, clock: Arc<dyn Environment>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let quic = QuicConfig::new(NODE, ([127, 0, 0, 1], 0).into(), config());
        let tls = Authority::new(dir.path()).identity(Role::Node(NODE.0));
        let link = QuicLink::start(
            &quic,
            &tls,
            Arc::new(Nodes::default()),
            Arc::new(InviteHandler),
        );
        let link = link.unwrap();
        let state = dir.path().join("state");
        let store = Arc::new(FaultyStore::open(&state));
        let config = RaftHostConfig {
            node_id: NODE,
            data_dir: dir.path().to_owned(),
            raft: config(),
            recover_torn_log: false,
            existing: Existing::No,
        };
        let host = RaftHost::open(config, store.clone(), Arc::new(link.clone()));
        let host = host.await.unwrap();
        let totals = Totals::default();
        let parts = ShardParts::new(Arc::default(), &totals);
        let (sink, levels) = (parts.sink(), Levels::new(1..=1));
        let machine = ShardMachine::open(ONE, store.clone(), sink, Dedup::On, levels, &totals.tips);
        let raft = host.start_replica(ONE, Box::new(machine.unwrap())).await;
        let raft = raft.unwrap();
        raft.initialize(BTreeSet::from([NODE])).await.unwrap();
        eventually("it leads", || {
            raft.leadership().borrow().leading.then_some(())
        })
        .await;
        let marks = parts.marks().clone();
        let proposer = Proposer::start(
            raft.clone(),
            limits,
            marks,
            Arc::new(|| 1),
            clock,
            totals.queues.clone(),
        );
        Self {
            _dir: dir,
            host,
            link,
            shard: Arc::new(Shard::new(raft, proposer, parts, store.clone())),
            store,
            queues: totals.queues,
        }
    }

    /// Of a shard that owns every slot.
    pub(crate) async fn founded(limits: ProposerLimits) -> Self {
        let lone = Self::start(limits).await;
        lone.shard.found(SlotRange::ALL).await.unwrap();
        lone
    }

    pub(crate) async fn stop(self) {
        self.link.shutdown().await;
        self.host.shutdown().await;
    }
}

pub(crate) fn say(ids: &[&str]) -> SendCommand {
    SendCommand {
        app_id: "demo".into(),
        conversation_id: CHAT.into(),
        sender: "alice".into(),
        session_id: String::new(),
        messages: ids.iter().map(|id| message(id, "x")).collect(),
    }
}

async fn history_of(shard: &Arc<Shard>) -> Result<u64, ShardError> {
    let page = HistoryPage {
        start_seq: 0,
        limit: 1,
        direction: Direction::Backward,
        max_bytes: 0,
    };
    let (app, conversation) = (AppId::new("demo").unwrap(), ConversationId::parse(CHAT));
    let (user, shard) = (UserId::new("bob").unwrap(), shard.clone());
    let history = shard
        .history(Turn::alone(), app, conversation.unwrap(), user, page)
        .await?;
    Ok(history.head_seq)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_answered_and_read_at_once_from_when_the_shard_owns_slots() {
    let lone = Lone::start(ProposerLimits::default()).await;
    let shard = &lone.shard;
    let early = shard.run(say(&["a1"])).await;
    assert!(
        matches!(early, Err(ShardError::NotLeader(None))),
        "{early:?}"
    );
    let early = history_of(shard).await;
    assert!(
        matches!(early, Err(ShardError::NotLeader(None))),
        "{early:?}"
    );
    shard.found(SlotRange::ALL).await.unwrap();
    for seq in 1..=3u64 {
        let id = format!("m{seq}");
        let outcomes = shard.run(say(&[&id])).await.unwrap();
        let MessageOutcome::Stored { time_ms, .. } = outcomes[0] else {
            panic!("{outcomes:?}")
        };
        assert_eq!(outcomes, [stored(seq, time_ms, false)]);
        assert_eq!(history_of(shard).await.unwrap(), seq);
        assert_eq!(
            shard.run(say(&[&id])).await.unwrap(),
            [stored(seq, time_ms, true)]
        );
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_split_commands_and_reads_hear_who_owns_the_slot() {
    let lone = Lone::founded(ProposerLimits::default()).await;
    let shard = &lone.shard;
    shard.run(say(&["a1"])).await.unwrap();
    let conversation = ConversationId::parse(CHAT).unwrap();
    let slot = Slot::of_conversation(&AppId::new("demo").unwrap(), &conversation);
    let split = SplitCommand {
        child: 7,
        first_slot: slot.number().into(),
        last_slot: 16_383,
        epoch: 2,
    };
    shard.split(split).await.unwrap();
    shard.split(split).await.unwrap();
    for refused in [
        shard.run(say(&["a2"])).await.map(drop),
        history_of(shard).await.map(drop),
    ] {
        let Err(ShardError::Moved(range)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((range.epoch, &range.splits[..]), (2, &[split][..]));
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_the_queue_is_refused_at_once_and_leaves_its_room() {
    let limits = ProposerLimits {
        queue_commands_max: 3,
        ..ProposerLimits::default()
    };
    let lone = Lone::founded(limits).await;
    for _ in 0..3 {
        let refused = lone.shard.run(say(&["1", "2", "3", "4"])).await;
        assert!(
            matches!(refused, Err(ShardError::Overloaded { .. })),
            "{refused:?}"
        );
    }
    let outcomes = lone.shard.run(say(&["1", "2", "3"])).await.unwrap();
    assert_eq!(outcomes.len(), 3);
    lone.stop().await;
}

/// A command that a later feature level brings.
struct Later;

impl ShardCommand for Later {
    type Outcome = ();

    fn level(&self) -> u32 {
        2
    }

    fn into_body(self) -> Body {
        Body::Test(parlance_proto::store::v1::TestCommand {})
    }

    fn outcome(_: CommandOutcome) -> Option<()> {
        Some(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_above_the_clusters_level_is_not_proposed() {
    let lone = Lone::founded(ProposerLimits::default()).await;
    let refused = lone.shard.run(Later).await;
    let Err(ShardError::Refused(error)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(error.code(), ErrorCode::Unsupported);
    lone.shard.run(say(&["a1"])).await.unwrap();
    lone.stop().await;
}

/// A wall clock that goes back a year at each look.
struct Backwards(AtomicI64);

impl Environment for Backwards {
    fn now_ms(&self) -> i64 {
        self.0.fetch_sub(366 * 86_400_000, Ordering::Relaxed)
    }

    fn random(&self) -> [u8; 32] {
        [0; 32]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shards_own_clock_goes_on_by_what_its_leader_measured_whatever_the_wall_clock_says() {
    let started = Instant::now();
    let clock = Arc::new(Backwards(AtomicI64::new(i64::MAX / 2)));
    let lone = Lone::with_clock(ProposerLimits::default(), clock).await;
    let shard = &lone.shard;
    let clock_ms = || shard_state(&**shard.store(), ONE).unwrap().dedup_ms;
    shard.found(SlotRange::ALL).await.unwrap();
    assert_eq!(
        clock_ms(),
        0,
        "nobody knows what was before the first batch"
    );
    let founded = Instant::now();
    eventually("some time has passed", || {
        (founded.elapsed().as_millis() > 20).then_some(())
    })
    .await;
    shard.run(say(&["a1"])).await.unwrap();
    let passed = u64::try_from(started.elapsed().as_millis()).unwrap();
    assert!((20..=passed).contains(&clock_ms()), "{}", clock_ms());
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_a_consumer_is_rides_on_the_next_entry() {
    let lone = Lone::founded(ProposerLimits::default()).await;
    let shard = &lone.shard;
    shard.run(say(&["a1", "a2", "a3"])).await.unwrap();
    shard.marks().set(Consumer::Relay, 2);
    shard.run(say(&["a4"])).await.unwrap();
    let state = shard_state(&**shard.store(), ONE).unwrap();
    assert_eq!(
        (state.outbox_last, watermark(&state, Consumer::Relay)),
        (4, 2)
    );
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_who_lost_its_leadership_meanwhile_is_not_told() {
    let lone = Lone::founded(ProposerLimits::default()).await;
    let touch = TouchConversationCommand {
        app_id: "demo".into(),
        user_id: "alice".into(),
        conversation_id: CHAT.into(),
    };
    lone.shard.run(touch).await.unwrap();
    let list = || {
        let page = ListPage {
            limit: 10,
            since: Some(String::new()),
            ..ListPage::default()
        };
        let (app, user) = (AppId::new("demo").unwrap(), UserId::new("alice").unwrap());
        lone.shard
            .clone()
            .list_conversations(Turn::alone(), app, user, page)
    };
    assert!(!list().await.unwrap().cursor.is_empty());

    let (shard, host) = (lone.shard.clone(), lone.host.clone());
    let runtime = tokio::runtime::Handle::current();
    let another_leads = move || {
        runtime.block_on(async {
            let (term, other) = (shard.raft().term() + 1, NodeId(2));
            let append = empty_append(term, other);
            host.inbound().handle(other, ONE, append).await;
            eventually("it leads no more", || (!shard.is_led_here()).then_some(())).await;
        });
    };
    // The first scan looks whether a generation has to be closed, the second one is that of the page.
    let store = lone.store.clone();
    *lone.store.after_scan.lock() = Some(Box::new(move || {
        *store.after_scan.lock() = Some(Box::new(another_leads));
    }));
    let listed = list().await;
    assert!(
        matches!(listed, Err(ShardError::NotLeader(_))),
        "{listed:?}"
    );
    lone.stop().await;
}

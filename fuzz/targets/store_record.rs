//! What is on disk and in the Raft log: a damaged disk may hold anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlance_proto::store::v1::{
    AppliedState, ClusterMap, ConversationHead, DedupRecord, Identity, LogEntry, Member,
    Membership, MetaCommand, OutboxBatch, ShardBatch, ShardState, SnapshotInstall, StoredEvent,
    UserConversation, UserList, Vote, Watermark,
};
use prost::Message;

/// What decodes must encode to something that decodes to the same.
fn round_trip<M: Message + Default + PartialEq + std::fmt::Debug>(data: &[u8]) {
    if let Ok(message) = M::decode(data) {
        assert_eq!(
            M::decode(message.encode_to_vec().as_slice()).ok(),
            Some(message)
        );
    }
}

fuzz_target!(|data: &[u8]| {
    round_trip::<LogEntry>(data);
    round_trip::<Vote>(data);
    round_trip::<ShardBatch>(data);
    round_trip::<MetaCommand>(data);
    round_trip::<ClusterMap>(data);
    round_trip::<AppliedState>(data);
    round_trip::<SnapshotInstall>(data);
    round_trip::<Identity>(data);
    round_trip::<StoredEvent>(data);
    round_trip::<ConversationHead>(data);
    round_trip::<DedupRecord>(data);
    round_trip::<OutboxBatch>(data);
    round_trip::<Watermark>(data);
    round_trip::<Member>(data);
    round_trip::<UserConversation>(data);
    round_trip::<UserList>(data);
    round_trip::<Membership>(data);
    round_trip::<ShardState>(data);
});

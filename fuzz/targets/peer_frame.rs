//! What nodes say to each other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlance_proto::raft::v1::{PeerFrame, SnapshotChunk, SnapshotHeader, StreamHello};
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
    round_trip::<PeerFrame>(data);
    round_trip::<StreamHello>(data);
    round_trip::<SnapshotHeader>(data);
    round_trip::<SnapshotChunk>(data);
});

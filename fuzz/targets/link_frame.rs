//! Both ends of a link.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlance_proto::link::v1::{ClusterState, GatewayFrame, NodeFrame, Publish};
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
    round_trip::<GatewayFrame>(data);
    round_trip::<NodeFrame>(data);
    round_trip::<ClusterState>(data);
    round_trip::<Publish>(data);
});

//! Both ends of a link, and what nodes tell of the cluster.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlance_proto::link::v1::{ClusterUpdate, GatewayFrame, NodeFrame, Publish, Request};
use parlance_proto::slot::SlotRange;
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
    round_trip::<Request>(data);
    round_trip::<NodeFrame>(data);
    round_trip::<ClusterUpdate>(data);
    if let Ok(update) = ClusterUpdate::decode(data) {
        for route in update.shards {
            if let Some(range) = SlotRange::new(route.first_slot, route.last_slot) {
                assert!(range.contains(range.first()) && range.contains(range.last()));
            }
        }
    }
    round_trip::<Publish>(data);
});

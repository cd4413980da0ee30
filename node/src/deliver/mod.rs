//! Committed effects on their way to gateways.
//!
//! The conversation's shard: `outbox_reader.rs` takes effects from the feed or the outbox, `relay_sender.rs` carries each to
//! the home shards of the audience, `parked.rs` keeps what a home does not take, `under_way.rs` moves the watermark. The user's home shard: `relay_receiver.rs` takes
//! them (`relayed.rs`), marks their conversations in the users' lists (`list_entries.rs`) and pushes them to the links that want them. A relay is done when every gateway with sessions of the user has
//! acknowledged it, so the loss of either leader loses nothing: whoever leads next relays again from the watermark.

mod budget;
mod list_entries;
mod outbox_reader;
mod parked;
mod relay_receiver;
mod relay_sender;
mod relayed;
mod under_way;

pub use outbox_reader::deliver_while_leading;
pub use relay_receiver::RelayReceiver;
pub use relay_sender::RelaySender;

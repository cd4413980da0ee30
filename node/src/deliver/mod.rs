//! Committed effects on their way to gateways.
//!
//! The conversation's shard: `feed.rs` takes effects from apply, `relay.rs` sends each to the home shards of the
//! members and moves the watermark. The user's home shard: `home.rs` takes them, `topics.rs` knows which links want
//! them. A relay is done when every gateway with sessions of the user has acknowledged it, so the loss of either
//! leader loses nothing: whoever leads next relays again from the watermark.

mod feed;
mod home;
mod relay;
mod relayer;
mod topics;
mod watermark;

pub use feed::OutboxFeed;
pub use home::Home;
pub use relay::relay_while_leading;
pub use relayer::Relayer;
pub use topics::Topics;

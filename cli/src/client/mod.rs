//! A client of the gateway's WebSocket protocol: one connection, requests matched to answers, pushes as a stream.
//!
//! It promises nothing beyond the connection: no reconnect, no retry, no order across connections (the SDK does
//! that). It is cheap: one task and a few KiB for each connection, and requests may overlap without a task each.
//!
//! ```no_run
//! # async fn example(token: &str) -> Result<(), parlance::client::ClientError> {
//! let (client, mut pushes) = parlance::client::connect("ws://127.0.0.1:7070/ws", Default::default()).await?;
//! client.login(token).await?;
//! let sent = client.send_text("bob", "m-1", "hello").await?;
//! println!("stored as {} of {}", sent.seq, sent.conversation_id);
//! while let Some(push) = pushes.recv().await {
//!     println!("{push:?}");
//! }
//! # Ok(())
//! # }
//! ```

mod codec;
mod connection;
mod error;
mod options;
mod push;
mod requests;
mod socket;
mod task;

pub use codec::WireFormat;
pub use connection::{Answer, Client, connect};
pub use error::{ClientError, Closed};
pub use options::Options;
pub use push::{Push, PushStream};
pub use requests::{PendingSend, text_to};

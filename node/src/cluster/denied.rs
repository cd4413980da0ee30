//! Certificates that the cluster denies: nobody who has one is let in, and who was in is cut off.

use std::sync::Arc;

use super::context::NodeContext;

/// Follows the cluster map until the node is gone.
pub(super) fn follow(context: &Arc<NodeContext>) {
    let (tls, quic) = (context.tls.clone(), context.quic.clone());
    let (connections, mut meta) = (context.connections().clone(), context.meta());
    tokio::spawn(async move {
        loop {
            let denied = meta.borrow_and_update().denied();
            if tls.deny(denied) {
                connections.cut(tls.denied());
                quic.cut_denied();
            }
            if meta.changed().await.is_err() {
                return;
            }
        }
    });
}

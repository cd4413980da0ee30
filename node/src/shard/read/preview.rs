//! What a conversation list shows of a last event, which may be large.

use parlance_proto::client::v1::{Event, content, event};
use parlance_proto::limits::PREVIEW_BYTES_MAX;

/// Leaves of an event's content what a list can show; true if that is not all of it.
pub fn cut(event: &mut Event) -> bool {
    let Some(event::Body::Message(message)) = &mut event.body else {
        return false;
    };
    match message.content.as_mut().and_then(|c| c.kind.as_mut()) {
        Some(content::Kind::Text(text)) if text.len() > PREVIEW_BYTES_MAX => {
            let starts = text.char_indices().map(|(at, _)| at);
            let end = starts.take_while(|at| *at <= PREVIEW_BYTES_MAX).last();
            text.truncate(end.unwrap_or(0));
            text.shrink_to_fit();
            true
        }
        Some(content::Kind::Custom(custom)) if custom.data.len() > PREVIEW_BYTES_MAX => {
            custom.data.clear();
            true
        }
        _ => false,
    }
}

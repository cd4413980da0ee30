//! Events as the commands print them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parlance_proto::client::v1::{Event, content, event};
use serde::Serialize;

use crate::output::time_text;

/// An event as JSON. Either `text`, or `custom_type` and `custom_base64`.
#[derive(Debug, Serialize)]
pub(super) struct EventView {
    pub conversation_id: String,
    pub seq: u64,
    pub time_ms: i64,
    pub sender: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_type: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_base64: Option<String>,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        let mut view = Self {
            conversation_id: event.conversation_id,
            seq: event.seq,
            time_ms: event.time_ms,
            sender: event.sender,
            client_message_id: None,
            text: None,
            custom_type: None,
            custom_base64: None,
        };
        if let Some(event::Body::Message(message)) = event.body {
            view.client_message_id = Some(message.client_message_id);
            match message.content.and_then(|c| c.kind) {
                Some(content::Kind::Text(text)) => view.text = Some(text),
                Some(content::Kind::Custom(custom)) => {
                    view.custom_type = Some(custom.r#type);
                    view.custom_base64 = Some(STANDARD.encode(&custom.data));
                }
                None => {}
            }
        }
        view
    }
}

impl EventView {
    /// One line for people; what could move a terminal's cursor is shown escaped.
    pub(super) fn line(&self) -> String {
        let body = match (&self.text, self.custom_type) {
            (Some(text), _) => escape(text),
            (None, Some(kind)) => format!("[custom content of type {kind}]"),
            (None, None) => "[event of an unknown kind]".to_owned(),
        };
        format!(
            "{}  {:>6}  {}: {}",
            time_text(self.time_ms),
            self.seq,
            escape(&self.sender),
            body
        )
    }
}

fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_proto::client::v1::{Content, CustomContent, Message};

    fn event(kind: content::Kind) -> Event {
        let content = Some(Content { kind: Some(kind) });
        Event {
            conversation_id: "d:5:alice:bob".into(),
            seq: 3,
            time_ms: 0,
            sender: "alice".into(),
            body: Some(event::Body::Message(Message {
                client_message_id: "m".into(),
                content,
            })),
        }
    }

    #[test]
    fn json_has_stable_names() {
        let view = EventView::from(event(content::Kind::Text("hi".into())));
        let json = serde_json::to_string(&view).unwrap();
        assert_eq!(
            json,
            r#"{"conversation_id":"d:5:alice:bob","seq":3,"time_ms":0,"sender":"alice","client_message_id":"m","text":"hi"}"#
        );
        let custom = CustomContent {
            r#type: 9,
            data: vec![0, 255].into(),
        };
        let view = EventView::from(event(content::Kind::Custom(custom)));
        assert_eq!(
            (view.custom_type, view.custom_base64.as_deref()),
            (Some(9), Some("AP8="))
        );
    }

    #[test]
    fn a_message_cannot_drive_the_terminal() {
        let line = EventView::from(event(content::Kind::Text("a\u{1b}[2Jb\nc".into()))).line();
        assert!(!line.contains('\u{1b}') && !line.contains('\n'), "{line:?}");
    }
}

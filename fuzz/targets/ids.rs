//! Conversation ids: only the canonical form is taken, and two users have one conversation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlance_proto::ids::{
    DirectConversation, check_app_id, check_client_message_id, check_user_id,
};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Their answers do not matter here, only that there is one.
    let _ = (check_app_id(text), check_client_message_id(text));
    if let Ok(conversation) = DirectConversation::parse(text) {
        assert_eq!(conversation.to_string(), text);
        assert!(conversation.first() < conversation.second());
    }
    if let Some((a, b)) = text.split_once('\n')
        && let Ok(conversation) = DirectConversation::between(a, b)
    {
        assert!(check_user_id(a).is_ok() && check_user_id(b).is_ok());
        assert_eq!(
            DirectConversation::between(b, a).ok().as_ref(),
            Some(&conversation)
        );
        assert_eq!(
            DirectConversation::parse(&conversation.to_string()).ok(),
            Some(conversation)
        );
    }
});

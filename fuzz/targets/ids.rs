//! Ids: only the canonical form is taken, two users have one conversation, and each has its slot.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlance_proto::ids::{AppId, ClientMessageId, ConversationId, DirectId, UserId};
use parlance_proto::slot::{SLOTS, Slot};

fn check(id: &ConversationId) {
    assert_eq!(ConversationId::parse(id.as_str()).as_ref(), Ok(id));
    if let ConversationId::Direct(direct) = id {
        assert!(direct.first() < direct.second());
        assert_eq!(direct.peer_of(direct.first()), Some(direct.second()));
    }
    if let Ok(app) = AppId::new("demo") {
        assert!(Slot::of_conversation(&app, id).number() < SLOTS);
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Their answers do not matter here, only that there is one.
    let _ = (AppId::new(text), ClientMessageId::new(text));
    if let Ok(conversation) = ConversationId::parse(text) {
        assert_eq!(conversation.as_str(), text);
        check(&conversation);
    }
    if let Some((a, b)) = text.split_once('\n')
        && let (Ok(a), Ok(b)) = (UserId::new(a), UserId::new(b))
        && let Ok(direct) = DirectId::between(&a, &b)
    {
        assert_eq!(DirectId::between(&b, &a).as_ref(), Ok(&direct));
        check(&ConversationId::Direct(direct));
    }
});

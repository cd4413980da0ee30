//! Ties each request of the link protocol to its answer.

use parlance_proto::link::v1::{
    Heads, HeadsResult, History, HistoryResult, ListConversations, ListConversationsResult,
    MarkRead, MarkReadResult, Send, SendResult, Subscribe, SubscribeResult, Unsubscribe,
    UnsubscribeResult, request, response,
};

/// A request that one kind of answer belongs to.
pub trait Ask: Clone {
    /// What a leader says to it.
    type Answer;

    /// The request on the wire.
    fn into_body(self) -> request::Body;

    /// The answer on the wire; none if it is one to another request.
    fn answer(body: response::Body) -> Option<Self::Answer>;
}

macro_rules! asks {
    ($($ask:ident => $answer:ident;)*) => {$(
        impl Ask for $ask {
            type Answer = $answer;

            fn into_body(self) -> request::Body {
                request::Body::$ask(self)
            }

            fn answer(body: response::Body) -> Option<$answer> {
                match body {
                    response::Body::$ask(answer) => Some(answer),
                    _ => None,
                }
            }
        }
    )*};
}

asks! {
    Send => SendResult;
    MarkRead => MarkReadResult;
    History => HistoryResult;
    Heads => HeadsResult;
    ListConversations => ListConversationsResult;
    Subscribe => SubscribeResult;
    Unsubscribe => UnsubscribeResult;
}

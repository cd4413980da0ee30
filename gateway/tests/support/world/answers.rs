//! What nodes of the fake cluster answer.

use parlance_proto::client::v1::{Conversation, Event, Message, event};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::event::encode_event;
use parlance_proto::ids::{ConversationId, UserId};
use parlance_proto::link::v1::{
    Heads, HeadsResult, HistoryResult, ListConversations, ListConversationsResult,
    ListedConversation, MarkReadResult, MessageResult, Moved, NodeFrame, NotLeader, Request,
    Response, Send, SendResult, Subscribe, SubscribeResult, Topic, UnsubscribeResult, request,
    response, topic,
};
use parlance_proto::slot::Slot;
use prost::Message as _;

use super::{Inner, LinkKey, home, place};

impl Inner {
    /// Takes a request; the answer goes out by itself.
    pub(in super::super) fn take(&mut self, key: &LinkKey, request: Request) {
        let id = request.id;
        let is_send = matches!(request.body, Some(request::Body::Send(_)));
        let is_read = matches!(request.body, Some(request::Body::History(_)));
        let Some(body) = self.answer(key, request) else {
            return;
        };
        let response = Response {
            id,
            body: Some(body),
        };
        if let Some(held) = &mut self.held_reads
            && is_read
        {
            return held.push((key.clone(), response));
        }
        match &mut self.held {
            Some((node, held)) if is_send && *node == key.0 => held.push((key.clone(), response)),
            _ => self.respond(key, response),
        }
    }

    pub(super) fn respond(&mut self, key: &LinkKey, response: Response) {
        if let Some(link) = self.links.get_mut(key) {
            link.send(NodeFrame {
                responses: vec![response],
                ..NodeFrame::default()
            });
        }
    }

    fn answer(&mut self, key: &LinkKey, request: Request) -> Option<response::Body> {
        let shard = request.shard;
        let leader = self.leaders.get(&shard).map_or(0, |(node, _)| *node);
        if self.lost.contains(&shard) {
            return Some(response::Body::NotLeader(NotLeader::default()));
        }
        if key.0 != leader {
            return Some(response::Body::NotLeader(NotLeader {
                leader_node_id: leader,
            }));
        }
        let body = request.body?;
        if matches!(body, request::Body::Send(_)) {
            self.sends += 1;
            if self.deaf.contains(&key.0) {
                return None;
            }
            if self.full.contains(&key.0) {
                return Some(response::Body::Error(no_room()));
            }
        }
        if slots(&body).iter().any(|slot| self.owner(*slot) != shard) {
            let routes = self.all_routes();
            return Some(response::Body::Moved(Moved { routes }));
        }
        Some(match body {
            request::Body::Send(send) => match members(&send.conversation_id, &send.sender) {
                Ok(members) => response::Body::Send(self.store(send, &members)),
                Err(error) => response::Body::Error(error),
            },
            request::Body::MarkRead(r) => response::Body::MarkRead(MarkReadResult {
                read_seq: r.seq,
                unread_count: 0,
            }),
            request::Body::History(r) => {
                let log = self.logs.get(&r.conversation_id);
                let events = log.into_iter().flatten();
                let events: Vec<_> = events.map(|e| encode_event(e, &[])).collect();
                response::Body::History(HistoryResult {
                    head_seq: events.len() as u64,
                    events,
                    more: false,
                })
            }
            request::Body::Heads(r) => response::Body::Heads(self.heads_of(r)),
            request::Body::ListConversations(r) => response::Body::ListConversations(self.list(&r)),
            request::Body::Subscribe(r) => {
                response::Body::Subscribe(self.subscribe(key, shard, r)?)
            }
            request::Body::Unsubscribe(_) => response::Body::Unsubscribe(UnsubscribeResult {}),
        })
    }

    fn heads_of(&mut self, ask: Heads) -> HeadsResult {
        self.heads += ask.conversation_ids.len();
        let heads = ask.conversation_ids.into_iter().map(|id| Conversation {
            head_seq: self.logs.get(&id).map_or(0, |l| l.len() as u64),
            last_event: self.logs.get(&id).and_then(|l| l.last().cloned()),
            conversation_id: id,
            ..Conversation::default()
        });
        HeadsResult {
            conversations: heads.collect(),
        }
    }

    /// Without cursors: always the whole list.
    fn list(&self, ask: &ListConversations) -> ListConversationsResult {
        let mine = |id: &&String| **id > ask.after && members(id, &ask.user_id).is_ok();
        let mut ids = self.logs.keys().filter(mine).cloned();
        let page = ids.by_ref().take(ask.limit as usize);
        let listed = page.map(|id| ListedConversation {
            place: id.clone(),
            conversation_id: id,
        });
        ListConversationsResult {
            conversations: listed.collect(),
            more: ids.next().is_some(),
            ..ListConversationsResult::default()
        }
    }

    fn subscribe(&mut self, key: &LinkKey, shard: u32, ask: Subscribe) -> Option<SubscribeResult> {
        let mut term = self.leaders[&shard].1;
        let seamless = self.seamless;
        if ask.complete {
            self.completes.push((key.0, shard, ask.topics.len()));
            if self.stale > 0 {
                self.stale -= 1;
                term -= 1;
                return Some(SubscribeResult { term, seamless });
            }
        }
        let link = self.links.get_mut(key)?;
        let users = ask.topics.into_iter().map(user_of);
        link.topics.extend(users.map(|user| (shard, user)));
        Some(SubscribeResult { term, seamless })
    }

    fn store(&mut self, send: Send, members: &[String; 2]) -> SendResult {
        let mut results = Vec::new();
        for message in send.messages {
            let said = Event::decode(message.body).unwrap().body;
            let log = self.logs.entry(send.conversation_id.clone()).or_default();
            let stored = log.iter().find_map(|e| match &e.body {
                Some(event::Body::Message(Message {
                    client_message_id, ..
                })) if *client_message_id == message.client_message_id => {
                    Some((e.seq, e.body == said))
                }
                _ => None,
            });
            if let Some((seq, same)) = stored {
                let error =
                    (!same).then(|| Error::new(ErrorCode::Conflict, "stored with another payload"));
                let seq = if same { seq } else { 0 };
                results.push(MessageResult {
                    seq,
                    duplicate: same,
                    error,
                    ..MessageResult::default()
                });
                continue;
            }
            let event = Event {
                conversation_id: send.conversation_id.clone(),
                seq: log.len() as u64 + 1,
                time_ms: 1,
                sender: send.sender.clone(),
                body: said,
            };
            log.push(event.clone());
            results.push(MessageResult {
                seq: event.seq,
                time_ms: 1,
                ..MessageResult::default()
            });
            for user in members {
                self.publish(user, &event, &send.session_id);
            }
        }
        SendResult { results }
    }
}

fn user_of(topic: Topic) -> String {
    match topic.name {
        Some(topic::Name::UserId(user)) => user,
        None => String::new(),
    }
}

/// The slots that a request is about.
fn slots(body: &request::Body) -> Vec<Slot> {
    match body {
        request::Body::Send(r) => vec![place(&r.conversation_id)],
        request::Body::MarkRead(r) => vec![place(&r.conversation_id)],
        request::Body::History(r) => vec![place(&r.conversation_id)],
        request::Body::Heads(r) => r.conversation_ids.iter().map(|id| place(id)).collect(),
        request::Body::ListConversations(r) => vec![home(&r.user_id)],
        request::Body::Subscribe(r) => r
            .topics
            .iter()
            .cloned()
            .map(user_of)
            .map(|u| home(&u))
            .collect(),
        request::Body::Unsubscribe(_) => Vec::new(),
    }
}

fn no_room() -> Error {
    Error {
        retry_after_ms: 2000,
        ..Error::new(ErrorCode::Overloaded, "no room on the disk")
    }
}

/// Both users of a direct conversation, if `user` is one of them.
fn members(conversation: &str, user: &str) -> Result<[String; 2], Error> {
    let refused = || {
        Error::new(
            ErrorCode::PermissionDenied,
            "not a member of this conversation",
        )
    };
    let Ok(ConversationId::Direct(direct)) = ConversationId::parse(conversation) else {
        return Err(refused());
    };
    let user = UserId::new(user).unwrap();
    direct.peer_of(&user).ok_or_else(refused)?;
    Ok([direct.first().into(), direct.second().into()])
}

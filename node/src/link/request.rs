//! Takes a gateway's request to its shard and the result back to the link.

use std::sync::Arc;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{
    DirectConversation, check_app_id, check_client_message_id, check_user_id,
};
use parlance_proto::limits::CONTENT_BYTES_MAX;
use parlance_proto::link::v1::{
    MarkRead, MarkReadResult, MessageResult, NotLeader, OutgoingMessage, Request, Response, Send,
    SendResult, Subscribe, SubscribeResult, Topic, UnsubscribeResult, request, response, topic,
};
use parlance_proto::shard::{conversation_shard, home_shard, shard_group};
use parlance_proto::store::v1::{Command, MarkReadCommand, SendCommand, command};
use prost::Message;

use super::LinkSession;
use super::service::LinkService;
use crate::apply::CommandOutcome;
use crate::metrics;
use crate::shard::{Shard, ShardError};

type Answer = Result<response::Body, ShardError>;

/// Starts a request; its answer goes to the link whenever it is there.
pub(super) fn dispatch(service: &LinkService, link: &Arc<LinkSession>, request: Request) {
    let id = request.id;
    let shard_number = request.shard;
    let Some(shard) = service.shards.get(shard_number) else {
        let leader_node_id = service.leaders.of(shard_group(shard_number)).unwrap_or(0);
        let body = Some(response::Body::NotLeader(NotLeader { leader_node_id }));
        return link.respond(Response { id, body });
    };
    let reply = {
        let link = link.clone();
        move |answer: Answer| {
            link.respond(Response {
                id,
                body: Some(body_of(answer)),
            })
        }
    };
    let count = service.meta.borrow().shard_count();
    match request.body {
        Some(request::Body::Send(ask)) => {
            match check_conversation(&ask.app_id, &ask.conversation_id, shard_number, count) {
                Ok(()) => send(&shard, ask, reply),
                Err(error) => reply(Err(error)),
            }
        }
        Some(request::Body::MarkRead(ask)) => {
            match check_conversation(&ask.app_id, &ask.conversation_id, shard_number, count) {
                Ok(()) => mark_read(&shard, ask, reply),
                Err(error) => reply(Err(error)),
            }
        }
        Some(request::Body::Subscribe(ask)) => reply(subscribe(&shard, link, ask, count)),
        Some(request::Body::Unsubscribe(ask)) => {
            shard.topics().unsubscribe(link, &user_topics(ask.topics));
            reply(Ok(response::Body::Unsubscribe(UnsubscribeResult {})));
        }
        Some(read) => {
            tokio::spawn(async move { reply(answer_read(&shard, read).await) });
        }
        None => reply(Err(refused(Error::new(
            ErrorCode::Unsupported,
            "this node does not know the request: it is older than the gateway",
        )))),
    }
}

async fn answer_read(shard: &Shard, read: request::Body) -> Answer {
    match read {
        request::Body::History(ask) => shard.history(&ask).await.map(response::Body::History),
        request::Body::Heads(ask) => shard.heads(&ask).await.map(response::Body::Heads),
        request::Body::ListConversations(ask) => shard
            .list_conversations(&ask)
            .await
            .map(response::Body::ListConversations),
        _ => Err(refused(Error::new(ErrorCode::Unsupported, "not a read"))),
    }
}

fn body_of(answer: Answer) -> response::Body {
    match answer {
        Ok(body) => body,
        Err(ShardError::NotLeader(leader)) => response::Body::NotLeader(NotLeader {
            leader_node_id: leader.unwrap_or(0),
        }),
        Err(error) => {
            if let ShardError::Store(damage) = &error {
                tracing::error!(error = %damage, "a read failed");
            }
            let error = Error::from(error);
            metrics::request_refused(error.code());
            response::Body::Error(error)
        }
    }
}

fn refused(error: Error) -> ShardError {
    ShardError::Refused(error)
}

fn invalid(field: &str, reason: impl ToString) -> ShardError {
    refused(Error::invalid(field, reason.to_string()))
}

/// Both ends of a link must hash alike; a gateway that does not is refused before it splits a conversation.
fn check_conversation(
    app: &str,
    conversation: &str,
    shard: u32,
    count: u32,
) -> Result<(), ShardError> {
    check_app_id(app).map_err(|e| invalid("app_id", e))?;
    DirectConversation::parse(conversation).map_err(|e| invalid("conversation_id", e))?;
    if conversation_shard(app, conversation, count) != shard {
        return Err(invalid(
            "shard",
            format!("conversation {conversation:?} does not belong to shard {shard}"),
        ));
    }
    Ok(())
}

fn send(shard: &Shard, ask: Send, reply: impl FnOnce(Answer) + std::marker::Send + 'static) {
    // A message that breaks a rule gets its error; the others go on, in order.
    let checks: Vec<Option<Error>> = ask
        .messages
        .iter()
        .map(|message| check_message(message).err())
        .collect();
    let command = |message: &OutgoingMessage| Command {
        body: Some(command::Body::Send(SendCommand {
            app_id: ask.app_id.clone(),
            conversation_id: ask.conversation_id.clone(),
            sender: ask.sender.clone(),
            client_message_id: message.client_message_id.clone(),
            content: message
                .content
                .as_ref()
                .map(Message::encode_to_vec)
                .unwrap_or_default()
                .into(),
            session_id: ask.session_id.clone(),
        })),
    };
    let good = ask
        .messages
        .iter()
        .zip(&checks)
        .filter(|(_, check)| check.is_none());
    let commands: Vec<Command> = good.map(|(message, _)| command(message)).collect();
    let answer = move |result: Result<Vec<CommandOutcome>, ShardError>| {
        reply(result.map(|outcomes| {
            let mut outcomes = outcomes.into_iter();
            let results = checks.into_iter().map(|check| match check {
                Some(error) => MessageResult {
                    error: Some(error),
                    ..Default::default()
                },
                None => message_result(outcomes.next()),
            });
            response::Body::Send(SendResult {
                results: results.collect(),
            })
        }));
    };
    if commands.is_empty() {
        answer(Ok(Vec::new()))
    } else {
        shard.submit(commands, Box::new(answer))
    }
}

fn check_message(message: &OutgoingMessage) -> Result<(), Error> {
    check_client_message_id(&message.client_message_id)
        .map_err(|e| Error::invalid("send.client_message_id", e.to_string()))?;
    let content = message
        .content
        .as_ref()
        .filter(|content| content.kind.is_some());
    let bytes = content
        .ok_or_else(|| Error::invalid("send.content", "a message needs a content"))?
        .encoded_len();
    if bytes > CONTENT_BYTES_MAX {
        let text =
            format!("the content has {bytes} bytes, at most {CONTENT_BYTES_MAX} are allowed");
        return Err(Error {
            field: "send.content".into(),
            ..Error::new(ErrorCode::PayloadTooLarge, text)
        });
    }
    Ok(())
}

fn message_result(outcome: Option<CommandOutcome>) -> MessageResult {
    match outcome {
        Some(CommandOutcome::Sent {
            seq,
            time_ms,
            duplicate,
        }) => MessageResult {
            seq,
            time_ms,
            duplicate,
            error: None,
        },
        Some(CommandOutcome::Refused(error)) => {
            metrics::request_refused(error.code());
            MessageResult {
                error: Some(error),
                ..Default::default()
            }
        }
        _ => MessageResult {
            error: Some(Error::new(
                ErrorCode::Internal,
                "the outcome does not fit the command",
            )),
            ..Default::default()
        },
    }
}

fn mark_read(
    shard: &Shard,
    ask: MarkRead,
    reply: impl FnOnce(Answer) + std::marker::Send + 'static,
) {
    let command = Command {
        body: Some(command::Body::MarkRead(MarkReadCommand {
            app_id: ask.app_id,
            conversation_id: ask.conversation_id,
            user_id: ask.user_id,
            seq: ask.seq,
        })),
    };
    let answer = move |result: Result<Vec<CommandOutcome>, ShardError>| {
        reply(
            result.and_then(|outcomes| match outcomes.into_iter().next() {
                Some(CommandOutcome::Read { read_seq, unread }) => {
                    Ok(response::Body::MarkRead(MarkReadResult {
                        read_seq,
                        unread_count: unread,
                    }))
                }
                Some(CommandOutcome::Refused(error)) => Err(refused(error)),
                _ => Err(refused(Error::new(
                    ErrorCode::Internal,
                    "the outcome does not fit the command",
                ))),
            }),
        );
    };
    shard.submit(vec![command], Box::new(answer));
}

fn subscribe(shard: &Shard, link: &Arc<LinkSession>, ask: Subscribe, count: u32) -> Answer {
    let leadership = *shard.raft().leadership().borrow();
    if !leadership.leading {
        return Err(ShardError::NotLeader(leadership.leader));
    }
    let topics = user_topics(ask.topics);
    for (app, user) in &topics {
        check_user_id(user).map_err(|e| invalid("subscribe.topics", e))?;
        if home_shard(app, user, count) != shard.number() {
            return Err(invalid(
                "shard",
                format!("user {user:?} is not at home in shard {}", shard.number()),
            ));
        }
    }
    let seamless = shard
        .topics()
        .subscribe(leadership.term, link, topics, ask.complete);
    Ok(response::Body::Subscribe(SubscribeResult {
        term: leadership.term,
        seamless,
    }))
}

fn user_topics(topics: Vec<Topic>) -> Vec<(String, String)> {
    let user = |topic: Topic| match topic.name {
        Some(topic::Name::UserId(user)) => Some((topic.app_id, user)),
        None => None,
    };
    topics.into_iter().filter_map(user).collect()
}

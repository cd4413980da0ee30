//! Messages of one sender into one conversation.

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::ClientMessageId;
use parlance_proto::limits::EVENT_BODY_BYTES_MAX;
use parlance_proto::link::v1::{MessageResult, OutgoingMessage, Send, SendResult, response};
use parlance_proto::store::v1::{NewMessage, SendCommand};

use super::{Answer, Reply, check_ids};
use crate::machine::MessageOutcome;
use crate::metrics;
use crate::sabotage::{Switch, one_in};
use crate::shard::{Shard, ShardError};

pub(super) fn send(shard: &Shard, ask: Send, reply: Reply) {
    let sender = ("sender", &*ask.sender);
    if let Err(error) = check_ids(&ask.app_id, &ask.conversation_id, sender) {
        return reply.answer(Err(error));
    }
    // A message that breaks a rule gets its error; the others go on, in order.
    let checks: Vec<Option<Error>> = ask
        .messages
        .iter()
        .map(|message| check_message(message).err())
        .collect();
    let good = ask.messages.into_iter().zip(&checks);
    let messages: Vec<NewMessage> = good
        .filter(|(_, check)| check.is_none())
        .map(|(message, _)| NewMessage {
            client_message_id: message.client_message_id,
            body: message.body,
        })
        .collect();
    if messages.is_empty() {
        return reply.answer(answer(Ok(Vec::new()), checks));
    }
    if one_in(100, Switch::ForgetMessages) {
        let stored = |_| MessageOutcome::Stored {
            seq: 1,
            time_ms: 1,
            duplicate: false,
        };
        let outcomes = messages.iter().map(stored).collect();
        return reply.answer(answer(Ok(outcomes), checks));
    }
    let mut command = SendCommand {
        app_id: ask.app_id,
        conversation_id: ask.conversation_id,
        sender: ask.sender,
        session_id: ask.session_id,
        messages,
    };
    let swapped = command.messages.len() > 1 && one_in(5, Switch::SwapMessages);
    if swapped {
        command.messages.reverse();
    }
    shard.submit(command, move |outcomes| {
        let mut outcomes = outcomes;
        if let Ok(outcomes) = &mut outcomes {
            if swapped {
                outcomes.reverse();
            }
            if one_in(100, Switch::RefuseStored) {
                let refused = Error::new(ErrorCode::InvalidArgument, "a test refuses it");
                outcomes.fill(MessageOutcome::Refused(refused));
            }
        }
        reply.answer(answer(outcomes, checks));
    });
}

fn check_message(message: &OutgoingMessage) -> Result<(), Error> {
    ClientMessageId::new(&message.client_message_id)
        .map_err(|e| Error::invalid("send.client_message_id", e.to_string()))?;
    let bytes = message.body.len();
    if bytes == 0 {
        return Err(Error::invalid("send.content", "a message needs a content"));
    }
    if bytes > EVENT_BODY_BYTES_MAX {
        let text =
            format!("the message has {bytes} bytes, at most {EVENT_BODY_BYTES_MAX} are allowed");
        return Err(Error {
            field: "send.content".into(),
            ..Error::new(ErrorCode::PayloadTooLarge, text)
        });
    }
    Ok(())
}

fn answer(outcomes: Result<Vec<MessageOutcome>, ShardError>, checks: Vec<Option<Error>>) -> Answer {
    let mut outcomes = outcomes?.into_iter();
    let results = checks.into_iter().map(|check| match check {
        Some(error) => refused(error),
        None => match outcomes.next() {
            Some(MessageOutcome::Stored {
                seq,
                time_ms,
                duplicate,
            }) => MessageResult {
                seq,
                time_ms,
                duplicate,
                error: None,
            },
            Some(MessageOutcome::Refused(error)) => refused(error),
            None => refused(ShardError::Unexpected.into()),
        },
    });
    Ok(response::Body::Send(SendResult {
        results: results.collect(),
    }))
}

fn refused(error: Error) -> MessageResult {
    metrics::request_refused(error.code());
    MessageResult {
        error: Some(error),
        ..MessageResult::default()
    }
}

//! `SendCommand`: each message gets the next seq of its conversation, once.

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::UserId;
use parlance_proto::store::v1::{NewMessage, SendCommand, StoredEvent, outbox_item};

use super::batch::Batch;
use super::dedup::Fingerprint;
use super::effect::Effect;
use super::outbox::frame_of_event;
use super::place::Place;
use crate::conversation::{Action, Tip};
use crate::machine::{CommandOutcome, MessageOutcome};
use crate::store::{StoreError, Table};

/// A command whose ids are parsed, and whose messages' fingerprints are taken.
pub(super) struct Parsed {
    pub(super) place: Place,
    sender: UserId,
    session_id: String,
    messages: Vec<(Fingerprint, NewMessage)>,
}

impl Parsed {
    pub(super) fn of(send: SendCommand) -> Result<Self, Error> {
        let sender = ("sender", &*send.sender);
        let (place, sender) = Place::parse(&send.app_id, &send.conversation_id, sender)?;
        let fingerprint = |message: &NewMessage| Fingerprint::of(&place, &sender, message);
        let messages = send.messages.into_iter();
        Ok(Self {
            messages: messages.map(|m| (fingerprint(&m), m)).collect(),
            place,
            sender,
            session_id: send.session_id,
        })
    }

    pub(super) fn fingerprints(&self) -> impl Iterator<Item = &Fingerprint> {
        self.messages.iter().map(|(fingerprint, _)| fingerprint)
    }
}

pub(super) fn apply(
    send: Result<Parsed, Error>,
    batch: &mut Batch<'_, '_>,
) -> Result<CommandOutcome, StoreError> {
    let Parsed {
        place,
        sender,
        session_id,
        messages,
    } = match send {
        Ok(send) => send,
        Err(error) => return Ok(CommandOutcome::Refused(error)),
    };
    if let Some(outcome) = place.refusal(&sender, Action::Send, batch)? {
        return Ok(outcome);
    }
    let mut tip = batch.tips.take(batch.rows, &place.keys)?;
    let mut sending = Sending {
        own: tip.sent(batch.rows, &place.keys, &sender)?,
        place: &place,
        sender: &sender,
        session_id: &session_id,
    };
    let mut outcomes = Vec::with_capacity(messages.len());
    for (fingerprint, message) in messages {
        outcomes.push(sending.apply(&fingerprint, message, &mut tip, batch)?);
    }
    batch.tips.put(place.keys, tip);
    Ok(CommandOutcome::Sent(outcomes))
}

struct Sending<'a> {
    place: &'a Place,
    sender: &'a UserId,
    session_id: &'a str,
    /// Messages of the sender so far.
    own: u64,
}

impl Sending<'_> {
    fn apply(
        &mut self,
        fingerprint: &Fingerprint,
        message: NewMessage,
        tip: &mut Tip,
        batch: &mut Batch<'_, '_>,
    ) -> Result<MessageOutcome, StoreError> {
        if let Some(first) = batch.find_duplicate(self.place.slot, fingerprint)? {
            if fingerprint.same_payload(&first) {
                return Ok(MessageOutcome::Stored {
                    seq: first.seq,
                    time_ms: first.time_ms,
                    duplicate: true,
                });
            }
            let text = format!(
                "client_message_id {:?} was stored before with another content, as seq {}: a new message needs a new id",
                message.client_message_id, first.seq
            );
            return Ok(MessageOutcome::Refused(Error {
                field: "send.client_message_id".to_owned(),
                ..Error::new(ErrorCode::Conflict, text)
            }));
        }
        let time_ms = batch.state.time_ms;
        self.own += 1;
        tip.add_message(self.sender, self.own, time_ms);
        let seq = tip.head_seq;
        let stored = StoredEvent {
            time_ms,
            sender: self.sender.as_str().to_owned(),
            message_ordinal: tip.messages,
            sender_ordinal: self.own,
            body: message.body,
        };
        batch
            .rows
            .put(Table::Events, self.place.keys.event(seq), &stored);
        batch.remember(self.place.slot, fingerprint, seq);
        if tip.is_checkpoint() {
            self.checkpoint(tip, batch)?;
        }
        let place = self.place;
        batch.put_outbox(
            place,
            outbox_item::Body::EventSeq(seq),
            |number, audience| Effect {
                number,
                app: place.app.clone(),
                conversation: place.conversation.clone(),
                audience,
                except_session_id: self.session_id.to_owned(),
                frame: frame_of_event(&place.conversation, seq, &stored),
            },
        )?;
        Ok(MessageOutcome::Stored {
            seq,
            time_ms,
            duplicate: false,
        })
    }

    fn checkpoint(&self, tip: &mut Tip, batch: &mut Batch<'_, '_>) -> Result<(), StoreError> {
        use crate::conversation::ConversationRows as _;
        let keys = &self.place.keys;
        let (head, counts) = tip.checkpoint();
        batch
            .rows
            .put(Table::Conversations, keys.head().to_vec(), &head);
        for (user, sent) in counts {
            let mut member = batch.rows.member(keys, &user)?.unwrap_or_default();
            member.sent = sent;
            batch.rows.put(Table::Members, keys.member(&user), &member);
        }
        Ok(())
    }
}

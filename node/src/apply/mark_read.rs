//! `MarkReadCommand`: a member's read position moves forward; unread counts follow from it and the conversation's tip.

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::UserId;
use parlance_proto::store::v1::{MarkReadCommand, Member, outbox_item};

use super::batch::Batch;
use super::effect::Effect;
use super::outbox::frame_of_read_cursor;
use super::place::Place;
use crate::conversation::{Action, ConversationRows as _, Tip, messages_of_others, unread};
use crate::machine::CommandOutcome;
use crate::sabotage::{Switch, is_on};
use crate::store::{StoreError, Table};

pub(super) fn apply(
    mark: MarkReadCommand,
    batch: &mut Batch<'_, '_>,
) -> Result<CommandOutcome, StoreError> {
    let user = ("user_id", &*mark.user_id);
    let (place, user) = match Place::parse(&mark.app_id, &mark.conversation_id, user) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(CommandOutcome::Refused(error)),
    };
    if let Some(outcome) = place.refusal(&user, Action::MarkRead, batch)? {
        return Ok(outcome);
    }
    let tip = batch.tips.take(batch.rows, &place.keys)?;
    let outcome = move_position(&place, &user, mark.seq, &tip, batch);
    batch.tips.put(place.keys, tip);
    outcome
}

fn move_position(
    place: &Place,
    user: &UserId,
    seq: u64,
    tip: &Tip,
    batch: &mut Batch<'_, '_>,
) -> Result<CommandOutcome, StoreError> {
    if tip.head_seq == 0 {
        return Ok(CommandOutcome::Refused(Error::new(
            ErrorCode::NotFound,
            "the conversation has no events yet",
        )));
    }
    let mut member = batch.rows.member(&place.keys, user)?.unwrap_or_default();
    let seq = seq.min(tip.head_seq);
    if seq > member.read_seq || is_on(Switch::CursorsGoBack) {
        member = Member {
            read_seq: seq,
            read_ordinal: messages_of_others(
                batch.rows,
                &place.keys,
                &place.conversation,
                user,
                seq,
            )?,
            ..member
        };
        batch
            .rows
            .put(Table::Members, place.keys.member(user), &member);
        let frame = frame_of_read_cursor(&place.conversation, user, seq);
        let item = outbox_item::Body::Frame(frame.clone());
        batch.put_outbox(place, item, |number, audience| Effect {
            number,
            app: place.app.clone(),
            conversation: place.conversation.clone(),
            audience,
            except_session_id: String::new(),
            frame,
        })?;
    }
    let sent = tip.sent(batch.rows, &place.keys, user)?;
    Ok(CommandOutcome::Read {
        read_seq: member.read_seq,
        unread: unread(tip.messages, sent, member.read_ordinal),
    })
}

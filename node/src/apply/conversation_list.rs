//! `TouchConversationCommand` and `CloseGenerationCommand`: on a user's home shard, which conversations the user has, and
//! which of them something has happened in since the user looked last.
//!
//! A list has generations. A conversation that is touched is marked with the current one, once: however busy it is, it
//! costs no more until somebody has looked, which closes the generation.

use parlance_proto::common::v1::Error;
use parlance_proto::ids::{AppId, ConversationId};
use parlance_proto::slot::Slot;
use parlance_proto::store::v1::{
    CloseGenerationCommand, TouchConversationCommand, UserConversation, UserList,
};

use super::batch::Batch;
use super::place::user;
use crate::machine::CommandOutcome;
use crate::store::key::ListKeys;
use crate::store::{StoreError, Table};

pub(super) fn touch(
    touch: &TouchConversationCommand,
    batch: &mut Batch<'_, '_>,
) -> Result<CommandOutcome, StoreError> {
    let invalid =
        |e: parlance_proto::ids::IdError| Error::invalid("conversation_id", e.to_string());
    let parsed = list_of(&touch.app_id, &touch.user_id).and_then(|list| {
        Ok((
            list,
            ConversationId::parse(&touch.conversation_id).map_err(invalid)?,
        ))
    });
    let ((slot, keys), conversation) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return Ok(CommandOutcome::Refused(error)),
    };
    if !batch.owns(slot) {
        return Ok(CommandOutcome::Moved);
    }
    let now = batch.state.time_ms;
    let list: Option<UserList> = batch.rows.get(Table::Users, keys.list())?;
    let begins = list.is_none();
    let list = list.unwrap_or(UserList {
        began_ms: now,
        generation: 1,
    });
    if begins {
        batch.rows.put(Table::Users, keys.list(), &list);
    }
    let generation = list.generation;
    let conversation = conversation.as_str();
    let entry = keys.entry(conversation);
    let before: Option<UserConversation> = batch.rows.get(Table::Users, entry.clone())?;
    if before.is_none_or(|entry| entry.generation != generation) {
        if let Some(before) = before {
            let touch = keys.touch(before.generation, conversation);
            batch.rows.delete(Table::Users, touch);
        }
        let added_ms = before.map_or(now, |entry| entry.added_ms);
        let row = UserConversation {
            added_ms,
            generation,
        };
        batch.rows.put(Table::Users, entry, &row);
        let touch = keys.touch(generation, conversation);
        batch.rows.put(Table::Users, touch, &());
    }
    Ok(CommandOutcome::Touched { generation })
}

pub(super) fn close(
    close: &CloseGenerationCommand,
    batch: &mut Batch<'_, '_>,
) -> Result<CommandOutcome, StoreError> {
    let (slot, keys) = match list_of(&close.app_id, &close.user_id) {
        Ok(list) => list,
        Err(error) => return Ok(CommandOutcome::Refused(error)),
    };
    if !batch.owns(slot) {
        return Ok(CommandOutcome::Moved);
    }
    let list: Option<UserList> = batch.rows.get(Table::Users, keys.list())?;
    if let Some(list) = list.filter(|list| list.generation == close.generation) {
        let next = UserList {
            generation: list.generation + 1,
            ..list
        };
        batch.rows.put(Table::Users, keys.list(), &next);
    }
    Ok(CommandOutcome::Closed)
}

fn list_of(app_id: &str, user_id: &str) -> Result<(Slot, ListKeys), Error> {
    let app = AppId::new(app_id).map_err(|e| Error::invalid("app_id", e.to_string()))?;
    let user = user("user_id", user_id)?;
    let slot = Slot::of_user(&app, &user);
    Ok((slot, ListKeys::new(slot, &app, &user)))
}

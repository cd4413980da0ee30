//! `AddConversationCommand`: on a user's home shard, the list of conversations gets one more.

use parlance_proto::common::v1::Error;
use parlance_proto::ids::{AppId, ConversationId};
use parlance_proto::slot::Slot;
use parlance_proto::store::v1::{AddConversationCommand, UserConversation};

use super::batch::Batch;
use super::place::user;
use crate::machine::CommandOutcome;
use crate::store::key::ListKeys;
use crate::store::{StoreError, Table};

pub(super) fn apply(
    add: AddConversationCommand,
    batch: &mut Batch<'_, '_>,
) -> Result<CommandOutcome, StoreError> {
    let (slot, place) = match entry_of(&add) {
        Ok(entry) => entry,
        Err(error) => return Ok(CommandOutcome::Refused(error)),
    };
    if !batch.owns(slot) {
        return Ok(CommandOutcome::Moved);
    }
    let listed: Option<UserConversation> = batch.rows.get(Table::Users, place.clone())?;
    if listed.is_none() {
        let added_ms = batch.state.time_ms;
        batch
            .rows
            .put(Table::Users, place, &UserConversation { added_ms });
    }
    Ok(CommandOutcome::Listed)
}

fn entry_of(add: &AddConversationCommand) -> Result<(Slot, Vec<u8>), Error> {
    let invalid = |field, e: parlance_proto::ids::IdError| Error::invalid(field, e.to_string());
    let app = AppId::new(&add.app_id).map_err(|e| invalid("app_id", e))?;
    let user = user("user_id", &add.user_id)?;
    let conversation =
        ConversationId::parse(&add.conversation_id).map_err(|e| invalid("conversation_id", e))?;
    let slot = Slot::of_user(&app, &user);
    let list = ListKeys::new(slot, &app, &user);
    Ok((slot, list.entry(conversation.as_str())))
}

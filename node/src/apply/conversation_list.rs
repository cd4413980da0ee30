//! `AddConversationCommand`: on a user's home shard, the list of conversations gets one more.

use parlance_proto::store::v1::{AddConversationCommand, UserConversation};

use super::CommandOutcome;
use super::entry::Entry;
use crate::store::{StoreError, Table, key};

pub(super) fn apply(
    add: AddConversationCommand,
    entry: &mut Entry<'_, '_>,
) -> Result<CommandOutcome, StoreError> {
    let place = key::user_conversation(
        entry.rows.group(),
        &add.app_id,
        &add.user_id,
        &add.conversation_id,
    );
    if entry
        .rows
        .get::<UserConversation>(Table::Users, place.clone())?
        .is_none()
    {
        let added_ms = entry.state.time_ms;
        entry
            .rows
            .put(Table::Users, place, &UserConversation { added_ms });
    }
    Ok(CommandOutcome::Listed)
}

//! `AddConversationCommand`: on a user's home shard, the list of conversations gets one more.

use parlance_proto::store::v1::{AddConversationCommand, ShardState, UserConversation};

use super::CommandOutcome;
use super::rows::Rows;
use crate::store::{StoreError, Table, key};

pub(super) fn apply(
    state: &ShardState,
    add: AddConversationCommand,
    rows: &mut Rows<'_>,
) -> Result<CommandOutcome, StoreError> {
    let place = key::user_conversation(
        rows.group(),
        &add.app_id,
        &add.user_id,
        &add.conversation_id,
    );
    if rows
        .get::<UserConversation>(Table::Users, place.clone())?
        .is_none()
    {
        rows.put(
            Table::Users,
            place,
            &UserConversation {
                added_ms: state.time_ms,
            },
        );
    }
    Ok(CommandOutcome::Listed)
}

//! Where a command's conversation lives, and whether its user may. Ids were checked before they were proposed; the log has
//! them as text, and here they become types again.

use parlance_proto::common::v1::Error;
use parlance_proto::ids::{AppId, ConversationId, UserId};
use parlance_proto::slot::Slot;

use super::batch::Batch;
use crate::conversation::{Action, Denied, is_carried, may};
use crate::machine::CommandOutcome;
use crate::store::StoreError;
use crate::store::key::ConversationKeys;

pub(super) struct Place {
    pub(super) app: AppId,
    pub(super) conversation: ConversationId,
    pub(super) slot: Slot,
    pub(super) keys: ConversationKeys,
}

impl Place {
    /// What a command of `user` comes to instead, if it may not be.
    pub(super) fn refusal(
        &self,
        user: &UserId,
        action: Action,
        batch: &Batch<'_, '_>,
    ) -> Result<Option<CommandOutcome>, StoreError> {
        if !batch.owns(self.slot) {
            return Ok(Some(CommandOutcome::Moved));
        }
        if !is_carried(&self.conversation) {
            return Err(batch.levels.unknown());
        }
        match may(batch.rows, &self.keys, &self.conversation, user, action) {
            Ok(()) => Ok(None),
            Err(Denied::Refused(error)) => Ok(Some(CommandOutcome::Refused(error))),
            Err(Denied::Failed(error)) => Err(error),
        }
    }

    /// Where, and by whom; `field` is the user's in the command.
    pub(super) fn parse(
        app: &str,
        conversation: &str,
        (field, user_id): (&str, &str),
    ) -> Result<(Self, UserId), Error> {
        Ok((Self::of(app, conversation)?, user(field, user_id)?))
    }

    pub(super) fn of(app: &str, conversation: &str) -> Result<Self, Error> {
        let app = AppId::new(app).map_err(|e| Error::invalid("app_id", e.to_string()))?;
        let conversation = ConversationId::parse(conversation)
            .map_err(|e| Error::invalid("conversation_id", e.to_string()))?;
        let slot = Slot::of_conversation(&app, &conversation);
        let keys = ConversationKeys::new(slot, &app, &conversation);
        Ok(Self {
            app,
            conversation,
            slot,
            keys,
        })
    }
}

pub(super) fn user(field: &str, id: &str) -> Result<UserId, Error> {
    UserId::new(id).map_err(|e| Error::invalid(field, e.to_string()))
}

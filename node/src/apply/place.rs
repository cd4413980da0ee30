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

/// What a user does in a conversation, as a command has it.
pub(super) struct Deed<'a> {
    pub(super) app: &'a str,
    pub(super) conversation: &'a str,
    pub(super) user_field: &'static str,
    pub(super) user: &'a str,
}

impl Deed<'_> {
    /// Where, and by whom.
    pub(super) fn parse(&self) -> Result<(Place, UserId), Error> {
        let place = Place::of(self.app, self.conversation)?;
        Ok((place, user(self.user_field, self.user)?))
    }
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

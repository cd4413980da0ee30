//! What a close code tells the client: 1001 reconnect elsewhere at once, 1009 and 4000–4099 do not reconnect,
//! 4100–4199 reconnect with back-off.

use crate::session::CloseReason;

/// The WebSocket close code.
pub fn code(reason: CloseReason) -> u16 {
    match reason {
        CloseReason::Gone => 1000,
        CloseReason::GoingAway => 1001,
        CloseReason::FrameTooLarge => 1009,
        CloseReason::Malformed => 4000,
        CloseReason::TokenRefused => 4002,
        CloseReason::Kicked => 4003,
        CloseReason::Unsupported => 4004,
        CloseReason::Replaced => 4005,
        CloseReason::AppDisabled => 4006,
        CloseReason::TokenExpired => 4007,
        CloseReason::TooSlow => 4100,
        CloseReason::Idle => 4101,
        CloseReason::LoginTimeout => 4102,
        CloseReason::Internal => 4103,
        CloseReason::Overloaded | CloseReason::CutOff => 4104,
    }
}

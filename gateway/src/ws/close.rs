//! Why a connection is closed, and what its close code tells the client: 1001 reconnect elsewhere at once,
//! 1009 and 4000–4099 do not reconnect, 4100–4199 reconnect with back-off.

/// Why the gateway closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The client closed, or the socket failed: nothing is sent.
    Gone,
    /// This gateway stops.
    GoingAway,
    /// A frame above the limit.
    FrameTooLarge,
    /// Bytes that are no frame.
    Malformed,
    /// No login in time.
    LoginTimeout,
    /// The token was refused.
    TokenRefused,
    /// The client reads too slowly.
    TooSlow,
    /// Nothing was heard for too long.
    Idle,
    /// The cluster could not be asked in time.
    Internal,
}

impl Close {
    /// The WebSocket close code.
    pub fn code(self) -> u16 {
        match self {
            Close::Gone => 1000,
            Close::GoingAway => 1001,
            Close::FrameTooLarge => 1009,
            Close::Malformed => 4000,
            Close::LoginTimeout => 4001,
            Close::TokenRefused => 4002,
            Close::TooSlow => 4100,
            Close::Idle => 4101,
            Close::Internal => 4103,
        }
    }

    /// The reason sent with the code, and the metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Close::Gone => "gone",
            Close::GoingAway => "going_away",
            Close::FrameTooLarge => "frame_too_large",
            Close::Malformed => "malformed_frame",
            Close::LoginTimeout => "login_timeout",
            Close::TokenRefused => "token_refused",
            Close::TooSlow => "too_slow",
            Close::Idle => "idle",
            Close::Internal => "internal",
        }
    }
}

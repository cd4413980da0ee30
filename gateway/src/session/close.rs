//! Why the gateway ends a connection. Each endpoint says it in its own codes.

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed, or the socket failed: nothing is sent.
    Gone,
    /// This gateway stops.
    GoingAway,
    /// A frame above the limit.
    FrameTooLarge,
    /// Bytes that are not a frame.
    Malformed,
    /// No login in time.
    LoginTimeout,
    /// The token was refused, or its secret was retired.
    TokenRefused,
    /// An operator threw the user out.
    Kicked,
    /// An operator disabled the app.
    AppDisabled,
    /// The token ended and was not renewed.
    TokenExpired,
    /// No protocol version in common.
    Unsupported,
    /// The client reads too slowly.
    TooSlow,
    /// Nothing was heard for too long.
    Idle,
    /// The user has newer sessions, and may have no more.
    Replaced,
    /// A bound of this gateway is reached.
    Overloaded,
    /// Too much waits for all sessions, and this one holds the most.
    CutOff,
    /// The cluster could not be asked in time.
    Internal,
}

impl CloseReason {
    /// For people, and the metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::GoingAway => "going_away",
            Self::FrameTooLarge => "frame_too_large",
            Self::Malformed => "malformed_frame",
            Self::LoginTimeout => "login_timeout",
            Self::TokenRefused => "token_refused",
            Self::Kicked => "kicked",
            Self::AppDisabled => "app_disabled",
            Self::TokenExpired => "token_expired",
            Self::Unsupported => "unsupported",
            Self::TooSlow => "too_slow",
            Self::Idle => "idle",
            Self::Replaced => "replaced",
            Self::Overloaded => "overloaded",
            Self::CutOff => "cut_off",
            Self::Internal => "internal",
        }
    }

    /// What is still queued is not worth its memory.
    pub fn drops_queue(self) -> bool {
        matches!(self, Self::Gone | Self::TooSlow | Self::CutOff)
    }
}

//! What a hostile client does to a gateway: each bound in turn, and why the gateway refuses it.

/// One way to flood.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// By which reasons the gateway counts what it refuses or closes: first the bound that is flooded, then those that
    /// whoever does it meets, too.
    pub(crate) reasons: &'static [&'static str],
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// So many history requests at once, again and again, all answers read.
    Histories(usize),
    /// As many as there may be, of many users, and nothing is read.
    Unread,
    Messages,
    /// Of many users, each as many as it may.
    AppMessages,
    InvalidMessages,
    Pings,
    Pongs,
    Sessions,
    BadLogins,
    LargeFrames,
    LargeLogins,
    Silence,
    HalfUpgrades,
    HangUps,
    /// Sessions of many users, each as many as it may.
    AllPlaces,
}

impl Attack {
    /// Whether it comes to refusals for sure: reads wait for their turn, and may all be answered.
    pub(crate) fn must_reach(&self) -> bool {
        !matches!(self.kind, Kind::Histories(50))
    }
}

const fn attack(name: &'static str, kind: Kind, reasons: &'static [&'static str]) -> Attack {
    Attack {
        name,
        reasons,
        kind,
    }
}

/// The last ones leave their address without a connection for a while.
pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        "50 history requests at once",
        Kind::Histories(50),
        &["requests", "errors"],
    ),
    attack(
        "300 history requests at once",
        Kind::Histories(300),
        &["requests_in_flight", "requests", "errors"],
    ),
    attack(
        "answers that nobody reads",
        Kind::Unread,
        &["outbound_total"],
    ),
    attack(
        "messages as fast as they go",
        Kind::Messages,
        &["messages_session", "messages_user", "errors"],
    ),
    attack(
        "messages of many users",
        Kind::AppMessages,
        &[
            "messages_app",
            "messages_session",
            "messages_user",
            "errors",
        ],
    ),
    attack(
        "messages that break a rule",
        Kind::InvalidMessages,
        &["requests", "errors"],
    ),
    attack(
        "pings as fast as they go",
        Kind::Pings,
        &["requests", "errors"],
    ),
    attack(
        "pongs of WebSocket as fast as they go",
        Kind::Pongs,
        &["requests", "errors"],
    ),
    attack(
        "sessions without end",
        Kind::Sessions,
        &["sessions_per_user"],
    ),
    attack(
        "frames that are too large",
        Kind::LargeFrames,
        &["frame_too_large"],
    ),
    attack(
        "logins that are too large",
        Kind::LargeLogins,
        &["frame_too_large"],
    ),
    attack(
        "sockets that say nothing",
        Kind::Silence,
        &["connections_waiting"],
    ),
    attack(
        "upgrades that do not end",
        Kind::HalfUpgrades,
        &["connections_waiting"],
    ),
    attack("all places there are", Kind::AllPlaces, &["connections"]),
    attack(
        "logins with bad tokens",
        Kind::BadLogins,
        &["logins_per_address", "connections_per_address"],
    ),
    attack(
        "connections that hang up",
        Kind::HangUps,
        &["connections_per_address"],
    ),
];

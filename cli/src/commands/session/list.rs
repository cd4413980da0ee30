//! `parlance session list`: who is logged in, on which gateway, with what.

use parlance_proto::admin::v1::{ListSessionsRequest, ListSessionsResponse};
use parlance_proto::visible::without_hidden;
use serde::Serialize;

use crate::admin::Admin;
use crate::args::SessionListArgs;
use crate::commands::Session;
use crate::output::{say, time_text};

#[derive(Serialize)]
struct Sessions {
    sessions: Vec<SessionView>,
    /// There are more than were asked for.
    more: bool,
    /// Gateways that did not answer: what they have is not in the list.
    unanswered_gateways: Vec<String>,
}

#[derive(Serialize)]
struct SessionView {
    gateway_id: String,
    session_id: String,
    app_id: String,
    user_id: String,
    platform: String,
    device_id: String,
    client_version: String,
    since_ms: i64,
    token_expires_ms: i64,
}

pub async fn run(session: &Session, args: SessionListArgs) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let sessions = fetch(&mut admin, &args).await?;
    for gateway in &sessions.unanswered_gateways {
        say(format!(
            "gateway {gateway} does not answer: its sessions are not in the list"
        ));
    }
    if sessions.more {
        let shown = sessions.sessions.len();
        say(format!(
            "there are more than these {shown}: see --limit, --app, --user and --gateway"
        ));
    }
    session.output.print(&sessions, |output, sessions| {
        let mut table = output.table(&[
            "GATEWAY",
            "SESSION",
            "APP",
            "USER",
            "PLATFORM",
            "DEVICE",
            "VERSION",
            "SINCE",
            "TOKEN ENDS",
        ]);
        for s in &sessions.sessions {
            // What clients call themselves must not move the cursor of a terminal.
            table.add_row([
                s.gateway_id.clone(),
                s.session_id.clone(),
                s.app_id.clone(),
                without_hidden(&s.user_id),
                without_hidden(&s.platform),
                without_hidden(&s.device_id),
                without_hidden(&s.client_version),
                time_text(s.since_ms),
                time_text(s.token_expires_ms),
            ]);
        }
        table.to_string()
    })
}

/// Joins pages until there are as many as wanted, or no more.
async fn fetch(admin: &mut Admin, args: &SessionListArgs) -> anyhow::Result<Sessions> {
    let text = |id: Option<String>| id.unwrap_or_default();
    let mut request = ListSessionsRequest {
        app_id: text(args.app.as_ref().map(String::from)),
        user_id: text(args.user.as_ref().map(String::from)),
        gateway_id: text(args.gateway.clone()),
        ..ListSessionsRequest::default()
    };
    let mut all = Sessions {
        sessions: Vec::new(),
        more: false,
        unanswered_gateways: Vec::new(),
    };
    let limit = usize::try_from(args.limit)?;
    loop {
        request.limit = u32::try_from(limit - all.sessions.len()).unwrap_or(u32::MAX);
        let answer = admin.api.list_sessions(request.clone()).await;
        let page = answer
            .map_err(|status| admin.failed("list sessions", &status))?
            .into_inner();
        (request.after_gateway_id, request.after_session_id) =
            (page.next_gateway_id.clone(), page.next_session_id.clone());
        all.take(page);
        let ended = request.after_gateway_id.is_empty();
        if ended || all.sessions.len() >= limit {
            all.more = !ended;
            return Ok(all);
        }
    }
}

impl Sessions {
    fn take(&mut self, page: ListSessionsResponse) {
        self.unanswered_gateways.extend(page.unanswered_gateway_ids);
        let rows = page.sessions.into_iter();
        self.sessions.extend(rows.map(|row| SessionView {
            gateway_id: row.gateway_id,
            session_id: row.session_id,
            app_id: row.app_id,
            user_id: row.user_id,
            platform: row.platform,
            device_id: row.device_id,
            client_version: row.client_version,
            since_ms: row.since_ms,
            token_expires_ms: row.token_expires_ms,
        }));
    }
}

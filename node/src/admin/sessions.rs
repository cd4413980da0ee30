//! Who is logged in where: asked of the gateways, one page at a time.

use parlance_proto::admin::v1::{ListSessionsRequest, ListSessionsResponse, Session};
use parlance_proto::link::v1::{
    ListSessions, ListSessionsResult, gateway_answer, gateway_question,
};
use tokio::time::{Duration, Instant};

use crate::link::Gateways;

/// Gateways that have nothing to tell, or do not answer, are passed by for no longer; then the caller asks again from there.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// The next page, from the first gateway that has something to tell; gateways and sessions in the order of their ids.
pub(super) async fn list(gateways: &Gateways, ask: ListSessionsRequest) -> ListSessionsResponse {
    let mut response = ListSessionsResponse::default();
    let mut after_session_id = ask.after_session_id;
    let mut to_ask: Vec<String> = gateways.ids();
    to_ask.retain(|id| match after_session_id.as_str() {
        "" => *id > ask.after_gateway_id,
        _ => *id >= ask.after_gateway_id,
    });
    to_ask.retain(|id| ask.gateway_id.is_empty() || *id == ask.gateway_id);
    let began = Instant::now();
    for (place, gateway_id) in to_ask.iter().enumerate() {
        let from_there = *gateway_id == ask.after_gateway_id;
        let question = ListSessions {
            app_id: ask.app_id.clone(),
            user_id: ask.user_id.clone(),
            after_session_id: if from_there {
                std::mem::take(&mut after_session_id)
            } else {
                String::new()
            },
            limit: ask.limit,
        };
        let question = gateway_question::Body::ListSessions(question);
        let mut more_here = false;
        match gateways.ask(gateway_id, question).await {
            Some(gateway_answer::Body::ListSessions(result)) => {
                more_here = result.more;
                response.next_session_id.clone_from(&result.last_session_id);
                response.sessions = rows(gateway_id, result);
            }
            None => response.unanswered_gateway_ids.push(gateway_id.clone()),
        }
        if !more_here {
            response.next_session_id.clear();
        }
        let all_told = !more_here && place + 1 == to_ask.len();
        let enough = more_here || !response.sessions.is_empty() || began.elapsed() >= LOOK_TIMEOUT;
        if enough && !all_told {
            response.next_gateway_id.clone_from(gateway_id);
            break;
        }
    }
    response
}

fn rows(gateway_id: &str, result: ListSessionsResult) -> Vec<Session> {
    let rows = result.sessions.into_iter();
    let row = |row: parlance_proto::link::v1::Session| Session {
        gateway_id: gateway_id.to_owned(),
        session_id: row.session_id,
        app_id: row.app_id,
        user_id: row.user_id,
        platform: row.platform,
        device_id: row.device_id,
        client_version: row.client_version,
        since_ms: row.since_ms,
        token_expires_ms: row.token_expires_ms,
    };
    rows.map(row).collect()
}

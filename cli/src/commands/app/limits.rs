//! `parlance app limits`.

use parlance_proto::admin::v1::SetAppLimitsRequest;
use parlance_proto::ids::AppId;

use super::{LimitsView, changed};
use crate::admin::Admin;
use crate::args::LimitArgs;
use crate::commands::Session;

pub(super) async fn run(session: &Session, app_id: &AppId, args: &LimitArgs) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let app = admin.app(app_id, false).await?;
    let before = app.limits.unwrap_or_default();
    let limits = changed(args, before);
    if limits != before {
        let request = SetAppLimitsRequest {
            app_id: app_id.into(),
            limits: Some(limits),
        };
        let set = admin.api.set_app_limits(request).await;
        set.map_err(|status| admin.failed(&format!("set the limits of app {app_id:?}"), &status))?;
    }
    session
        .output
        .print(&LimitsView::from(limits), |output, limits| {
            let mut table = output.table(&["MESSAGES A SECOND OF", "AT MOST"]);
            for (of, limit) in [
                ("a session", limits.session_messages_per_second),
                ("a user", limits.user_messages_per_second),
                ("the app", limits.app_messages_per_second),
            ] {
                let shown = match limit {
                    0 => "as the gateway's settings say".to_owned(),
                    limit => limit.to_string(),
                };
                table.add_row([of, &shown]);
            }
            table.to_string()
        })
}

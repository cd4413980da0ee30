//! The app of a dev cluster, made at the first run with a generated secret.

use parlance_proto::admin::v1::CreateAppRequest;
use parlance_proto::common::v1::{AppLimits, TokenFormat};
use parlance_proto::ids::AppId;

use crate::admin::Admin;

/// Of a session and of a user: more than in production, so that scripts and load can be tried.
const MESSAGES_PER_SECOND: u32 = 1000;

/// The app's secret; the app is made if it is not there.
pub(super) async fn secret_of(admin: &mut Admin, app_id: &AppId) -> anyhow::Result<String> {
    let apps = admin.apps().await?;
    if !apps.iter().any(|app| app.app_id == app_id.as_str()) {
        let request = CreateAppRequest {
            app_id: app_id.into(),
            name: "Demo".to_owned(),
            limits: Some(AppLimits {
                session_messages_per_second: MESSAGES_PER_SECOND,
                user_messages_per_second: MESSAGES_PER_SECOND,
                app_messages_per_second: 0,
            }),
            ..CreateAppRequest::default()
        };
        let answer = admin.api.create_app(request).await;
        answer.map_err(|status| admin.failed("create the demo app", &status))?;
    }
    admin.app_secret(app_id, TokenFormat::Jwt).await
}

//! The app of a dev cluster, made at the first run with a generated secret.

use parlance_proto::admin::v1::{CreateAppRequest, ListAppsRequest};
use parlance_proto::ids::AppId;

use crate::admin::Admin;

/// The app's secret; the app is made if it is not there.
pub(super) async fn secret_of(admin: &mut Admin, app_id: &AppId) -> anyhow::Result<String> {
    let answer = admin.api.list_apps(ListAppsRequest {}).await;
    let apps = answer
        .map_err(|status| admin.failed("list apps", &status))?
        .into_inner()
        .apps;
    if !apps.iter().any(|app| app.app_id == app_id.as_str()) {
        let request = CreateAppRequest {
            app_id: app_id.into(),
            name: "Demo".to_owned(),
            ..CreateAppRequest::default()
        };
        let answer = admin.api.create_app(request).await;
        answer.map_err(|status| admin.failed("create the demo app", &status))?;
    }
    admin.app_secret(app_id).await
}

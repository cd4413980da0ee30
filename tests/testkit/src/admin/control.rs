//! What operators do to apps, people and certificates.

use anyhow::{Context, Result};
use parlance_proto::admin::v1 as proto;
use parlance_proto::common::v1::AppLimits;

use super::Admin;

impl Admin {
    /// An app with its secrets.
    pub async fn app(&mut self, app_id: &str) -> Result<proto::App> {
        let request = proto::GetAppRequest {
            app_id: app_id.to_owned(),
            with_secrets: true,
        };
        let answer = self.client.get_app(request).await?.into_inner();
        answer.app.context("an answer without an app")
    }

    pub async fn disable_app(&mut self, app_id: &str, disabled: bool) -> Result<()> {
        let request = proto::ChangeAppRequest {
            app_id: app_id.to_owned(),
            disabled: Some(disabled),
            ..proto::ChangeAppRequest::default()
        };
        self.client.change_app(request).await?;
        Ok(())
    }

    pub async fn set_limits(&mut self, app_id: &str, limits: AppLimits) -> Result<()> {
        let request = proto::SetAppLimitsRequest {
            app_id: app_id.to_owned(),
            limits: Some(limits),
        };
        self.client.set_app_limits(request).await?;
        Ok(())
    }

    pub async fn add_secret(&mut self, app_id: &str) -> Result<proto::AppSecret> {
        let request = proto::AddAppSecretRequest {
            app_id: app_id.to_owned(),
            ..proto::AddAppSecretRequest::default()
        };
        let answer = self.client.add_app_secret(request).await?.into_inner();
        answer.secret.context("an answer without a secret")
    }

    pub async fn retire_secret(&mut self, app_id: &str, secret_id: &str) -> Result<()> {
        let request = proto::RetireAppSecretRequest {
            app_id: app_id.to_owned(),
            secret_id: secret_id.to_owned(),
        };
        self.client.retire_app_secret(request).await?;
        Ok(())
    }

    /// Throws a user out; for a time, or until they have a new token.
    pub async fn kick(&mut self, app_id: &str, user_id: &str, for_ms: Option<u64>) -> Result<()> {
        let request = proto::KickUserRequest {
            app_id: app_id.to_owned(),
            user_id: user_id.to_owned(),
            for_ms,
            reason: "test".to_owned(),
        };
        self.client.kick_user(request).await?;
        Ok(())
    }

    /// The first page of an app's sessions.
    pub async fn sessions(&mut self, app_id: &str) -> Result<Vec<proto::Session>> {
        let request = proto::ListSessionsRequest {
            app_id: app_id.to_owned(),
            ..proto::ListSessionsRequest::default()
        };
        Ok(self
            .client
            .list_sessions(request)
            .await?
            .into_inner()
            .sessions)
    }

    pub async fn deny_certificate(&mut self, serial_hex: &str) -> Result<()> {
        let request = proto::DenyCertificateRequest {
            serial_hex: serial_hex.to_owned(),
            reason: "test".to_owned(),
            although_used: false,
        };
        self.client.deny_certificate(request).await?;
        Ok(())
    }

    pub async fn allow_certificate(&mut self, serial_hex: &str) -> Result<()> {
        let serial_hex = serial_hex.to_owned();
        let request = proto::AllowCertificateRequest { serial_hex };
        self.client.allow_certificate(request).await?;
        Ok(())
    }
}

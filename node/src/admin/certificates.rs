//! Certificates that nobody believes any more.

use parlance_proto::admin::v1::{
    AllowCertificateRequest, DeniedCertificate, DenyCertificateRequest,
};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::raft::v1::CertificateInUse;
use parlance_proto::store::v1::{AllowCertificate, DenyCertificate, MapNode, meta_command::Body};
use parlance_proto::tls::{CertificateFacts, Serial};

use crate::cluster::Runtime;

const REASON_BYTES_MAX: usize = 200;

/// Denies a certificate; answers the map's version. `own` is that of who asks.
pub(super) async fn deny(
    runtime: &Runtime,
    own: &CertificateFacts,
    ask: DenyCertificateRequest,
) -> Result<u64, Error> {
    let serial = serial(&ask.serial_hex)?;
    if ask.reason.len() > REASON_BYTES_MAX {
        let message = format!("at most {REASON_BYTES_MAX} bytes are allowed");
        return Err(Error::invalid("reason", message));
    }
    if serial == own.serial {
        let message = "it is the certificate of this very request: use another one to deny it";
        return Err(Error::new(ErrorCode::PreconditionFailed, message));
    }
    if let (Some(user), false) = (user_of(runtime, &serial), ask.although_used) {
        let message = format!(
            "{user} uses it now and would be cut off: give it another certificate first, or deny it with --although-used"
        );
        return Err(Error::new(ErrorCode::PreconditionFailed, message));
    }
    let certificate = parlance_proto::store::v1::DeniedCertificate {
        serial: serial.as_bytes().to_vec().into(),
        reason: ask.reason,
        denied_ms: 0, // the command's
    };
    let deny = DenyCertificate {
        certificate: Some(certificate),
    };
    let client = runtime.meta_client();
    client.propose(Body::DenyCertificate(deny)).await
}

/// Who has a certificate in use, as far as this node has heard.
fn user_of(runtime: &Runtime, serial: &Serial) -> Option<String> {
    let (view, state) = (runtime.view(), runtime.view().state());
    let is_used = |used: &Option<CertificateInUse>| {
        let used = used.as_ref();
        used.is_some_and(|used| used.serial == serial.as_bytes())
    };
    for id in state.members().map(MapNode::id) {
        let Some(heard) = view.heard.of(id) else {
            continue;
        };
        if is_used(&heard.health.certificate) {
            return Some(format!("node {id}"));
        }
        let mut links = heard.health.links.iter();
        if let Some(link) = links.find(|link| link.connected && is_used(&link.certificate)) {
            return Some(format!("gateway {}", link.gateway_id));
        }
    }
    None
}

/// Believes a certificate again; answers the map's version.
pub(super) async fn allow(runtime: &Runtime, ask: &AllowCertificateRequest) -> Result<u64, Error> {
    let serial = serial(&ask.serial_hex)?;
    if !runtime.view().state().denied().contains(&serial) {
        let message = format!("certificate {serial} is not denied");
        return Err(Error::new(ErrorCode::NotFound, message));
    }
    let allow = AllowCertificate {
        serial: serial.as_bytes().to_vec().into(),
    };
    let client = runtime.meta_client();
    client.propose(Body::AllowCertificate(allow)).await
}

/// All that are denied.
pub(super) fn list(runtime: &Runtime) -> Vec<DeniedCertificate> {
    let state = runtime.view().state();
    let denied = state.map().map_or(&[][..], |map| &map.denied_certificates);
    let shown = denied.iter().filter_map(|denied| {
        Some(DeniedCertificate {
            serial_hex: Serial::from_bytes(&denied.serial).ok()?.to_string(),
            reason: denied.reason.clone(),
            denied_ms: denied.denied_ms,
        })
    });
    shown.collect()
}

fn serial(hex: &str) -> Result<Serial, Error> {
    hex.parse()
        .map_err(|e: parlance_proto::tls::BadSerial| Error::invalid("serial_hex", e.to_string()))
}

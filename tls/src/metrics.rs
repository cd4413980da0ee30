//! Names of what is counted about certificates, alike in nodes and gateways. The label `certificate` is `cluster`, `ca` or
//! `listener-0` and so on.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const EXPIRES: &str = "parlance_certificate_expires_seconds";
const RELOADS: &str = "parlance_certificate_reloads_total";
const DENIED: &str = "parlance_certificate_denied_total";

/// Tells the recorder what the metrics mean; once, at start.
pub fn describe() {
    describe_gauge!(
        EXPIRES,
        "Unix time in seconds at which a certificate of this process ends (label certificate)"
    );
    describe_counter!(
        RELOADS,
        "certificate files that were read again after a change (labels certificate, result: ok, failed)"
    );
    describe_counter!(
        DENIED,
        "handshakes refused, and connections cut, because the other side's certificate is denied"
    );
}

pub(crate) fn expires(certificate: &str, unix_seconds: i64) {
    gauge!(EXPIRES, "certificate" => certificate.to_owned()).set(unix_seconds as f64);
    // There from the start: an alert on its growth would not see it come as 1.
    counter!(RELOADS, "certificate" => certificate.to_owned(), "result" => "failed").increment(0);
}

pub(crate) fn reloaded(certificate: &str, result: &'static str) {
    counter!(RELOADS, "certificate" => certificate.to_owned(), "result" => result).increment(1);
}

pub(crate) fn denied(certificates: usize) {
    counter!(DENIED).increment(certificates as u64);
}

//! Makes errors of the one kind that every protocol speaks, and says what each code means for the caller.

use std::time::Duration;

use crate::common::v1::{Error, ErrorCode};

impl Error {
    /// An error without a field.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            field: String::new(),
            retry_after_ms: 0,
        }
    }

    /// A bound is reached and nothing was done: the caller may try again after this time.
    pub fn overloaded(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            // 0 would say nothing.
            retry_after_ms: u32::try_from(retry_after.as_millis() + 1).unwrap_or(u32::MAX),
            ..Self::new(ErrorCode::Overloaded, message)
        }
    }

    /// A broken rule of one request field.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            ..Self::new(ErrorCode::InvalidArgument, message)
        }
    }

    /// Whether the same request, with the same ids, may succeed later.
    pub fn is_retryable(&self) -> bool {
        (400..500).contains(&self.code)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code().name(), self.message)?;
        if !self.field.is_empty() {
            write!(f, " (field {})", self.field)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl ErrorCode {
    /// The code in the form that logs, metrics and the CLI show, as in `token_expired`.
    pub fn name(self) -> String {
        self.as_str_name()
            .trim_start_matches("ERROR_CODE_")
            .to_ascii_lowercase()
    }

    /// The gRPC status that carries this code on the admin API.
    pub fn grpc(self) -> tonic::Code {
        use ErrorCode as E;
        match self {
            E::MalformedFrame | E::FrameTooLarge | E::InvalidArgument | E::PayloadTooLarge => {
                tonic::Code::InvalidArgument
            }
            E::Unsupported => tonic::Code::Unimplemented,
            E::NotLoggedIn | E::TokenInvalid | E::TokenExpired | E::AppUnknown => {
                tonic::Code::Unauthenticated
            }
            E::PermissionDenied | E::Kicked | E::AppDisabled => tonic::Code::PermissionDenied,
            E::AlreadyLoggedIn | E::PreconditionFailed => tonic::Code::FailedPrecondition,
            E::Conflict => tonic::Code::AlreadyExists,
            E::NotFound => tonic::Code::NotFound,
            E::Overloaded => tonic::Code::ResourceExhausted,
            E::Unavailable | E::ShuttingDown => tonic::Code::Unavailable,
            E::OutcomeUnknown => tonic::Code::DeadlineExceeded,
            E::Internal | E::Unspecified => tonic::Code::Internal,
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        use prost::Message;
        let details = error.encode_to_vec();
        tonic::Status::with_details(error.code().grpc(), error.message, details.into())
    }
}

/// The error inside a status of ours; a status of the transport becomes `unavailable` or `internal`.
pub fn from_status(status: &tonic::Status) -> Error {
    use prost::Message;
    if !status.details().is_empty()
        && let Ok(error) = Error::decode(status.details())
    {
        return error;
    }
    let code = match status.code() {
        tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::DeadlineExceeded => {
            ErrorCode::Unavailable
        }
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => ErrorCode::PermissionDenied,
        tonic::Code::Unimplemented => ErrorCode::Unsupported,
        _ => ErrorCode::Internal,
    };
    Error::new(code, status.message())
}

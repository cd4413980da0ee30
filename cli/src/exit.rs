//! Exit codes that scripts can use, from what went wrong.

use parlance_client::ClientError;
use parlance_proto::common::v1::Error;

/// The request is understood but cannot be done as asked: asking again in the same way will not help.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NotPossible(pub String);

/// A [`NotPossible`] as the error of a command.
pub fn not_possible(message: impl Into<String>) -> anyhow::Error {
    NotPossible(message.into()).into()
}

/// It worked.
pub const DONE: u8 = 0;
/// It failed: an address, a disk, a cluster that cannot serve now.
pub const FAILED: u8 = 1;
/// It cannot be done as asked.
pub const NOT_POSSIBLE: u8 = 2;
/// The command line was not understood (`EX_USAGE` of sysexits).
pub const BAD_USAGE: u8 = 64;

/// The exit code of a failed command. A reader that went away (`parlance … | head`) is no failure.
pub fn code_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::BrokenPipe
        {
            return DONE;
        }
        if cause.is::<NotPossible>() {
            return NOT_POSSIBLE;
        }
        if let Some(error) = cause.downcast_ref::<Error>() {
            return code_of_protocol(error);
        }
        if let Some(ClientError::Rejected(error)) = cause.downcast_ref::<ClientError>() {
            return code_of_protocol(error);
        }
    }
    FAILED
}

/// 1xx mend the request, 2xx ask for rights, 3xx the state says no: all of them say no to what was asked.
fn code_of_protocol(error: &Error) -> u8 {
    if (100..400).contains(&error.code) {
        NOT_POSSIBLE
    } else {
        FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use parlance_proto::common::v1::ErrorCode;

    #[test]
    fn the_cause_decides_whatever_the_context() {
        let with =
            |e: anyhow::Error| code_of(&e.context("create app").context("against 127.0.0.1:7100"));
        assert_eq!(with(not_possible("no such context")), NOT_POSSIBLE);
        assert_eq!(
            with(Error::new(ErrorCode::Conflict, "app exists").into()),
            NOT_POSSIBLE
        );
        assert_eq!(
            with(Error::new(ErrorCode::Unavailable, "no leader").into()),
            FAILED
        );
        assert_eq!(
            with(ClientError::Rejected(Error::new(ErrorCode::TokenExpired, "")).into()),
            NOT_POSSIBLE
        );
        assert_eq!(with(anyhow::anyhow!("disk on fire")), FAILED);
        let pipe: Result<(), _> = Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(code_of(&pipe.context("write").unwrap_err()), DONE);
    }
}

//! Who calls the admin API: operators only, by the certificate.

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::tls::Role;
use tonic::{Request, Response, Status};

use crate::audit::Who;
use crate::link::role_of_peer;

/// An operator, and what is asked.
pub(super) struct Caller {
    who: Who,
    action: &'static str,
}

/// The request of an operator and who it is; anybody else's is refused.
pub(super) fn of_admin<T>(
    request: Request<T>,
    action: &'static str,
) -> Result<(Caller, T), Status> {
    let role = role_of_peer(&request)?;
    let who = Who::of(&request);
    if role == Role::Admin {
        return Ok((Caller { who, action }, request.into_inner()));
    }
    let message = "the admin API needs a certificate with the role admin: parlance ca issue admin";
    let refused = Err::<(), _>(Error::new(ErrorCode::PermissionDenied, message));
    who.did(action, "", &refused);
    Err(Error::new(ErrorCode::PermissionDenied, message).into())
}

impl Caller {
    /// The answer to a change, or to what gives secrets away: noted before it goes out.
    pub(super) fn noted<T>(
        &self,
        subject: &str,
        result: Result<T, Error>,
    ) -> Result<Response<T>, Status> {
        self.who.did(self.action, subject, &result);
        Ok(Response::new(result?))
    }
}

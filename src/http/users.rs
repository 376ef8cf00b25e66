//! Registering, signing in and out.

use std::sync::Arc;

use axum::{Extension, extract::State};

use super::{
    App,
    answer::{Answer, Done},
    extract::{ClientAddress, Json, NoBody, SignedIn},
    problem::Problem,
    wire::account::{Credentials, NewUser, Refresh, SessionBody, UserBody},
};
use crate::service::Context;

/// Register
///
/// Makes an account with the role of a member. A retry with the same `Idempotency-Key`, e-mail and password gets the
/// account that the first try made.
#[utoipa::path(post, path = "/api/v1/users", tag = "accounts", security(()), request_body = NewUser, responses(
    (status = 201, description = "The account", body = UserBody),
    (status = 409, description = "`email_taken`"),
))]
pub(super) async fn register(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    request: Json<NewUser>,
) -> Result<Answer<UserBody>, Problem> {
    let account = request.value.parse()?;
    let seen = app
        .service
        .register(&context, request.write.key.as_ref(), account)
        .await?;
    Ok(Answer::created(seen, |user| UserBody::show(&user))
        .at(|_| "/api/v1/me".to_owned())
        .version(|user| user.version))
}

/// Sign in
///
/// Opens a session. Tokens are not stored, so a retry opens another session; the first one expires unused.
#[utoipa::path(post, path = "/api/v1/sessions", tag = "accounts", security(()), request_body = Credentials, responses(
    (status = 201, description = "The session with its tokens", body = SessionBody),
    (status = 401, description = "`bad_credentials`, whichever of the two is wrong"),
    (status = 429, description = "`too_many_attempts`: too many failed sign-ins of this account or from this address"),
))]
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    ClientAddress(address): ClientAddress,
    request: Json<Credentials>,
) -> Result<Answer<SessionBody>, Problem> {
    let (email, password) = request.value.parse()?;
    let seen = app
        .service
        .sign_in(&context, address, &email, password)
        .await?;
    Ok(Answer::created(seen, |session| SessionBody::show(&session)))
}

/// Refresh a session
///
/// Exchanges a refresh token for a new pair of tokens. Each token is good once: showing one again closes its session.
/// A retry with the same `Idempotency-Key` gets the same new refresh token, and does not.
#[utoipa::path(post, path = "/api/v1/sessions/refresh", tag = "accounts", security(()), request_body = Refresh, responses(
    (status = 201, description = "The session with its new tokens", body = SessionBody),
    (status = 401, description = "`session_unknown`, `refresh_token_reused`"),
))]
pub(super) async fn refresh(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    request: Json<Refresh>,
) -> Result<Answer<SessionBody>, Problem> {
    let seen = app
        .service
        .refresh(
            &context,
            request.write.key.as_ref(),
            &request.value.refresh_token,
        )
        .await?;
    Ok(Answer::created(seen, |session| SessionBody::show(&session)))
}

/// Sign out
///
/// Closes the session of this access token.
#[utoipa::path(delete, path = "/api/v1/sessions/current", tag = "accounts", responses(
    (status = 204, description = "The session is closed"),
))]
pub(super) async fn sign_out(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    SignedIn(caller): SignedIn,
    request: NoBody,
) -> Result<Done, Problem> {
    let index = app
        .service
        .sign_out(&context, &caller, &request.write)
        .await?;
    Ok(Done { index })
}

/// Sign out everywhere
///
/// Closes all sessions of this user.
#[utoipa::path(delete, path = "/api/v1/sessions", tag = "accounts", responses(
    (status = 204, description = "All sessions are closed"),
))]
pub(super) async fn sign_out_everywhere(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    SignedIn(caller): SignedIn,
    request: NoBody,
) -> Result<Done, Problem> {
    let index = app
        .service
        .sign_out_everywhere(&context, &caller, &request.write)
        .await?;
    Ok(Done { index })
}

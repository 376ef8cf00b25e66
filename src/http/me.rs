//! Everything about oneself.

use std::sync::Arc;

use axum::{Extension, extract::State, http::HeaderMap};

use super::{
    App,
    answer::{Answer, Done},
    extract::{Json, NoBody, Plain, Query, SignedIn, if_match},
    problem::Problem,
    wire::account::{ExportBody, PasswordChange, Profile, UserBody},
};
use crate::service::Context;

/// My account
#[utoipa::path(get, path = "/api/v1/me", tag = "me", responses(
    (status = 200, description = "The account", body = UserBody),
))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    query: Query<Plain>,
) -> Result<Answer<UserBody>, Problem> {
    let seen = app.service.me(&caller, query.consistency).await?;
    Ok(Answer::ok(seen, |user| UserBody::show(&user)).version(|user| user.version))
}

/// Change my account
#[utoipa::path(patch, path = "/api/v1/me", tag = "me", request_body = Profile,
    params(("If-Match" = Option<String>, Header, description = "Only if the account still has this `ETag`", min_length = 1, pattern = r#"^(\*|(W/)?"[^"]*")$"#)),
    responses(
        (status = 200, description = "The account as it is now", body = UserBody),
        (status = 412, description = "`version_mismatch`"),
))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    SignedIn(caller): SignedIn,
    headers: HeaderMap,
    request: Json<Profile>,
) -> Result<Answer<UserBody>, Problem> {
    let expected_version = if_match(&headers)?;
    let seen = match request.value.parse()? {
        Some(name) => {
            app.service
                .rename(&context, &caller, &request.write, name, expected_version)
                .await?
        }
        None => {
            app.service
                .me(&caller, crate::service::Consistency::Linearizable)
                .await?
        }
    };
    Ok(Answer::ok(seen, |user| UserBody::show(&user)).version(|user| user.version))
}

/// Change my password
///
/// Closes all other sessions of this user.
#[utoipa::path(post, path = "/api/v1/me/password", tag = "me", request_body = PasswordChange, responses(
    (status = 204, description = "The password is changed"),
    (status = 429, description = "`too_many_attempts`: the current password was wrong too often"),
))]
pub(super) async fn change_password(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    SignedIn(caller): SignedIn,
    request: Json<PasswordChange>,
) -> Result<Done, Problem> {
    let (current, new) = request.value.parse()?;
    let key = request.write.key.as_ref();
    let index = app
        .service
        .change_password(&context, &caller, key, current, new)
        .await?;
    Ok(Done { index })
}

/// Export my data
///
/// Everything that is stored about this user.
#[utoipa::path(get, path = "/api/v1/me/export", tag = "me", responses(
    (status = 200, description = "The data", body = ExportBody),
))]
pub(super) async fn export(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    query: Query<Plain>,
) -> Result<Answer<ExportBody>, Problem> {
    let seen = app.service.export(&caller, query.consistency).await?;
    Ok(Answer::ok(seen, |export| ExportBody::show(&export)))
}

/// Erase my account
///
/// Personal data, password and sessions go, upcoming bookings are cancelled; past bookings stay without a name.
#[utoipa::path(delete, path = "/api/v1/me", tag = "me", responses(
    (status = 204, description = "The account is erased"),
))]
pub(super) async fn erase(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    SignedIn(caller): SignedIn,
    request: NoBody,
) -> Result<Done, Problem> {
    let index = app.service.erase(&context, &caller, &request.write).await?;
    Ok(Done { index })
}

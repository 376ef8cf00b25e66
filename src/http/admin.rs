//! What administrators do. The operator's token opens all of it too.

use std::sync::Arc;

use axum::{Extension, extract::State};

use super::{
    App,
    answer::Answer,
    extract::{Administrator, Json, LargeJson, PathText},
    problem::Problem,
    wire::{
        account::{RoleChange, UserBody},
        booking::{ImportBody, ImportRequest},
        space::{SpaceBody, SpaceDocument},
    },
};
use crate::service::Context;

/// Put a space
///
/// Makes a space or changes one, with all its halls, zones and desks, recognised by slug, name and label. Putting the
/// same document again changes nothing; one that was interrupted is finished by putting it again.
#[utoipa::path(put, path = "/api/v1/admin/spaces/{slug}", tag = "admin", request_body = SpaceDocument,
    params(("slug" = String, Path, description = "The slug of the document")),
    responses(
        (status = 200, description = "The space as it is now", body = SpaceBody),
        (status = 201, description = "The space, which is new", body = SpaceBody),
        (status = 409, description = "`full`: there are as many halls or desks as there may be"),
        (status = 412, description = "`version_mismatch`: someone else changed it meanwhile"),
))]
pub(super) async fn put_space(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    Administrator(admin): Administrator,
    PathText(slug): PathText,
    LargeJson(request): LargeJson<SpaceDocument>,
) -> Result<Answer<SpaceBody>, Problem> {
    let plan = request.value.parse()?;
    if plan.details.slug.as_str() != slug {
        return Err(Problem::field(
            "/slug",
            "mismatch",
            "the slug of the document is not that of the path",
        ));
    }
    let (seen, is_new) = app
        .service
        .put_space(&context, &admin, &request.write, plan)
        .await?;
    let show = |space| SpaceBody::show(&space);
    Ok(if is_new {
        located(Answer::created(seen, show))
    } else {
        Answer::ok(seen, show)
    })
}

/// Make a space
///
/// As putting one, but refused where the slug is taken.
#[utoipa::path(post, path = "/api/v1/admin/spaces", tag = "admin", request_body = SpaceDocument, responses(
    (status = 201, description = "The space", body = SpaceBody),
    (status = 409, description = "`slug_taken`, `full`"),
))]
pub(super) async fn create_space(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    Administrator(admin): Administrator,
    LargeJson(request): LargeJson<SpaceDocument>,
) -> Result<Answer<SpaceBody>, Problem> {
    let plan = request.value.parse()?;
    let seen = app
        .service
        .create_space(&context, &admin, &request.write, plan)
        .await?;
    Ok(located(Answer::created(seen, |space| {
        SpaceBody::show(&space)
    })))
}

/// Give a user a role
#[utoipa::path(put, path = "/api/v1/admin/users/{user}/role", tag = "admin", request_body = RoleChange,
    params(("user" = String, Path, description = "The user's id or e-mail address")),
    responses((status = 200, description = "The user as it is now", body = UserBody)))]
pub(super) async fn set_role(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    Administrator(admin): Administrator,
    PathText(user): PathText,
    request: Json<RoleChange>,
) -> Result<Answer<UserBody>, Problem> {
    let role = request.value.role.into();
    let seen = app
        .service
        .set_role(&context, &admin, &request.write, &user, role)
        .await?;
    Ok(Answer::ok(seen, |user| UserBody::show(&user)).version(|user| user.version))
}

/// Bring in bookings
///
/// A page of bookings of one space, past ones too. The booking window and the limits of users do not apply, all other
/// rules do; rows that they refuse are left out and named.
#[utoipa::path(post, path = "/api/v1/admin/bookings/import", tag = "admin", request_body = ImportRequest, responses(
    (status = 200, description = "What became of the rows", body = ImportBody),
    (status = 404, description = "`not_found`: there is no such space"),
    (status = 409, description = "`stale_schedule`: the schedule kept changing meanwhile"),
))]
pub(super) async fn import(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    Administrator(admin): Administrator,
    LargeJson(request): LargeJson<ImportRequest>,
) -> Result<Answer<ImportBody>, Problem> {
    let lines = request.value.parse()?;
    let seen = app
        .service
        .import(
            &context,
            &admin,
            &request.write,
            &request.value.space,
            &lines,
        )
        .await?;
    Ok(Answer::ok(seen, |imported| ImportBody::show(&imported)))
}

fn located(answer: Answer<SpaceBody>) -> Answer<SpaceBody> {
    answer.at(|space| format!("/api/v1/spaces/{}", space.summary.id))
}

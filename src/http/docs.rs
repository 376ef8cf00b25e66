//! What explains the API: the OpenAPI document, a browser for it, and the list of problems.
//!
//! The browser's files are compiled in; nothing is loaded from another host, and the content security policy says so.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Response, header},
    middleware::{self, Next},
    response::{Html, IntoResponse},
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{App, problem::Code};

const DOCUMENT_PATH: &str = "/api/v1/openapi.json";
const BROWSER_PATH: &str = "/api/docs";
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The OpenAPI document
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "docs", security(()), responses(
    (status = 200, description = "The document", body = serde_json::Value),
))]
pub(super) async fn openapi(State(app): State<Arc<App>>) -> Response<Body> {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], app.openapi.clone()).into_response()
}

/// The list of problems
///
/// Every code that a problem may have, for people.
#[utoipa::path(get, path = "/api/docs/problems", tag = "docs", security(()), responses(
    (status = 200, description = "The list", body = String, content_type = "text/html"),
))]
pub(super) async fn problems() -> Response<Body> {
    let row = |code: &Code| {
        let (name, title) = (code.as_str(), code.title());
        let retry = if code.retryable() { "yes" } else { "no" };
        let status = code.status().as_u16();
        format!(
            "<tr id=\"{name}\"><td><code>{name}</code></td><td>{status}</td><td>{retry}</td><td>{title}</td></tr>\n"
        )
    };
    let rows: String = Code::ALL.iter().map(row).collect();
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Mesto: problems</title>\n\
         <style>body{{font-family:sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         td,th{{text-align:left;padding:.3rem .8rem .3rem 0;vertical-align:top}}tr:target{{background:#ffd}}</style>\n\
         </head><body><h1>Problems</h1>\n<p>Each failure is an RFC 9457 problem with one of these codes. \
         <em>Retry</em> says whether the same request may succeed later without being changed.</p>\n\
         <table><thead><tr><th>Code</th><th>Status</th><th>Retry</th><th>Meaning</th></tr></thead>\n\
         <tbody>\n{rows}</tbody></table></body></html>\n"
    );
    let mut response = Html(page).into_response();
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    response
}

/// The browser for the document.
pub(super) fn browser() -> Router<Arc<App>> {
    let router: Router<Arc<App>> = SwaggerUi::new(BROWSER_PATH)
        .config(Config::from(DOCUMENT_PATH))
        .into();
    router.layer(middleware::from_fn(only_from_here))
}

async fn only_from_here(request: Request, next: Next) -> Response<Body> {
    let mut response = next.run(request).await;
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    response
}

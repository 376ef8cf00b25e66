//! What every operation of the OpenAPI document has in common, added in one place.
//!
//! Handlers document what is theirs. The problems that any call may answer, the headers that any call takes and gives,
//! and the parameters that all reads share are added here, so that none is forgotten.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use utoipa::{
    OpenApi,
    openapi::{
        OpenApi as Document,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    problem::Code,
    wire::{FieldErrorBody, ProblemBody},
};

/// The document without its operations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Mesto",
        description = "Books desks in coworking spaces. Any node answers any call; the guide docs/api.md tells about retries and consistency.",
        license(name = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "This node")),
    components(schemas(ProblemBody, FieldErrorBody)),
    security(("bearer" = [])),
    tags(
        (name = "accounts", description = "Registering, signing in and out"),
        (name = "me", description = "Everything about oneself"),
        (name = "spaces", description = "Spaces, what is free in them, what changes in them"),
        (name = "bookings", description = "Bookings"),
        (name = "admin", description = "For administrators and the operator's token"),
        (name = "cluster", description = "For administrators and the operator's token"),
        (name = "health", description = "For probes and Prometheus"),
        (name = "docs", description = "What explains the API"),
    ),
)]
struct Frame;

/// The document without its operations.
pub(super) fn frame() -> Document {
    let mut document = Frame::openapi();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("The access token of a session; for administrators' and operators' calls the operator's token too"))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    document
}

/// The document, with what all operations have in common.
pub(super) fn complete(document: Document) -> String {
    let mut document = serde_json::to_value(document)
        .expect("the document holds nothing but texts, numbers and maps");
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, operations) in paths {
            for (method, operation) in operations.as_object_mut().into_iter().flatten() {
                if let Some(operation) = operation.as_object_mut() {
                    complete_operation(path, method, operation);
                }
            }
        }
    }
    document.to_string()
}

fn complete_operation(path: &str, method: &str, operation: &mut Map<String, Value>) {
    let is_api = path.starts_with("/api/v1/") && !path.ends_with("openapi.json");
    let is_read = method == "get";
    let takes_consistency = is_api && is_read && !path.ends_with("/events");
    let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
    if let Some(parameters) = parameters.as_array_mut() {
        for parameter in parameters.iter_mut() {
            without_null(&mut parameter["schema"]);
        }
        parameters.extend(common_parameters(is_api, is_read, takes_consistency));
    }
    let responses = operation.entry("responses").or_insert_with(|| json!({}));
    if let Some(responses) = responses.as_object_mut() {
        for code in common_codes(path, is_api, is_read) {
            let status = code.status().as_u16().to_string();
            let response = responses
                .entry(status)
                .or_insert_with(|| json!({"description": ""}));
            describe(response, code);
        }
        for (status, response) in responses {
            complete_response(status, response);
        }
    }
}

/// A parameter is there or it is not: neither a header nor a query string can say null.
fn without_null(schema: &mut Value) {
    let kinds = schema["type"].as_array().cloned().unwrap_or_default();
    let mut others = kinds.into_iter().filter(|kind| kind != "null");
    if let (Some(only), None) = (others.next(), others.next()) {
        schema["type"] = only;
    }
}

fn common_parameters(is_api: bool, is_read: bool, takes_consistency: bool) -> Vec<Value> {
    let mut parameters = vec![header(
        "X-Request-Id",
        "Follows the request through logs; made where none of use is sent, for instance where it is longer than 128 bytes",
        json!({"type": "string"}),
    )];
    if is_api {
        let index = json!({"type": "integer", "format": "int64", "minimum": 0});
        parameters.push(header(
            "Mesto-Min-Index",
            "Waits, bounded, until this node has applied this log index",
            index,
        ));
    }
    if is_api && !is_read {
        let key =
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"});
        parameters.push(header(
            "Idempotency-Key",
            "The same key gets the same answer, for at least 24 hours",
            key,
        ));
    }
    if takes_consistency {
        let levels =
            json!({"type": "string", "enum": ["linearizable", "local"], "default": "linearizable"});
        parameters.push(query(
            "consistency",
            "`local` reads this node's state at once",
            levels,
        ));
        let bound = json!({"type": "integer", "format": "int64", "minimum": 0});
        parameters.push(query(
            "max_staleness_ms",
            "With `consistency=local`, and refused without it: how old the answer may be at most",
            bound,
        ));
    }
    parameters
}

fn header(name: &str, description: &str, schema: Value) -> Value {
    parameter("header", name, description, schema)
}

fn query(name: &str, description: &str, schema: Value) -> Value {
    parameter("query", name, description, schema)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the schema becomes part of the parameter"
)]
fn parameter(place: &str, name: &str, description: &str, schema: Value) -> Value {
    json!({"in": place, "name": name, "description": description, "required": false, "schema": schema})
}

/// The problems that a call may answer whatever it is about.
fn common_codes(path: &str, is_api: bool, is_read: bool) -> BTreeSet<Code> {
    let mut codes = BTreeSet::from([
        Code::UriTooLong,
        Code::HeaderTooLarge,
        Code::Overloaded,
        Code::Internal,
        Code::TimedOut,
        Code::MethodNotAllowed,
    ]);
    if !is_api {
        return codes;
    }
    codes.extend([
        Code::InvalidQuery,
        Code::InvalidHeader,
        Code::Unauthenticated,
        Code::TokenExpired,
    ]);
    codes.extend([Code::NoLeader, Code::IndexNotReached, Code::Unavailable]);
    if path.contains('{') {
        codes.insert(Code::NotFound);
    }
    if path.contains("/admin/") || path.contains("/cluster") {
        codes.insert(Code::Forbidden);
    }
    if is_read {
        codes.extend([Code::TooStale, Code::InvalidCursor]);
    } else {
        codes.extend([
            Code::MalformedJson,
            Code::InvalidFields,
            Code::IdempotencyKeyReused,
            Code::PayloadTooLarge,
        ]);
        codes.extend([
            Code::UnsupportedMediaType,
            Code::RequestTimeout,
            Code::OutcomeUnknown,
            Code::Forbidden,
        ]);
    }
    if path.ends_with("/bookings") || path.ends_with("/bookings/{id}") {
        codes.extend([
            Code::OffGrid,
            Code::OutsideOpeningHours,
            Code::Closed,
            Code::InThePast,
        ]);
        codes.extend([Code::TooShortNotice, Code::TooFarAhead, Code::TooLong]);
    }
    codes
}

/// Names a code in the description of its status, once.
fn describe(response: &mut Value, code: Code) {
    let name = format!("`{}`", code.as_str());
    let described = response
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_owned();
    if !described.contains(&name) {
        let separator = if described.is_empty() { "" } else { ", " };
        response["description"] = format!("{described}{separator}{name}").into();
    }
}

/// Gives each answer the headers that all have, and each failure its body.
fn complete_response(status: &str, response: &mut Value) {
    let text =
        |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let headers = response
        .as_object_mut()
        .map(|response| response.entry("headers").or_insert_with(|| json!({})));
    if let Some(headers) = headers {
        headers["Mesto-Index"] = json!({
            "description": "The log index that the answer reflects", "schema": {"type": "integer", "format": "int64"}
        });
        headers["X-Request-Id"] = text("The id under which the request is in the log");
        if matches!(status, "429" | "503") {
            headers["Retry-After"] =
                json!({"description": "Seconds", "schema": {"type": "integer"}});
        }
        if status == "405" {
            headers["Allow"] = text("The methods that the path takes");
        }
    }
    if status.starts_with(['4', '5']) {
        response["content"] = json!({
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
        });
    }
}

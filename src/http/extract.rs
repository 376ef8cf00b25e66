//! What handlers take out of a request, each failure of it a problem.
//!
//! Bodies are bounded before they are parsed, must say that they are JSON, and take no unknown field. A write takes no
//! query string and may carry an `Idempotency-Key`; a read takes the consistency parameters and its own, and no other.
//! A body that is asked for twice with the same key is compared in a canonical form, in which the order of members and
//! white space do not count.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, HeaderName, header, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    App,
    problem::{Code, Problem},
    shell::Asker,
    wire::Fields,
};
use crate::{
    booking::Fingerprint,
    limits::{Limits, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX},
    service::{Admin, Caller, Consistency, FieldError, IdempotencyKey, Write},
};

/// The client's key for safe retries.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A signed-in user.
#[derive(Debug, Clone, Copy)]
pub struct SignedIn(pub Caller);

/// Anyone; but whoever sends a token must send a good one.
#[derive(Debug, Clone, Copy)]
pub struct Anyone;

/// Someone who may do what administrators may.
#[derive(Debug, Clone, Copy)]
pub struct Administrator(pub Admin);

/// A JSON body of the usual length, and what makes the write safe to retry.
#[derive(Debug)]
pub struct Json<T> {
    /// The body.
    pub value: T,
    /// The client's key, and the fingerprint of the request.
    pub write: Write,
}

/// As [`Json`], for whole spaces and pages of imports.
#[derive(Debug)]
pub struct LargeJson<T>(pub Json<T>);

/// A write without a body; an empty object is taken too.
#[derive(Debug)]
pub struct NoBody {
    /// The client's key, and the fingerprint of the request.
    pub write: Write,
}

/// The query of a read.
#[derive(Debug)]
pub struct Query<T> {
    /// The call's own parameters.
    pub value: T,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// Parameters that a read takes.
pub trait Parameters: Sized {
    /// Their names, and whether each may be repeated.
    const NAMES: &'static [(&'static str, bool)];
    /// Takes them out of what was sent.
    ///
    /// # Errors
    /// Says what is wrong.
    fn take(given: &mut Given) -> Result<Self, Problem>;
}

/// No parameters of its own.
#[derive(Debug)]
pub struct Plain;

/// A page of a list.
#[derive(Debug)]
pub struct PageOf<C> {
    /// Where it begins.
    pub cursor: Option<C>,
    /// How many items.
    pub limit: usize,
}

/// Parameters as they were sent.
#[derive(Debug, Default)]
pub struct Given(BTreeMap<String, Vec<String>>);

impl Given {
    /// A parameter that may be sent once.
    pub fn one(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).and_then(|mut values| values.pop())
    }

    /// A parameter that may be repeated.
    pub fn all(&mut self, name: &str) -> Vec<String> {
        self.0.remove(name).unwrap_or_default()
    }

    /// A whole number.
    ///
    /// # Errors
    /// Where it is not one, or not within the bounds.
    pub fn number(
        &mut self,
        name: &str,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Problem> {
        let Some(text) = self.one(name) else {
            return Ok(None);
        };
        let digits =
            (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(number) if digits && bounds.contains(&number) => Ok(Some(number)),
            _ => {
                let (from, to) = bounds.into_inner();
                let range = if to == u64::MAX {
                    "a whole number".to_owned()
                } else {
                    format!("{from} to {to}")
                };
                Err(bad_query(name, &format!("it must be {range}")))
            }
        }
    }
}

/// A parameter that is not what it should be.
pub fn bad_query(name: &str, why: &str) -> Problem {
    Problem::new(Code::InvalidQuery, format!("{name}: {why}")).with("parameter", name)
}

impl Parameters for Plain {
    const NAMES: &'static [(&'static str, bool)] = &[];

    fn take(_given: &mut Given) -> Result<Self, Problem> {
        Ok(Self)
    }
}

impl<C: std::str::FromStr> Parameters for PageOf<C> {
    const NAMES: &'static [(&'static str, bool)] = &[("cursor", false), ("limit", false)];

    fn take(given: &mut Given) -> Result<Self, Problem> {
        let most = u64::try_from(PAGE_ITEMS_MAX).unwrap_or(u64::MAX);
        let limit = given.number("limit", 1..=most)?;
        let limit = limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(PAGE_ITEMS_DEFAULT);
        let cursor = match given.one("cursor") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                Problem::new(
                    Code::InvalidCursor,
                    "the cursor is not one that this API gave",
                )
            })?),
        };
        Ok(Self { cursor, limit })
    }
}

impl<T: Parameters> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &Arc<App>) -> Result<Self, Problem> {
        let mut given = Given::default();
        for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes()) {
            let known = T::NAMES.iter().find(|(known, _)| *known == name);
            let repeatable = known.is_some_and(|(_, repeatable)| *repeatable);
            if known.is_none() && name != "consistency" && name != "max_staleness_ms" {
                return Err(bad_query(&bounded(&name), "this call does not take it"));
            }
            let values = given.0.entry(name.clone().into_owned()).or_default();
            values.push(value.into_owned());
            if values.len() > 1 && !repeatable {
                return Err(bad_query(&name, "it may be sent once"));
            }
        }
        let consistency = consistency(&mut given)?;
        Ok(Self {
            value: T::take(&mut given)?,
            consistency,
        })
    }
}

fn consistency(given: &mut Given) -> Result<Consistency, Problem> {
    let max_staleness_ms = given.number("max_staleness_ms", 0..=u64::MAX)?;
    match (given.one("consistency").as_deref(), max_staleness_ms) {
        (Some("local"), max_staleness_ms) => Ok(Consistency::Local { max_staleness_ms }),
        (Some("linearizable") | None, None) => Ok(Consistency::Linearizable),
        (Some("linearizable") | None, Some(_)) => Err(bad_query(
            "max_staleness_ms",
            "it goes with consistency=local",
        )),
        (Some(_), _) => Err(bad_query("consistency", "it is linearizable or local")),
    }
}

impl FromRequestParts<Arc<App>> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)?.ok_or_else(|| {
            Problem::new(Code::Unauthenticated, "sign in and send the access token")
        })?;
        let caller = app.service.authenticate(token).await?;
        note(parts, &caller.user);
        Ok(Self(caller))
    }
}

impl FromRequestParts<Arc<App>> for Anyone {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        if let Some(token) = bearer(&parts.headers)?
            && !app.service.is_operator_token(token)
        {
            let caller = app.service.authenticate(token).await?;
            note(parts, &caller.user);
        }
        Ok(Self)
    }
}

impl FromRequestParts<Arc<App>> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)?.ok_or_else(|| {
            Problem::new(Code::Unauthenticated, "sign in and send the access token")
        })?;
        let admin = app.service.authenticate_admin(token).await?;
        match &admin {
            Admin::User(caller) => note(parts, &caller.user),
            Admin::Operator => note(parts, &"operator"),
        }
        Ok(Self(admin))
    }
}

fn note(parts: &Parts, who: &dyn std::fmt::Display) {
    if let Some(asker) = parts.extensions.get::<Asker>() {
        asker.note(who);
    }
}

/// The token of `Authorization: Bearer <token>`.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bad = || {
        Problem::new(
            Code::Unauthenticated,
            "the Authorization header must be: Bearer, a space, the token",
        )
    };
    if values.next().is_some() {
        return Err(bad());
    }
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(bad)?;
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains(' ') {
        return Err(bad());
    }
    Ok(Some(token))
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        json(
            request,
            app.service.limits(),
            app.service.limits().body_bytes,
        )
        .await
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for LargeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        json(
            request,
            app.service.limits(),
            app.service.limits().page_body_bytes,
        )
        .await
        .map(Self)
    }
}

impl FromRequest<Arc<App>> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let start = start_of(&request)?;
        let body = read(
            request,
            app.service.limits(),
            app.service.limits().body_bytes,
        )
        .await?;
        if !body.is_empty() {
            let value: Value = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
            match value {
                Value::Object(members) if members.is_empty() => {}
                Value::Object(members) => {
                    let unknown = members.keys().map(|name| {
                        FieldError::new(
                            &format!("/{}", bounded(name)),
                            "unknown_field",
                            "this call takes no fields",
                        )
                    });
                    return Err(Problem::fields(unknown.take(8).collect()));
                }
                _ => return Err(Problem::field("", "wrong_type", "this call takes no body")),
            }
        }
        Ok(Self {
            write: start.write(b""),
        })
    }
}

/// What a write is, apart from its body.
struct Start {
    method: String,
    path: String,
    key: Option<IdempotencyKey>,
}

impl Start {
    fn write(self, canonical: &[u8]) -> Write {
        let fingerprint =
            Fingerprint::of(&[self.method.as_bytes(), self.path.as_bytes(), canonical]);
        Write {
            key: self.key,
            fingerprint,
        }
    }
}

fn start_of(request: &Request) -> Result<Start, Problem> {
    if request.uri().query().is_some_and(|query| !query.is_empty()) {
        return Err(Problem::new(
            Code::InvalidQuery,
            "a write takes no query parameters",
        ));
    }
    Ok(Start {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        key: idempotency_key(request.headers())?,
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = value
        .to_str()
        .ok()
        .and_then(IdempotencyKey::parse)
        .filter(|_| values.next().is_none());
    key.map(Some).ok_or_else(|| {
        Problem::new(
            Code::InvalidHeader,
            "Idempotency-Key must be sent once, 1 to 255 visible ASCII characters",
        )
    })
}

async fn json<T: DeserializeOwned>(
    request: Request,
    limits: &Limits,
    max_bytes: usize,
) -> Result<Json<T>, Problem> {
    let start = start_of(&request)?;
    if !is_json(request.headers()) {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            "send the body as application/json",
        ));
    }
    let body = read(request, limits, max_bytes).await?;
    let value = parse(&body)?;
    // What has just been parsed into a type is JSON, so this cannot fail; maps are sorted by key.
    let canonical: Value = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    Ok(Json {
        value,
        write: start.write(canonical.to_string().as_bytes()),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("application/json")
}

async fn read(request: Request, limits: &Limits, max_bytes: usize) -> Result<Bytes, Problem> {
    let too_long = || {
        Problem::new(
            Code::PayloadTooLarge,
            format!("the body may have {max_bytes} bytes"),
        )
    };
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if announced
        .and_then(|text| text.parse::<usize>().ok())
        .is_some_and(|length| length > max_bytes)
    {
        return Err(too_long());
    }
    // A body gets half of the request's time, so that a slow one is told so while it is certain that nothing happened.
    let patience = Duration::from_millis(limits.request_ms / 2);
    let body = axum::body::to_bytes(request.into_body(), max_bytes);
    match tokio::time::timeout(patience, body).await {
        Err(_) => Err(Problem::new(
            Code::RequestTimeout,
            "the body took too long to arrive",
        )),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            use std::error::Error;
            let is_limit = error
                .source()
                .is_some_and(<dyn Error>::is::<http_body_util::LengthLimitError>);
            if is_limit {
                Err(too_long())
            } else {
                Err(Problem::new(Code::BadRequest, "the body broke off"))
            }
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        let inner = error.into_inner();
        if inner.is_data() {
            bad_field(&pointer, &inner)
        } else {
            malformed(&inner)
        }
    })?;
    reader.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Problem {
    let detail = format!(
        "the body is not valid JSON at line {}, column {}",
        error.line(),
        error.column()
    );
    Problem::new(Code::MalformedJson, detail)
}

/// What the parser says about a field, without the values that it may quote.
fn bad_field(pointer: &str, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let named = |prefix: &str| {
        text.strip_prefix(prefix)
            .and_then(|rest| rest.split('`').next())
            .map(|name| bounded(name).into_owned())
    };
    if let Some(name) = named("unknown field `") {
        let parent = pointer
            .strip_suffix(&format!("/{}", escape(&name)))
            .unwrap_or(pointer);
        let pointer = format!("{parent}/{}", escape(&name));
        return Problem::field(
            &pointer,
            "unknown_field",
            "this call does not take this field",
        );
    }
    if let Some(name) = named("missing field `") {
        return Problem::field(
            &format!("{pointer}/{name}"),
            "missing_field",
            "this field is needed",
        );
    }
    if let Some(name) = named("duplicate field `") {
        return Problem::field(
            &format!("{pointer}/{name}"),
            "duplicate_field",
            "this field is there twice",
        );
    }
    if text.starts_with("unknown variant") {
        return Problem::field(
            pointer,
            "unknown_value",
            "this field does not take this value",
        );
    }
    Problem::field(
        pointer,
        "wrong_type",
        "this field has another type, or is out of its range",
    )
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", escape(&bounded(key)))),
            Segment::Enum { variant } => Some(format!("/{variant}")),
            Segment::Unknown => None,
        })
        .collect()
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A name that a client made up, no longer than is useful in an answer.
fn bounded(name: &str) -> std::borrow::Cow<'_, str> {
    match name.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &name[..end]).into(),
        None => name.into(),
    }
}

/// The version that `If-Match` asks for. `*` asks for none; a tag that is not one of ours matches nothing.
///
/// # Errors
/// Where the header is not an entity tag.
pub fn if_match(headers: &HeaderMap) -> Result<Option<u32>, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bad = || {
        Problem::new(
            Code::InvalidHeader,
            "If-Match must be one entity tag, as the ETag header gave it",
        )
    };
    if values.next().is_some() {
        return Err(bad());
    }
    let text = value.to_str().map_err(|_| bad())?.trim();
    if text == "*" {
        return Ok(None);
    }
    let weak = text.starts_with("W/");
    let tag = text.strip_prefix("W/").unwrap_or(text);
    let inner = tag
        .strip_prefix('"')
        .and_then(|tag| tag.strip_suffix('"'))
        .filter(|tag| !tag.contains('"'));
    let inner = inner.ok_or_else(bad)?;
    // Versions begin with 1, so 0 matches nothing; a weak tag never matches here.
    let version = inner
        .strip_prefix('v')
        .and_then(|digits| digits.parse().ok())
        .filter(|_| !weak);
    Ok(Some(version.unwrap_or(0)))
}

/// The id in a path. What is not an id names nothing.
///
/// # Errors
/// `not_found`.
pub fn id_in_path<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|_| Problem::new(Code::NotFound, format!("there is no such {what}")))
}

/// One text of the path.
#[derive(Debug)]
pub struct PathText(pub String);

impl FromRequestParts<Arc<App>> for PathText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let Path(text) =
            path.map_err(|_| Problem::new(Code::NotFound, "there is nothing at this path"))?;
        Ok(Self(text))
    }
}

/// The address of the client, as the connection has it. Headers of proxies are not believed.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

impl FromRequestParts<Arc<App>> for ClientAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &Arc<App>) -> Result<Self, Problem> {
        let connected = parts.extensions.get::<ConnectInfo<std::net::SocketAddr>>();
        let address = connected.map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(address)| {
            address.ip()
        });
        Ok(Self(address.to_canonical()))
    }
}

/// Ends a request whose fields were collected.
///
/// # Errors
/// All that was noted.
pub fn finish<T>(fields: Fields, value: Option<T>) -> Result<T, Problem> {
    fields.finish(value).map_err(Problem::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().expect("a header value"));
        }
        headers
    }

    #[test]
    fn an_entity_tag_is_a_version_in_quotes() {
        let version = |text: &str| {
            if_match(&headers(&header::IF_MATCH, &[text])).map_err(|problem| problem.code())
        };
        assert_eq!(version("\"v3\""), Ok(Some(3)));
        assert_eq!(version("*"), Ok(None));
        for other in ["\"3\"", "\"vv\"", "W/\"v3\"", "\"\"", "\"v99999999999\""] {
            assert_eq!(version(other), Ok(Some(0)), "{other}");
        }
        for bad in ["v3", "\"v3", "\"v1\", \"v2\"", ""] {
            assert_eq!(version(bad), Err(Code::InvalidHeader), "{bad}");
        }
        assert_eq!(if_match(&HeaderMap::new()).ok(), Some(None));
    }

    #[test]
    fn a_bearer_token_stands_alone() {
        let token = |values: &[&str]| {
            bearer(&headers(&header::AUTHORIZATION, values))
                .map(|token| token.map(str::to_owned))
                .map_err(|problem| problem.code())
        };
        assert_eq!(token(&["Bearer abc"]), Ok(Some("abc".to_owned())));
        assert_eq!(token(&["bearer abc"]), Ok(Some("abc".to_owned())));
        assert_eq!(token(&[]), Ok(None));
        for bad in [
            &["abc"][..],
            &["Basic abc"],
            &["Bearer "],
            &["Bearer a b"],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(token(bad), Err(Code::Unauthenticated), "{bad:?}");
        }
    }
}

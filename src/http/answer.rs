//! Answers that went well.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;

use super::shell::AnswerIndex;
use crate::service::Seen;

/// A JSON body with its status, and the log index that it reflects.
#[derive(Debug)]
pub struct Answer<T> {
    status: StatusCode,
    index: u64,
    body: T,
    location: Option<String>,
    version: Option<u32>,
}

/// Nothing to tell.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// The log index that the answer reflects.
    pub index: u64,
}

impl<T> Answer<T> {
    /// 200, made from what was seen.
    pub fn ok<S>(seen: Seen<S>, show: impl FnOnce(S) -> T) -> Self {
        Self {
            status: StatusCode::OK,
            index: seen.index,
            body: show(seen.value),
            location: None,
            version: None,
        }
    }

    /// 201, made from what was seen.
    pub fn created<S>(seen: Seen<S>, show: impl FnOnce(S) -> T) -> Self {
        Self {
            status: StatusCode::CREATED,
            ..Self::ok(seen, show)
        }
    }

    /// Says where the thing is.
    #[must_use]
    pub fn at(mut self, location: impl FnOnce(&T) -> String) -> Self {
        self.location = Some(location(&self.body));
        self
    }

    /// Says which version of the thing this is.
    #[must_use]
    pub fn version(mut self, version: impl FnOnce(&T) -> u32) -> Self {
        self.version = Some(version(&self.body));
        self
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response<Body> {
        let mut response = axum::Json(self.body).into_response();
        *response.status_mut() = self.status;
        response.extensions_mut().insert(AnswerIndex(self.index));
        let headers = response.headers_mut();
        if let Some(location) = self
            .location
            .and_then(|location| HeaderValue::try_from(location).ok())
        {
            headers.insert(header::LOCATION, location);
        }
        if let Some(tag) = self
            .version
            .and_then(|version| HeaderValue::try_from(format!("\"v{version}\"")).ok())
        {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

impl IntoResponse for Done {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.extensions_mut().insert(AnswerIndex(self.index));
        response
    }
}

//! Why a use case has no outcome.

use serde_json::{Value, json};

use crate::{
    booking::Refusal,
    replica::{ControlError, ProposeError, ReadError},
};

/// Why a use case has no outcome. What each means to a client is said in one place, beside the HTTP code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The state machine said no.
    Refused(Box<Refused>),
    /// The command has no reply.
    Propose(ProposeError),
    /// The state could not be read as asked.
    Read(ReadError),
    /// An operator's request was not carried out.
    Control(ControlError),
    /// Fields are not what they should be.
    Fields(Vec<FieldError>),
    /// A cursor that was not given by this service.
    Cursor,
    /// No valid access token.
    Unauthenticated,
    /// An access token whose time is over.
    TokenExpired,
    /// Wrong e-mail or password.
    BadCredentials,
    /// Not with this role.
    Forbidden,
    /// No such thing, or not one that the caller may know of.
    NotFound(&'static str),
    /// Too many failed sign-ins.
    TooManyAttempts {
        /// When the next may be made.
        retry_after_s: u64,
    },
    /// A queue is full.
    Busy,
    /// What was asked took effect, wholly or in part, before this went wrong.
    After(Box<Failure>),
    /// A defect; the text is for the log.
    Internal(&'static str),
}

/// A refusal, and what may help the one who was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What the state machine said.
    pub refusal: Refusal,
    /// The log index at which it said so.
    pub index: u64,
    /// For a taken desk: others of the same hall that are free at that time, by id and label.
    pub alternatives: Vec<(String, String)>,
}

/// One field that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// A JSON pointer into the body.
    pub pointer: String,
    /// Stable, snake case.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

impl FieldError {
    /// A field error.
    pub fn new(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.to_owned(),
            code,
            detail: detail.into(),
        }
    }

    /// The member of a problem's `errors`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"pointer": self.pointer, "code": self.code, "detail": self.detail})
    }
}

impl Failure {
    /// One field that is not what it should be.
    pub fn field(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::Fields(vec![FieldError::new(pointer, code, detail)])
    }

    /// The same, after something took effect. To be called wherever a use case can still fail once a command of its
    /// was decided: every other variant promises that nothing happened, unless it says itself that nobody knows.
    #[must_use]
    pub fn after(self) -> Self {
        match self {
            Self::After(_) => self,
            first => Self::After(Box::new(first)),
        }
    }

    /// Whether this node alone said no, before anything was proposed: by the request, or by the state that it has.
    pub(super) fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Fields(_)
                | Self::NotFound(_)
                | Self::Forbidden
                | Self::BadCredentials
                | Self::Internal(_)
        )
    }

    /// A refusal with nothing to help.
    #[must_use]
    pub fn refused(refusal: Refusal, index: u64) -> Self {
        Self::Refused(Box::new(Refused {
            refusal,
            index,
            alternatives: Vec::new(),
        }))
    }
}

impl From<ProposeError> for Failure {
    fn from(error: ProposeError) -> Self {
        Self::Propose(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

impl From<super::passwords::Busy> for Failure {
    fn from(_: super::passwords::Busy) -> Self {
        Self::Busy
    }
}

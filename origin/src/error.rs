//! From what went wrong to what the client is told: one match, a stable code, nothing of the inside.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use shared::access_token;
use shared::error_shape::Shape;
use shared::problem::{self, Problem};

use crate::infer::InferError;
use crate::provider::ProviderError;
use crate::quota::{QuotaError, Refusal, storage_headers, streams_headers};
use crate::schedule::JobError;
use crate::state::StateError;
use crate::storage::StoreError;
use crate::upload::UploadError;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub enum ApiError {
    /// A problem known to both sides.
    Problem(Problem),
    /// A field of the request is wrong: what about it, without its value.
    Invalid(String),
    /// No token and no session.
    Anonymous,
    /// A token that does not count.
    Unauthorized,
    /// A token without the scope that the route demands.
    Scope(&'static str),
    /// A session's unsafe request that did not come from the studio's own page.
    CrossSite,
    /// The user was suspended.
    Suspended,
    /// A limit refused.
    Limited(Refusal),
    /// The user's stored bytes would pass the quota.
    StorageQuota {
        /// Bytes the user may store.
        limit: u64,
        /// Bytes in use.
        used: u64,
    },
    /// The queue is full, or its wait too long: try again after so many seconds.
    Busy(u64),
    /// A picture needs more of the device's memory than a call may take.
    TooLarge,
    /// By the measured rate the job cannot be done before its deadline.
    OverDeadline,
    /// The service stops; a job that can be asked for again is carried out by the next process.
    Stopping,
    /// The job was not done by its deadline.
    Deadline,
    /// The job was cancelled.
    Cancelled,
    /// The job ended without pictures, and what ran of it is charged.
    Charged(Problem),
    /// A request under this idempotency key had another body.
    IdempotencyMismatch,
    /// The job has as many event streams as it may.
    TooManyStreams,
    /// The state failed.
    State(StateError),
    /// The store failed.
    Store(StoreError),
    /// The engine failed.
    Infer(InferError),
    /// The service elsewhere failed.
    Provider(ProviderError),
    /// The upload breaks a rule.
    Upload(UploadError),
    /// A defect: the text goes to the log.
    Internal(String),
}

impl ApiError {
    /// Status, code and title.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Problem(problem) | Self::Charged(problem) => *problem,
            Self::Invalid(_) => Problem::new(400, "invalid_request", "The request is not valid."),
            Self::Anonymous | Self::Unauthorized => problem::UNAUTHORIZED,
            Self::Scope(_) => Problem::new(
                403,
                "insufficient_scope",
                "The token does not have the scope for this.",
            ),
            Self::CrossSite => problem::CROSS_SITE,
            Self::Suspended => Problem::new(403, "suspended", "This account is suspended."),
            Self::Limited(_) => problem::RATE_LIMITED,
            Self::StorageQuota { .. } => Problem::new(
                429,
                "storage_quota",
                "The storage quota is used up; delete pictures first.",
            ),
            Self::Busy(_) => Problem::new(503, "busy", "Too many jobs are waiting."),
            Self::TooLarge => crate::jobs::job_problem("too_large"),
            Self::OverDeadline => crate::jobs::job_problem("over_deadline"),
            Self::Stopping => Problem::new(503, "stopping", "The service is being restarted."),
            Self::Deadline => crate::jobs::job_problem("deadline"),
            Self::Cancelled => Problem::new(409, "cancelled", "The job was cancelled."),
            Self::IdempotencyMismatch => Problem::new(
                422,
                "idempotency_mismatch",
                "The Idempotency-Key was used before with another body.",
            ),
            Self::TooManyStreams => Problem::new(
                429,
                "too_many_streams",
                "The job has as many event streams as it may.",
            ),
            Self::State(StateError::Full) => {
                Problem::new(507, "state_full", "The service has no room left.")
            }
            Self::State(StateError::NoUser) => {
                Problem::new(404, "unknown_user", "There is no such user.")
            }
            Self::State(_) => Problem::new(
                503,
                "state_unavailable",
                "The service cannot record the request.",
            ),
            Self::Store(StoreError::Full(_)) => {
                Problem::new(507, "store_full", "The image store has no room left.")
            }
            Self::Store(StoreError::NotFound) => problem::NOT_FOUND,
            Self::Store(_) => problem::STORE_UNAVAILABLE,
            Self::Infer(InferError::UnknownModel(_)) => {
                Problem::new(404, "unknown_model", "No such model is loaded.")
            }
            Self::Infer(InferError::NoModel { .. }) => Problem::new(
                409,
                "no_model",
                "No model could be loaded; all stays as it was.",
            ),
            Self::Infer(InferError::LastModel(_)) => Problem::new(
                409,
                "last_model",
                "The only model that is loaded cannot be taken out.",
            ),
            Self::Infer(InferError::BadSpec { .. }) => {
                Problem::new(400, "invalid_request", "The request is not valid.")
            }
            Self::Infer(InferError::Cancelled) => {
                Problem::new(409, "cancelled", "The job was cancelled.")
            }
            Self::Infer(error) => crate::jobs::job_problem(error.code()),
            Self::Provider(error) => error.problem(),
            Self::Upload(error) => Problem::new(error.status(), error.code(), error.title()),
            Self::Internal(_) => {
                Problem::new(500, "internal", "Something went wrong here; it was logged.")
            }
        }
    }

    /// Whether a job was lost by our own fault, so that the same request is another one.
    pub fn is_ours(&self) -> bool {
        let theirs = match self {
            Self::StorageQuota { .. } | Self::Cancelled => true,
            Self::Infer(error) => {
                error.is_callers_fault() || matches!(error, InferError::Cancelled)
            }
            Self::Provider(error) => error.is_callers_fault(),
            _ => false,
        };
        !theirs
    }

    /// As told to a request that paid nothing itself.
    pub fn uncharged(self) -> Self {
        match self {
            Self::Charged(problem) => Self::Problem(problem),
            other => other,
        }
    }

    /// Whether whatever was at work on a job has certainly made nothing that it costs us.
    pub fn made_nothing(&self) -> bool {
        match self {
            Self::Provider(error) => error.made_nothing(),
            Self::State(_) => true,
            _ => false,
        }
    }

    /// What may be told beyond the title: never anything from inside.
    fn detail(&self) -> Option<String> {
        match self {
            Self::Invalid(text) => Some(text.clone()),
            Self::Infer(error @ InferError::BadSpec { .. }) => Some(error.to_string()),
            Self::Upload(error) => Some(error.to_string()),
            Self::Scope(scope) => Some(format!("scope {scope} is needed")),
            Self::Limited(refusal) => Some(format!("limit {}", refusal.policy)),
            Self::StorageQuota { limit, used } => Some(format!("{used} of {limit} bytes are used")),
            _ => None,
        }
    }

    /// The one place where a failure is logged: what the client is not told.
    pub(crate) fn log(&self) {
        match self {
            Self::State(error) if *error != StateError::NoUser => {
                tracing::error!(code = error.code(), %error, "state failed")
            }
            Self::Store(error) if *error != StoreError::NotFound => {
                tracing::error!(code = error.code(), %error, "store failed")
            }
            Self::Infer(error)
                if !error.is_callers_fault() && !matches!(error, InferError::Cancelled) =>
            {
                tracing::error!(code = error.code(), %error, "generation failed");
            }
            Self::Provider(error) => error.log(),
            Self::Upload(UploadError::Internal(error)) => {
                tracing::error!(%error, "an upload failed")
            }
            Self::Internal(error) => tracing::error!(%error, "defect"),
            _ => {}
        }
    }

    /// The limit that refused, if one did.
    fn policy(&self) -> Option<&'static str> {
        match self {
            Self::Limited(refusal) => Some(refusal.policy),
            Self::StorageQuota { .. } => Some("storage"),
            Self::TooManyStreams => Some("streams"),
            _ => None,
        }
    }

    fn add_headers(&self, answer: &mut HttpResponseBuilder) {
        answer.insert_header((header::CACHE_CONTROL, "no-store"));
        answer.insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
        match self {
            Self::Anonymous => {
                answer.insert_header((header::WWW_AUTHENTICATE, access_token::FIRST_CHALLENGE));
            }
            Self::Unauthorized => {
                answer.insert_header((header::WWW_AUTHENTICATE, access_token::CHALLENGE));
            }
            Self::Scope(scope) => {
                answer.insert_header((
                    header::WWW_AUTHENTICATE,
                    format!(
                        "Bearer realm=\"signet\", error=\"insufficient_scope\", scope=\"{scope}\""
                    ),
                ));
            }
            Self::Limited(refusal) => {
                for (name, value) in refusal.headers() {
                    answer.insert_header((name, value));
                }
            }
            Self::StorageQuota { limit, used } => {
                for (name, value) in storage_headers(*limit, *used) {
                    answer.insert_header((name, value));
                }
            }
            Self::TooManyStreams => {
                for (name, value) in streams_headers() {
                    answer.insert_header((name, value));
                }
            }
            Self::Busy(seconds)
            | Self::Upload(UploadError::Busy {
                retry_after: seconds,
            }) => {
                answer.insert_header((header::RETRY_AFTER, seconds.to_string()));
            }
            Self::Provider(error) => {
                if let Some(seconds) = error.retry_after() {
                    answer.insert_header((header::RETRY_AFTER, seconds.to_string()));
                }
            }
            Self::State(StateError::NoUser) => {}
            Self::State(_) | Self::Store(_) | Self::Stopping => {
                answer.insert_header((header::RETRY_AFTER, "5"));
            }
            Self::Problem(problem) | Self::Charged(problem) if problem.status == 503 => {
                answer.insert_header((header::RETRY_AFTER, "5"));
            }
            Self::Problem(problem) if *problem == problem::METHOD_NOT_ALLOWED => {
                answer.insert_header((header::ALLOW, "GET, HEAD"));
            }
            _ => {}
        }
    }
}

impl ApiError {
    /// The answer at a path, in the shape that its clients read.
    pub fn answer_at(&self, path: &str) -> HttpResponse {
        self.respond(Shape::at(path))
    }

    /// The body in this shape.
    pub fn body(&self, shape: Shape) -> String {
        shape.body(self.problem(), self.detail().as_deref(), None)
    }

    fn respond(&self, shape: Shape) -> HttpResponse {
        self.log();
        let problem = self.problem();
        let mut answer = HttpResponse::build(self.status_code());
        self.add_headers(&mut answer);
        answer.extensions_mut().insert(Told {
            code: problem.code,
            policy: self.policy(),
            is_charged: matches!(self, Self::Charged(_)),
        });
        answer.content_type(shape.media_type());
        answer.body(self.body(shape))
    }
}

/// What an answer says went wrong, remembered with it for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The problem's code.
    pub code: &'static str,
    /// The limit that refused.
    pub policy: Option<&'static str>,
    /// Whether the caller pays all the same.
    pub is_charged: bool,
}

/// A problem answer with nothing but the problem.
pub fn answer(problem: Problem) -> HttpResponse {
    ApiError::Problem(problem).error_response()
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.problem().code)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.problem().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.respond(Shape::Problem)
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Suspended => Self::Suspended,
            StateError::OverQuota { limit, used } => Self::StorageQuota { limit, used },
            error => Self::State(error),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<InferError> for ApiError {
    fn from(error: InferError) -> Self {
        Self::Infer(error)
    }
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Cancelled => Self::Cancelled,
            JobError::Deadline => Self::Deadline,
            JobError::Stopped => Self::Stopping,
            JobError::Infer(error) => Self::Infer(error),
            JobError::Provider(error) => error.into(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Limited(refusal)
    }
}

impl From<QuotaError> for ApiError {
    fn from(error: QuotaError) -> Self {
        match error {
            QuotaError::Refused(refusal) => Self::Limited(refusal),
            QuotaError::State(error) => error.into(),
        }
    }
}

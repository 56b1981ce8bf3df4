//! The R2 bucket: from an admitted link to what a HEAD, conditions or a range ask of its object, whose size and tag are
//! read first. Whole pictures go another way ([`crate::whole`]).

use shared::object_key::ObjectKey;
use shared::range::{self, Bytes, Conditions};
use wasm_bindgen::{JsCast, JsValue};
use worker::{Bucket, Conditional, Range, ResponseBody};

use crate::js;
use crate::limits::AdmittedLink;
use crate::serve::ServeError;

/// Name of the binding.
pub const BINDING: &str = "IMAGES";

/// The bucket's binding, whose presence was checked with the configuration.
///
/// # Errors
/// [`ServeError::Store`].
pub fn of(env: &worker::Env) -> Result<Bucket, ServeError> {
    js_sys::Reflect::get(env, &JsValue::from_str(BINDING))
        .map(JsCast::unchecked_into)
        .map_err(|error| ServeError::Store(js::describe(&error)))
}

/// What is asked of the object.
#[derive(Debug, Default)]
pub struct Wanted {
    /// HEAD: everything but the bytes.
    pub head: bool,
    /// `If-Match`.
    pub if_match: Option<String>,
    /// `If-None-Match`.
    pub if_none_match: Option<String>,
    /// `If-Range`.
    pub if_range: Option<String>,
    /// `Range`.
    pub range: Option<String>,
}

impl Wanted {
    /// Whether all of the object is wanted, whatever it is by now.
    pub fn is_whole(&self) -> bool {
        let conditional = self.if_match.is_some() || self.if_none_match.is_some();
        !self.head && !conditional && self.range.is_none()
    }

    fn conditions(&self) -> Conditions<'_> {
        Conditions {
            if_match: self.if_match.as_deref(),
            if_none_match: self.if_none_match.as_deref(),
            if_range: self.if_range.as_deref(),
            range: self.range.as_deref().filter(|_| !self.head),
        }
    }
}

/// A stored picture that an admitted link opened, and what of it is the answer.
pub struct Object {
    /// The link that opened it.
    pub link: AdmittedLink,
    /// What was asked of it.
    pub asked: Asked,
}

/// The part of a picture that was asked for.
pub struct Asked {
    /// The picture's strong tag, quotes included.
    pub etag: String,
    /// Size of the whole in bytes.
    pub size: u64,
    /// Which of its bytes are the answer.
    pub bytes: Bytes,
    /// The bytes, where there are any to send.
    pub body: ResponseBody,
}

impl Object {
    /// Opens the link's object, or its counterpart when the picture was kept or let go since.
    ///
    /// # Errors
    /// [`ServeError::NotFound`], [`ServeError::Store`].
    pub async fn open(
        bucket: &Bucket,
        link: AdmittedLink,
        wanted: &Wanted,
    ) -> Result<Self, ServeError> {
        let key = link.link().key();
        let mut found = ask(bucket, key, wanted).await?;
        if let (None, Some(other)) = (&found, key.counterpart()) {
            found = ask(bucket, &other, wanted).await?;
        }
        let asked = found.ok_or(ServeError::NotFound)?;
        Ok(Self { link, asked })
    }
}

/// Reads size and tag first, and then what they leave to be sent; `None` when there is no such object.
async fn ask(
    bucket: &Bucket,
    key: &ObjectKey,
    wanted: &Wanted,
) -> Result<Option<Asked>, ServeError> {
    let Some(object) = bucket.head(key.as_str()).await.map_err(store)? else {
        return Ok(None);
    };
    let (etag, size) = (object.http_etag(), object.size());
    let bytes = range::select(&wanted.conditions(), &etag, size);
    let part = match bytes {
        Bytes::Whole => None,
        Bytes::Part { first, last } => Some(Range::OffsetWithLength {
            offset: first,
            length: last - first + 1,
        }),
        Bytes::NotModified | Bytes::Unsatisfiable | Bytes::Other => {
            return Ok(Some(Asked {
                etag,
                size,
                bytes,
                body: ResponseBody::Empty,
            }));
        }
    };
    if wanted.head {
        return Ok(Some(Asked {
            etag,
            size,
            bytes,
            body: ResponseBody::Empty,
        }));
    }
    // The tag ties the bytes to the size just read: an object replaced in between is not served in mixed parts.
    let same = Conditional {
        etag_matches: Some(object.etag()),
        ..Conditional::default()
    };
    let mut get = bucket.get(key.as_str()).only_if(same);
    if let Some(part) = part {
        get = get.range(part);
    }
    match get.execute().await.map_err(store)? {
        None => Ok(None),
        Some(object) => match object.body() {
            Some(body) => {
                let body = body.response_body().map_err(store)?;
                Ok(Some(Asked {
                    etag,
                    size,
                    bytes,
                    body,
                }))
            }
            None => Err(ServeError::Store(
                "the object changed while it was read".into(),
            )),
        },
    }
}

fn store(error: worker::Error) -> ServeError {
    ServeError::Store(error.to_string())
}

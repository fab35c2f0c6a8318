//! Reading the body of a request, within its limits of bytes and time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use futures_util::StreamExt;

use super::MAX_BODY_BYTES;

/// Longest wait for a request's body.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// Why a body is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// More than is read.
    #[error("a request may have {limit} bytes")]
    TooLarge { limit: usize },
    /// Not what HTTP calls a body, or broken off.
    #[error("the body cannot be read: {0}")]
    Malformed(#[source] axum::Error),
    /// It takes too long.
    #[error("the body did not arrive within {} s", wait.as_secs())]
    TooSlow { wait: Duration },
}

impl BodyError {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// The body of a request.
pub(super) async fn read(request: Request) -> Result<Vec<u8>, BodyError> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(BodyError::TooLarge { limit: MAX_BODY_BYTES });
    }
    within(BODY_WAIT, request.into_body()).await
}

async fn within(wait: Duration, body: Body) -> Result<Vec<u8>, BodyError> {
    let read = tokio::time::timeout(wait, collect(body)).await;
    read.unwrap_or(Err(BodyError::TooSlow { wait }))
}

async fn collect(body: Body) -> Result<Vec<u8>, BodyError> {
    let (mut parts, mut bytes) = (body.into_data_stream(), Vec::new());
    while let Some(part) = parts.next().await {
        let part = part.map_err(BodyError::Malformed)?;
        if part.len() > MAX_BODY_BYTES - bytes.len() {
            return Err(BodyError::TooLarge { limit: MAX_BODY_BYTES });
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    async fn read_parts(parts: Vec<Result<Vec<u8>, std::io::Error>>) -> Result<Vec<u8>, BodyError> {
        // Without a length in the head, as a body in chunks.
        read(Request::new(Body::from_stream(stream::iter(parts)))).await
    }

    #[tokio::test]
    async fn what_is_malformed_is_not_too_large() {
        let read = read_parts(vec![Ok(b"{\"a\"".to_vec()), Ok(b":1}".to_vec())]).await;
        assert_eq!(read.unwrap(), b"{\"a\":1}");
        let broken = || Err(std::io::ErrorKind::InvalidData.into());
        let refused = read_parts(vec![Ok(b"{".to_vec()), broken()]).await.unwrap_err();
        assert!(matches!(refused, BodyError::Malformed(_)), "{refused}");
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);

        let half = || Ok(vec![b' '; MAX_BODY_BYTES / 2]);
        assert_eq!(read_parts(vec![half(), half()]).await.unwrap().len(), MAX_BODY_BYTES);
        let refused = read_parts(vec![half(), half(), Ok(b" ".to_vec()), broken()]).await.unwrap_err();
        assert!(matches!(refused, BodyError::TooLarge { limit: MAX_BODY_BYTES }), "{refused}");
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_not_waited_for() {
        let half = stream::iter([Ok::<_, std::io::Error>("{")]).chain(stream::pending());
        let short = Duration::from_millis(50);
        let refused = within(short, Body::from_stream(half)).await.unwrap_err();
        assert!(matches!(refused, BodyError::TooSlow { wait } if wait == short), "{refused}");
        assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
    }
}

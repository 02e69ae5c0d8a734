//! A refusal as an HTTP answer: status, `Proxy-Status` (RFC 9209), problem document (RFC 9457), code and decision.

use crate::body::{self, Body};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PROXY_AUTHENTICATE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use postern_protocol::problem::MEDIA_TYPE;
use postern_protocol::{Code, Problem, Retry, headers};

/// The name this relay has in `Proxy-Status`.
pub const PROXY_NAME: &str = "postern-relay";

/// The answer that says `problem`.
pub fn response(problem: &Problem) -> Response<Body> {
    let json = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = Response::new(body::full(json));
    *response.status_mut() = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    // A refusal is true now only.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static(headers::CODE), HeaderValue::from_static(problem.code.as_str()));
    if let Ok(status) = HeaderValue::try_from(problem.proxy_status(PROXY_NAME)) {
        headers.insert(HeaderName::from_static("proxy-status"), status);
    }
    if let Some(decision) = &problem.decision
        && let Ok(decision) = HeaderValue::from_str(decision.as_str())
    {
        headers.insert(HeaderName::from_static(headers::DECISION), decision);
    }
    if problem.code.status() == 407 {
        headers.insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if problem.code.retry() == Retry::Later && matches!(problem.code.status(), 429 | 503) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// [`response`] of a bare code.
pub fn of(code: Code) -> Response<Body> {
    response(&Problem::new(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use postern_protocol::{DecisionId, Timestamp};

    #[tokio::test]
    async fn every_code_has_a_complete_answer() {
        let decision = DecisionId::new(Timestamp::from_millis(1), 2);
        for &code in Code::ALL {
            let answer = response(&Problem::new(code).decision(decision.clone()));
            assert_eq!(answer.status(), code.status());
            assert_eq!(answer.headers()["postern-code"], code.as_str());
            assert_eq!(answer.headers()["postern-decision"], decision.as_str());
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            let status = answer.headers()["proxy-status"].to_str().unwrap();
            assert!(status.starts_with(PROXY_NAME) && status.contains(code.as_str()), "{status}");
            assert_eq!(answer.headers().contains_key("proxy-authenticate"), code.status() == 407);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<Problem>(&body).unwrap().code, code);
        }
    }
}

//! A refusal as an HTTP answer: status, `Proxy-Status` (RFC 9209), problem document (RFC 9457), code and decision.

use crate::body::{self, Body};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PROXY_AUTHENTICATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use postern_protocol::problem::MEDIA_TYPE;
use postern_protocol::{Code, DecisionId, Problem, Retry, StepUp, headers};

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
    if let Some(decision) = &problem.decision {
        decided(headers, decision);
    }
    if problem.code.status() == 407 {
        headers.insert(PROXY_AUTHENTICATE, challenge(problem));
    }
    if problem.code.retry() == Retry::Later && matches!(problem.code.status(), 429 | 503) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Names the decision in an answer's head, in place of whoever named one before.
pub fn decided(answer: &mut HeaderMap, decision: &DecisionId) {
    if let Ok(decision) = HeaderValue::from_str(decision.as_str()) {
        answer.insert(HeaderName::from_static(headers::DECISION), decision);
    }
}

/// What the session token lacks (RFC 6750 §3, and RFC 9470 §3 for a sign-in that is too old or too weak), said of the
/// proxy's credential: `Proxy-Authenticate` is to 407 what `WWW-Authenticate` is to 401.
fn challenge(problem: &Problem) -> HeaderValue {
    let bare = HeaderValue::from_static("Bearer");
    let Some(StepUp { max_age, acr_values }) = problem.step_up.as_deref() else { return bare };
    let mut challenge = String::from("Bearer error=\"insufficient_user_authentication\"");
    if let Some(age) = max_age {
        challenge.push_str(&format!(", max_age=\"{age}\""));
    }
    if let Some(values) = acr_values {
        challenge.push_str(&format!(", acr_values=\"{values}\""));
    }
    HeaderValue::try_from(challenge).unwrap_or(bare)
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

    #[test]
    fn a_step_up_is_challenged_as_rfc_9470_says() {
        let challenge = |max_age, acr_values: Option<&str>| {
            let asked = StepUp { max_age, acr_values: acr_values.map(String::from) };
            let answer = response(&Problem::new(Code::StepUpRequired).step_up(Some(asked)));
            assert_eq!(answer.status(), 407);
            answer.headers()["proxy-authenticate"].to_str().unwrap().to_owned()
        };
        let error = "Bearer error=\"insufficient_user_authentication\"";
        assert_eq!(challenge(Some(300), None), format!("{error}, max_age=\"300\""));
        assert_eq!(challenge(None, Some("a b")), format!("{error}, acr_values=\"a b\""));
        assert_eq!(challenge(Some(5), Some("a")), format!("{error}, max_age=\"5\", acr_values=\"a\""));
    }

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

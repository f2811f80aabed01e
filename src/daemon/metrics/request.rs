//! A request for the metrics, and what is answered at once. Pure: what a client sends is hostile.

/// No request's head is longer.
pub(super) const HEAD_CAP: usize = 8 << 10;

/// No request has more header fields.
const FIELDS: usize = 64;

/// The media type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The metrics, or their head alone.
    Metrics { head_only: bool },
    /// What is refused, or answered without the metrics.
    Page(Page),
}

/// An answer that is always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// A page with a link.
    Index { head_only: bool },
    /// The request makes no sense.
    Bad,
    /// There is no such path.
    NotFound,
    /// Neither GET nor HEAD.
    NotAllowed,
    /// The head is too long.
    TooLong,
    /// Too many connections, or cvipd does not answer.
    Busy,
}

/// What the bytes that have come ask for; none while more of the head is to come.
pub(super) fn asked(bytes: &[u8]) -> Option<Asked> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_CAP => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Some(Asked::Page(Page::TooLong));
        }
        Err(_) => return Some(Asked::Page(Page::Bad)),
    }
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Some(Asked::Page(Page::NotAllowed)),
    };
    let path = request.path.unwrap_or_default();
    Some(match path.split('?').next() {
        Some("/metrics") => Asked::Metrics { head_only },
        Some("/") => Asked::Page(Page::Index { head_only }),
        _ => Asked::Page(Page::NotFound),
    })
}

/// The whole of an answer that gives the metrics.
pub(super) fn with_metrics(text: &str, head_only: bool) -> Vec<u8> {
    whole("200 OK", TEXT_FORMAT, "", text, head_only)
}

impl Page {
    /// The whole answer.
    pub(super) fn whole(self) -> Vec<u8> {
        const PLAIN: &str = "text/plain; charset=utf-8";
        const INDEX: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><title>cvipd</title></head>\
             <body><h1>cvipd</h1><p><a href=\"/metrics\">Metrics</a></p></body></html>\n";
        let (status, more, text) = match self {
            Page::Index { head_only } => {
                return whole("200 OK", "text/html; charset=utf-8", "", INDEX, head_only);
            }
            Page::Bad => ("400 Bad Request", "", "this is no HTTP request\n"),
            Page::NotFound => ("404 Not Found", "", "the metrics are at /metrics\n"),
            Page::NotAllowed => {
                ("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "this can only be read\n")
            }
            Page::TooLong => {
                ("431 Request Header Fields Too Large", "", "the request is too long\n")
            }
            Page::Busy => {
                ("503 Service Unavailable", "Retry-After: 1\r\n", "cvipd is busy: try again\n")
            }
        };
        whole(status, PLAIN, more, text, false)
    }
}

fn whole(status: &str, media: &str, more: &str, text: &str, head_only: bool) -> Vec<u8> {
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n{more}Connection: \
         close\r\n\r\n"
    );
    let body = if head_only { "" } else { text };
    [head.as_bytes(), body.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_got_and_everything_else_is_told_what_it_is() {
        let metrics = |head_only| Asked::Metrics { head_only };
        let index = |head_only| Asked::Page(Page::Index { head_only });
        for (request, means) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", metrics(false)),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", metrics(false)),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", metrics(true)),
            ("GET / HTTP/1.1\r\n\r\n", index(false)),
            ("HEAD / HTTP/1.1\r\n\r\n", index(true)),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", Asked::Page(Page::NotFound)),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n", Asked::Page(Page::NotAllowed)),
            ("\u{16}\u{3}\u{1}", Asked::Page(Page::Bad)),
            ("GET /metrics\r\n\r\n", Asked::Page(Page::Bad)),
        ] {
            assert_eq!(asked(request.as_bytes()), Some(means), "{request:?}");
        }
    }

    #[test]
    fn a_head_that_is_not_whole_is_waited_for_until_it_is_too_long() {
        let whole = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(asked(&whole.as_bytes()[..length]), None, "{length}");
        }
        let long = format!("GET /metrics HTTP/1.1\r\nCookie: {}", "x".repeat(HEAD_CAP));
        assert_eq!(asked(long.as_bytes()), Some(Asked::Page(Page::TooLong)));
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(FIELDS + 1));
        assert_eq!(asked(many.as_bytes()), Some(Asked::Page(Page::TooLong)));
    }

    #[test]
    fn an_answer_says_how_long_it_is_and_a_head_has_no_body() {
        let answer = String::from_utf8(with_metrics("cvip_up 1\n", false)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(
            answer.contains("Content-Length: 10\r\n") && answer.ends_with("\r\n\r\ncvip_up 1\n")
        );
        let head = String::from_utf8(with_metrics("cvip_up 1\n", true)).unwrap();
        assert!(head.contains("Content-Length: 10\r\n") && head.ends_with("\r\n\r\n"));
        let refusal = String::from_utf8(Page::NotAllowed.whole()).unwrap();
        assert!(refusal.contains("\r\nAllow: GET, HEAD\r\n"));
    }
}

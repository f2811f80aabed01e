//! HTTP and HTTPS: one GET, its status, and a pattern in its body if one is wanted.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};

use super::deadline::Deadline;
use super::message::{self, BODY_MOST, NoMessage};
use super::stream::Stream;
use super::tls;
use crate::checks::settings::Http;
use crate::checks::{CheckOutcome, CheckTarget};

/// Asks, and judges the answer.
pub(super) fn probe(target: &CheckTarget, http: &Http, deadline: Deadline) -> CheckOutcome {
    let addr = target.probed();
    let mut stream = Stream::connect(target, deadline)?;
    let request = request(http, addr);
    if !http.tls {
        let outcome = exchange(&mut stream, http, &request, deadline);
        stream.part();
        return outcome;
    }
    let mut connection = tls::client(http, addr.ip())?;
    tls::shake_hands(&mut connection, &mut stream, deadline)?;
    let outcome =
        exchange(&mut rustls::Stream::new(&mut connection, &mut stream), http, &request, deadline);
    // As polite as with TCP; the judgement is made.
    connection.send_close_notify();
    let _ = connection.write_tls(&mut stream);
    stream.part();
    outcome
}

fn request(http: &Http, addr: SocketAddr) -> String {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: cvip/{}\r\nAccept: */*\r\n\
         Accept-Encoding: identity\r\nConnection: close\r\n\r\n",
        http.path,
        host(http, addr),
        env!("CARGO_PKG_VERSION"),
    )
}

/// The Host field: a port that the scheme does not imply belongs to it (RFC 9110, 7.2), and an
/// IPv6 address stands in brackets, without its zone (RFC 3986, 3.2.2).
fn host(http: &Http, addr: SocketAddr) -> String {
    let bracketed = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let name = match &http.host {
        Some(host) => host.as_str().parse().map_or_else(|_| host.to_string(), bracketed),
        None => bracketed(addr.ip()),
    };
    let implied = if http.tls { 443 } else { 80 };
    if addr.port() == implied { name } else { format!("{name}:{}", addr.port()) }
}

/// Sends the request over a connection and judges the answer.
fn exchange(
    connection: &mut (impl Read + Write),
    http: &Http,
    request: &str,
    deadline: Deadline,
) -> CheckOutcome {
    let told = |doing: &str, error: NoMessage| match error {
        NoMessage::Io(error) => deadline.because(doing, &error),
        error => error.to_string(),
    };
    connection
        .write_all(request.as_bytes())
        .and_then(|()| connection.flush())
        .map_err(|error| deadline.because("send the request", &error))?;
    let answer =
        message::read_head(connection).map_err(|error| told("wait for the answer", error))?;
    let status = answer.status;
    if !http.status.contains(status) {
        return Err(format!("HTTP {status}"));
    }
    let Some(pattern) = &http.pattern else { return Ok(format!("HTTP {status}")) };
    let (body, whole) = message::read_body(answer, connection)
        .map_err(|error| format!("HTTP {status}, then: {}", told("read the body", error)))?;
    match (pattern.is_in(&body), whole) {
        (true, _) => Ok(format!("HTTP {status} with the pattern")),
        (false, true) => Err(format!("HTTP {status} without the pattern")),
        (false, false) => {
            Err(format!("HTTP {status} without the pattern in the first {} KiB", BODY_MOST >> 10))
        }
    }
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;

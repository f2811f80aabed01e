//! A web server with one page, on which its name stands: what clients ask.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::namespace::Namespace;

/// For how long the server looks at nothing but what is there, so that it sees soon that it is to stop.
const LOOK_MS: u16 = 20;

/// How long a client may take to ask.
const QUESTION_WITHIN: Duration = Duration::from_secs(2);

/// A server on port 80 of a member's IPv4 addresses, in this process; it ends when this is dropped. It is not the
/// member's process: who takes the member's power leaves it, cut off.
#[derive(Debug)]
pub struct WebServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Instant>>,
}

impl WebServer {
    /// Listens, with this name on the page; it says nothing else.
    ///
    /// # Errors
    /// If another listens there.
    pub fn start(on: &Namespace, name: &str) -> Result<WebServer> {
        let listener = on
            .enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)))
            .with_context(|| format!("{}: cannot listen on port 80", on.name()))?;
        listener.set_nonblocking(true)?;
        let page: Arc<str> = format!("HTTP/1.0 200 OK\r\n\r\n{name}\n").into();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(listener, &page, &stopped));
        Ok(WebServer { stop, thread: Some(thread) })
    }

    /// Closes the listening socket; the moment at which that began.
    ///
    /// # Panics
    /// With the server.
    pub fn stop(mut self) -> Instant {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(closing)) => closing,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Instant::now(),
        }
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(listener: TcpListener, page: &Arc<str>, stop: &AtomicBool) -> Instant {
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        // A signal, or a moment without clients: it looks again in any case.
        let _ = poll(&mut fds, PollTimeout::from(LOOK_MS));
        while let Ok((stream, _)) = listener.accept() {
            // One whose question never comes must not keep the others waiting.
            let page = Arc::clone(page);
            thread::spawn(move || answer(stream, &page));
        }
    }
    let closing = Instant::now();
    drop(listener);
    closing
}

/// A client that is gone in the meantime is its own affair.
fn answer(mut stream: TcpStream, page: &str) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(QUESTION_WITHIN));
    if stream.read(&mut [0; 1024]).is_ok() {
        let _ = stream.write_all(page.as_bytes());
    }
}

//! Gives the metrics over HTTP: a thread accepts connections, each has one of its own until it is
//! answered, and one makes the text for all of them.
//!
//! No client can keep cvipd waiting: connections are bounded in number and time, and the text is made
//! once a second at most, however many ask.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use tracing::{debug, info, warn};

use super::limits::ClientPlaces;
use super::render::{MetricsSource, metrics_text};
use super::request::{Asked, HEAD_CAP, Page, asked, with_metrics};
use crate::clock::Instant;
use crate::daemon::control::{Gathered, MetricsPlace, gather};
use crate::daemon::messages::MainMessage;
use crate::director::owned_table::read_owned_table;
use crate::settings::DestinationLabel;
use crate::wake::Outbox;

/// Within this a request has come, and within this its answer is read; else the connection is closed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long cvipd's threads may take to say what they know.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);

/// A text that is no older is given again.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// Where a text is sent; none: cvipd did not answer.
type Reply = Sender<Option<Arc<str>>>;

/// The metrics' server. It never fails: an address that cannot be had now is tried again.
pub(in crate::daemon) struct MetricsServer {
    /// Where they are given; none if they are not.
    address: Option<SocketAddr>,
    labels: Arc<[DestinationLabel]>,
    main: Outbox<MainMessage>,
    places: Arc<ClientPlaces>,
    open: Option<TcpListener>,
    /// Why the address cannot be had.
    problem: Option<String>,
}

impl MetricsServer {
    /// Listens, and answers from now on.
    pub(in crate::daemon) fn open(
        address: Option<SocketAddr>,
        labels: Option<&[DestinationLabel]>,
        main: Outbox<MainMessage>,
    ) -> MetricsServer {
        let labels = labels.unwrap_or(&DestinationLabel::ALL).into();
        let places = Arc::default();
        let mut server = MetricsServer { address, labels, main, places, open: None, problem: None };
        server.tend();
        server
    }

    /// Listens where that was not possible before.
    pub(in crate::daemon) fn tend(&mut self) {
        let Some(address) = self.address.filter(|_| self.open.is_none()) else { return };
        match self.listen(address) {
            Ok(listener) => {
                info!("metrics are given on http://{address}/metrics");
                self.open = Some(listener);
                self.problem = None;
            }
            Err(error) => {
                let problem = Some(error.to_string());
                if self.problem != problem {
                    warn!("cannot give metrics on {address}, trying again: {error}");
                    self.problem = problem;
                }
            }
        }
    }

    /// Where they are given, and why not, for `status`.
    pub(in crate::daemon) fn place(&self) -> Option<MetricsPlace> {
        let problem = self.problem.clone();
        self.address.map(|address| MetricsPlace { address, problem })
    }

    fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let listener = TcpListener::bind(address)?;
        let ours = listener.try_clone()?;
        let (texts, wanted) = mpsc::channel();
        let (main, labels) = (self.main.clone(), Arc::clone(&self.labels));
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        // Both end with the process, or with the listener: they are not joined.
        named("metrics text").spawn(move || make_texts(&wanted, &main, &labels))?;
        let places = Arc::clone(&self.places);
        named("metrics").spawn(move || accept(&listener, &texts, &places))?;
        Ok(ours)
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            // The thread that waits on it ends.
            let _ = shutdown(open.as_raw_fd(), Shutdown::Both);
        }
    }
}

/// Makes the text when it is wanted, and gives it to all who want it within a second.
fn make_texts(wanted: &Receiver<Reply>, main: &Outbox<MainMessage>, labels: &[DestinationLabel]) {
    let mut last: Option<(Instant, Arc<str>)> = None;
    for reply in wanted {
        if last.as_ref().is_none_or(|(made, _)| made.elapsed() >= FRESH_FOR) {
            last = text(main, labels).map(|text| (Instant::now(), text.into()));
        }
        // A client may have given up waiting.
        let _ = reply.send(last.as_ref().map(|(_, text)| Arc::clone(text)));
    }
}

/// The text by what cvipd and the kernel say now.
fn text(main: &Outbox<MainMessage>, labels: &[DestinationLabel]) -> Option<String> {
    let Gathered { status, conf, owned } =
        gather(main, KNOWN_WITHIN).inspect_err(|error| debug!("metrics: {error}")).ok()?;
    let read = || {
        read_owned_table(&owned)
            .inspect_err(|error| debug!("metrics: the kernel's table is left out: {error}"))
            .ok()
    };
    // A node that is no director has no table of its own, and perhaps no IPVS in its kernel.
    let table = status.monitor.is_some().then(read).flatten();
    Some(metrics_text(&MetricsSource {
        status: Some(&status),
        conf: Some(&conf),
        table: table.as_ref(),
        labels,
    }))
}

fn accept(listener: &TcpListener, texts: &Sender<Reply>, places: &Arc<ClientPlaces>) {
    for stream in listener.incoming() {
        let mut stream = match stream {
            Ok(stream) => stream,
            // It is no longer listened on.
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => return,
            Err(error) => {
                debug!("cannot accept a connection for metrics: {error}");
                // Out of descriptors, perhaps: that may pass.
                thread::sleep(Duration::from_secs(1));
                continue;
            }
        };
        let place = stream.peer_addr().ok().and_then(|peer| places.take(peer.ip()));
        let Some(place) = place else {
            // Into an empty buffer, or not at all.
            let _ = stream.set_nonblocking(true);
            let _ = stream.write(&Page::Busy.whole());
            continue;
        };
        let texts = texts.clone();
        let spawned = thread::Builder::new().name("metrics client".to_owned()).spawn(move || {
            let _place = place;
            if let Err(error) = answer(&mut stream, &texts) {
                debug!("metrics: {error}");
            }
        });
        if let Err(error) = spawned {
            debug!("cannot start a thread for metrics: {error}");
        }
    }
}

/// Answers one connection.
fn answer(stream: &mut TcpStream, texts: &Sender<Reply>) -> io::Result<()> {
    let whole = match receive(stream)? {
        Asked::Page(page) => page.whole(),
        Asked::Metrics { head_only } => {
            let (reply, text) = mpsc::channel();
            let text = texts.send(reply).ok().and_then(|()| text.recv().ok().flatten());
            text.map_or_else(|| Page::Busy.whole(), |text| with_metrics(&text, head_only))
        }
    };
    send(stream, &whole)
}

/// Receives a request's head within a time, in however many pieces it arrives.
fn receive(stream: &mut TcpStream) -> io::Result<Asked> {
    let deadline = Instant::now() + PATIENCE;
    let (mut head, mut buffer) = (Vec::new(), [0; 2048]);
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let room = buffer.len().min(HEAD_CAP - head.len());
        let count = stream.read(&mut buffer[..room])?;
        head.extend_from_slice(&buffer[..count]);
        match asked(&head) {
            Some(asked) => return Ok(asked),
            None if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            None => {}
        }
    }
}

/// Sends an answer within a time, however slowly it is read.
fn send(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}

/// The time that is left.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests;

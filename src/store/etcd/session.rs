//! One connection to one etcd server, logged in, and the calls that the store makes on it.
//!
//! A session never fixes itself: who sees it fail tells the [link](super::link), which makes
//! another, perhaps to another server. So all views agree on which one is current.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::failure::{EtcdFailure, causes};
use super::messages::{StoredText, StoredValue, Swapped};
use super::timing::{PING_EVERY, PING_WITHIN};
use super::wire::{
    AuthenticateRequest, AuthenticateResponse, Compare, DeleteRangeRequest, KeyValue,
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, MOD, PutRequest, RangeRequest, RangeResponse,
    RequestOp, StatusRequest, StatusResponse, StepRequest, StepResponse, TxnRequest, TxnResponse,
    WatchAsk, WatchCreateRequest, WatchRequest, WatchResponse,
};
use crate::clock::Instant;
use crate::histogram::{Histogram, SharedHistogram};
use crate::settings::{EtcdSettings, Secret};

/// No answer is larger. The largest is a page of [`PAGE`] values, each as large as etcd takes
/// them unless it is told otherwise (1.5 MiB).
const ANSWER_CAP: usize = 128 << 20;

/// How many keys are read with one request.
const PAGE: i64 = 64;

/// Where a server is asked how it is.
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// A range of keys: the first, and the first that is not meant any more.
pub(super) type KeySpan = (Vec<u8>, Vec<u8>);

/// What is counted over all sessions of a link.
#[derive(Debug)]
pub(super) struct LinkCounters {
    start: Instant,
    requests: AtomicU64,
    /// How long answers took.
    latency: SharedHistogram,
    /// When a server last answered, in ms since `start`.
    heard: AtomicU64,
}

impl LinkCounters {
    pub(super) fn new() -> LinkCounters {
        let start = Instant::now();
        LinkCounters {
            start,
            requests: AtomicU64::new(0),
            latency: SharedHistogram::default(),
            heard: AtomicU64::new(0),
        }
    }

    /// How many requests were sent.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How long answers took.
    pub(super) fn latency(&self) -> Histogram {
        self.latency.counted()
    }

    /// When a server last answered; the start, if none ever did.
    pub(super) fn heard(&self) -> Instant {
        self.start + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// Notes that a server answered.
    pub(super) fn hear(&self) {
        let since = self.start.elapsed().as_millis();
        self.heard.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Notes that a request was sent.
    pub(super) fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

impl From<KeyValue> for StoredValue {
    fn from(kv: KeyValue) -> StoredValue {
        let text = StoredText::new(kv.value);
        StoredValue { text, revision: kv.mod_revision, lease: kv.lease }
    }
}

/// Everything in some ranges, at one revision.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) revision: i64,
    pub(super) values: Vec<(Vec<u8>, StoredValue)>,
}

/// One connection. Cloning it shares the connection.
#[derive(Clone)]
pub(super) struct EtcdSession {
    channel: Channel,
    token: Option<AsciiMetadataValue>,
    /// Which session of the link this is; a later one has a higher number.
    pub(super) generation: u64,
    /// The server, as the settings name it.
    pub(super) endpoint: String,
    counters: Arc<LinkCounters>,
    /// How long a server may take for an answer.
    patience: Duration,
}

impl EtcdSession {
    /// Connects to a server. No user is logged in yet. `patience` is for this and for every
    /// answer.
    pub(super) async fn connect(
        settings: &EtcdSettings,
        endpoint: &str,
        generation: u64,
        counters: Arc<LinkCounters>,
        patience: Duration,
    ) -> Result<EtcdSession, EtcdFailure> {
        let transport = |error: tonic::transport::Error| {
            EtcdFailure::Session(causes(&error.to_string(), std::error::Error::source(&error)))
        };
        let mut builder = Endpoint::from_shared(endpoint.to_owned())
            .map_err(transport)?
            .connect_timeout(patience)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN)
            .keep_alive_while_idle(true);
        if endpoint.starts_with("https://") {
            builder = builder.tls_config(tls(settings)?).map_err(transport)?;
        }
        let channel = builder.connect().await.map_err(transport)?;
        let endpoint = endpoint.to_owned();
        Ok(EtcdSession { channel, token: None, generation, endpoint, counters, patience })
    }

    /// The same, with another patience.
    pub(super) fn with_patience(self, patience: Duration) -> EtcdSession {
        EtcdSession { patience, ..self }
    }

    /// What a request brings, or that it took too long.
    async fn patiently<T>(
        &self,
        request: impl Future<Output = Result<T, EtcdFailure>>,
    ) -> Result<T, EtcdFailure> {
        timeout(self.patience, request).await.unwrap_or_else(|_| {
            Err(EtcdFailure::Late(format!(
                "no answer within {}",
                humantime::format_duration(self.patience)
            )))
        })
    }

    /// Logs in.
    pub(super) async fn log_in(
        &mut self,
        user: &str,
        password: &Secret,
    ) -> Result<(), EtcdFailure> {
        let secret = password.expose();
        let request = AuthenticateRequest { name: user.to_owned(), password: secret.to_owned() };
        let answer = self.unary("/etcdserverpb.Auth/Authenticate", request).await;
        let answer: AuthenticateResponse =
            answer.map_err(|failure: EtcdFailure| failure.without(secret))?;
        let token = answer.token.parse();
        self.token =
            Some(token.map_err(|_| EtcdFailure::Session("etcd's token makes no sense".into()))?);
        Ok(())
    }

    fn request<T>(&self, message: T, path: &str) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        // A server without a leader says so at once, instead of trying for seconds. How it is it
        // can say without.
        if path != STATUS {
            metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
        }
        request
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, EtcdFailure> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_CAP);
        let gone = |error: tonic::transport::Error| {
            EtcdFailure::Session(causes(&error.to_string(), std::error::Error::source(&error)))
        };
        grpc.ready().await.map_err(gone)?;
        Ok(grpc)
    }

    async fn unary<Q, A>(&self, path: &'static str, message: Q) -> Result<A, EtcdFailure>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.patiently(async {
            let mut grpc = self.grpc().await?;
            self.counters.count();
            let sent = Instant::now();
            let request = self.request(message, path);
            let path = PathAndQuery::from_static(path);
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            let answer = grpc.unary(request, path, codec).await;
            if answer.as_ref().err().is_none_or(is_an_answer) {
                self.counters.latency.observe(sent.elapsed());
                self.counters.hear();
            }
            Ok(answer?.into_inner())
        })
        .await
    }

    /// Opens a stream of messages both ways. etcd answers nothing at all before the first
    /// message, so that has to wait in the queue already.
    async fn stream<Q, A>(
        &self,
        path: &'static str,
        messages: mpsc::UnboundedReceiver<Q>,
    ) -> Result<Streaming<A>, EtcdFailure>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.patiently(async {
            let mut grpc = self.grpc().await?;
            let request = self.request(UnboundedReceiverStream::new(messages), path);
            let path = PathAndQuery::from_static(path);
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            Ok(grpc.streaming(request, path, codec).await?.into_inner())
        })
        .await
    }

    /// What the server says of itself.
    pub(super) async fn status(&self) -> Result<StatusResponse, EtcdFailure> {
        self.unary(STATUS, StatusRequest {}).await
    }

    /// Asks for a key in a way that only a server with a quorum can answer.
    pub(super) async fn probe(&self, key: &[u8]) -> Result<(), EtcdFailure> {
        let request =
            RangeRequest { key: key.to_vec(), count_only: true, ..RangeRequest::default() };
        self.unary("/etcdserverpb.KV/Range", request).await.map(|_: RangeResponse| ())
    }

    /// Asks whether a range may be read.
    pub(super) async fn may_read(&self, key: &[u8], range_end: &[u8]) -> Result<bool, EtcdFailure> {
        let (key, range_end) = (key.to_vec(), range_end.to_vec());
        let request = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
        match self.unary("/etcdserverpb.KV/Range", request).await {
            Ok(RangeResponse { .. }) => Ok(true),
            Err(EtcdFailure::Denied) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Reads one key.
    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<StoredValue>, EtcdFailure> {
        let request = RangeRequest { key: key.to_vec(), ..RangeRequest::default() };
        let answer: RangeResponse = self.unary("/etcdserverpb.KV/Range", request).await?;
        Ok(answer.kvs.into_iter().next().map(StoredValue::from))
    }

    /// Reads ranges of keys, page by page, all at the revision of the first page.
    pub(super) async fn snapshot(&self, ranges: &[KeySpan]) -> Result<Snapshot, EtcdFailure> {
        let mut snapshot = Snapshot { revision: 0, values: Vec::new() };
        for (first, end) in ranges {
            let mut key = first.clone();
            loop {
                let request = RangeRequest {
                    key,
                    range_end: end.clone(),
                    limit: PAGE,
                    revision: snapshot.revision,
                    count_only: false,
                };
                let answer: RangeResponse = self.unary("/etcdserverpb.KV/Range", request).await?;
                if snapshot.revision == 0 {
                    snapshot.revision = answer.header.map_or(0, |header| header.revision);
                }
                let more = answer.more;
                let values = answer.kvs.into_iter().map(|mut kv| {
                    let key = std::mem::take(&mut kv.key);
                    (key, StoredValue::from(kv))
                });
                snapshot.values.extend(values);
                match snapshot.values.last() {
                    // The next key in order.
                    Some((last, _)) if more => key = [last.as_slice(), &[0]].concat(),
                    _ => break,
                }
            }
        }
        Ok(snapshot)
    }

    /// Replaces a key's value if its revision is still `expected` (0: there is no such key);
    /// `None` removes it.
    pub(super) async fn swap(
        &self,
        key: &[u8],
        expected: i64,
        value: Option<&[u8]>,
        lease: i64,
    ) -> Result<Swapped, EtcdFailure> {
        let key = key.to_vec();
        let step = match value.map(<[u8]>::to_vec) {
            Some(value) => StepRequest::Put(PutRequest { key: key.clone(), value, lease }),
            None => StepRequest::Delete(DeleteRangeRequest { key: key.clone() }),
        };
        let read = StepRequest::Range(RangeRequest { key: key.clone(), ..RangeRequest::default() });
        let condition = Compare { result: 0, target: MOD, key, mod_revision: Some(expected) };
        let answer = self.transact(condition, step, Some(read)).await?;
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if answer.succeeded {
            return Ok(Swapped::Done(revision));
        }
        let read = answer.responses.into_iter().find_map(|response| match response.step {
            Some(StepResponse::Range(range)) => range.kvs.into_iter().next(),
            None => None,
        });
        Ok(Swapped::found(read.map(StoredValue::from), value, lease, revision))
    }

    /// Asks whether a key may be written, and writes nothing: a transaction whose condition
    /// cannot be met is looked over for permission all the same.
    pub(super) async fn may_write(&self, key: &[u8]) -> Result<bool, EtcdFailure> {
        let key = key.to_vec();
        let put = PutRequest { key: key.clone(), ..PutRequest::default() };
        let never = Compare { result: 0, target: MOD, key, mod_revision: Some(i64::MAX) };
        match self.transact(never, StepRequest::Put(put), None).await {
            Ok(_) => Ok(true),
            Err(EtcdFailure::Denied) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn transact(
        &self,
        condition: Compare,
        then: StepRequest,
        otherwise: Option<StepRequest>,
    ) -> Result<TxnResponse, EtcdFailure> {
        let op = |step| RequestOp { step: Some(step) };
        let request = TxnRequest {
            compare: vec![condition],
            success: vec![op(then)],
            failure: otherwise.map(op).into_iter().collect(),
        };
        self.unary("/etcdserverpb.KV/Txn", request).await
    }

    /// A new lease; its number.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<i64, EtcdFailure> {
        let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        let answer: LeaseGrantResponse =
            self.unary("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { ttl }).await?;
        Ok(answer.id)
    }

    /// Ends a lease, and removes its keys. One that is gone already is no failure.
    pub(super) async fn revoke(&self, id: i64) -> Result<(), EtcdFailure> {
        let request = LeaseRevokeRequest { id };
        match self.unary("/etcdserverpb.Lease/LeaseRevoke", request).await {
            Ok(LeaseRevokeResponse {}) | Err(EtcdFailure::NoLease) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Opens the stream that keeps a lease.
    pub(super) async fn keep_alive(&self, id: i64) -> Result<KeepAlive, EtcdFailure> {
        let (sender, messages) = mpsc::unbounded_channel();
        let request = LeaseKeepAliveRequest { id };
        self.counters.count();
        // The receiver is right here.
        let _ = sender.send(request.clone());
        let answers = self.stream("/etcdserverpb.Lease/LeaseKeepAlive", messages).await?;
        Ok(KeepAlive { session: self.clone(), request, sender, answers, asked: true })
    }

    /// Watches ranges of keys from a revision on.
    pub(super) async fn watch(
        &self,
        ranges: &[KeySpan],
        start_revision: i64,
    ) -> Result<KeyWatch, EtcdFailure> {
        let (sender, messages) = mpsc::unbounded_channel();
        for (key, range_end) in ranges.iter().cloned() {
            let create = WatchCreateRequest { key, range_end, start_revision, fragment: true };
            self.counters.count();
            let _ = sender.send(WatchRequest { ask: Some(WatchAsk::Create(create)) });
        }
        let answers = self.stream("/etcdserverpb.Watch/Watch", messages).await?;
        Ok(KeyWatch { _sender: sender, answers, counters: Arc::clone(&self.counters) })
    }
}

/// True if etcd itself answered, even if it was a refusal.
fn is_an_answer(status: &Status) -> bool {
    status.message().starts_with("etcdserver:")
}

fn tls(settings: &EtcdSettings) -> Result<ClientTlsConfig, EtcdFailure> {
    let unreadable =
        |error: crate::settings::SettingsError| EtcdFailure::Session(error.to_string());
    let files = settings.tls_files().map_err(unreadable)?;
    let mut tls = match files.ca {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((cert, key)) = files.identity {
        tls = tls.identity(Identity::from_pem(cert, key.expose()));
    }
    Ok(tls)
}

/// A stream that keeps one lease.
pub(super) struct KeepAlive {
    session: EtcdSession,
    request: LeaseKeepAliveRequest,
    sender: mpsc::UnboundedSender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
    /// A message is on its way already.
    asked: bool,
}

impl KeepAlive {
    /// Renews the lease. False if there is no such lease any more.
    pub(super) async fn renew(&mut self) -> Result<bool, EtcdFailure> {
        if !std::mem::take(&mut self.asked) {
            self.session.counters.count();
            // A stream that has ended says so below.
            let _ = self.sender.send(self.request.clone());
        }
        let answers = &mut self.answers;
        let answer = async { answers.message().await?.ok_or_else(ended) };
        let answer = self.session.patiently(answer).await?;
        self.session.counters.hear();
        Ok(answer.ttl > 0)
    }
}

/// A stream of changes.
pub(super) struct KeyWatch {
    /// The stream ends with it.
    _sender: mpsc::UnboundedSender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    counters: Arc<LinkCounters>,
}

impl KeyWatch {
    /// The next message.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, EtcdFailure> {
        let answer = self.answers.message().await?.ok_or_else(ended)?;
        self.counters.hear();
        Ok(answer)
    }
}

fn ended() -> EtcdFailure {
    EtcdFailure::Session("the server closed the connection".to_owned())
}

//! What cvipd counts, in Prometheus' text format: over HTTP at the address of the settings, and from
//! `cvipctl metrics`.
//!
//! ```text
//!   catalogue   every metric's name, kind, meaning and labels
//!   labels      the labels of services and destinations              pure
//!   text        the format                                            pure
//!   render      the metrics by what cvipd and the kernel say          pure
//!   request     what an HTTP request asks for, and what is answered   pure
//!   limits      how many connections of which address are answered at once
//!   driver      listens, answers, and has the text made
//! ```

mod catalogue;
mod driver;
mod labels;
mod limits;
mod render;
mod request;
mod text;

pub use catalogue::{METRICS, MetricEntry};
pub(super) use driver::MetricsServer;
pub use render::{MetricsSource, metrics_text};

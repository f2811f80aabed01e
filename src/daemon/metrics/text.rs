//! Prometheus' text format (exposition format 0.0.4). Pure.

use std::fmt::{self, Write};

use super::catalogue::{METRICS, MetricEntry};
use crate::histogram::Histogram;

/// The text as it grows.
#[derive(Default)]
pub(super) struct MetricsText(String);

impl MetricsText {
    /// Begins a metric; its values follow.
    pub(super) fn metric(&mut self, entry: MetricEntry) -> Metric<'_> {
        let MetricEntry { name, kind, help, .. } = entry;
        debug_assert!(METRICS.iter().any(|told| told.name == name), "{name} is not documented");
        // A string takes everything.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Metric { text: &mut self.0, name }
    }

    /// All of it.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// One metric, whose values follow its head.
pub(super) struct Metric<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Metric<'_> {
    /// A value.
    pub(super) fn value(&mut self, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.line("", labels, value);
    }

    /// The counts and the sum of a histogram, in seconds.
    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut bucket = |bound: &str, count| {
            let labels = [labels, &[("le", bound)]].concat();
            self.line("_bucket", &labels, count);
        };
        for (bound, count) in histogram.up_to() {
            bucket(&bound.as_secs_f64().to_string(), count);
        }
        bucket("+Inf", histogram.count());
        self.line("_sum", labels, histogram.sum().as_secs_f64());
        self.line("_count", labels, histogram.count());
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (at, (name, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{name}=\"", if at == 0 { '{' } else { ',' });
            escape(self.text, value);
            self.text.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

/// What a reader takes for the end of a label's value is written so that it does not.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::catalogue::{EVENT_SOURCE, JOINS, NODES};
    use super::*;

    #[test]
    fn a_metric_has_its_head_and_labels() {
        let mut text = MetricsText::default();
        let mut nodes = text.metric(NODES);
        nodes.value(&[("liveness", "alive")], 3);
        nodes.value(&[], 4);
        assert_eq!(
            text.finish(),
            "# HELP cvip_nodes Other nodes, by their liveness.\n# TYPE cvip_nodes gauge\n\
             cvip_nodes{liveness=\"alive\"} 3\ncvip_nodes 4\n"
        );
    }

    #[test]
    fn a_histogram_has_its_buckets_in_seconds_and_all_of_them_in_the_last() {
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_millis(2));
        histogram.observe(Duration::from_secs(60));
        let mut text = MetricsText::default();
        text.metric(JOINS).histogram(&[("part", "node")], &histogram);
        let text = text.finish();
        for line in [
            "# TYPE cvip_join_seconds histogram",
            "cvip_join_seconds_bucket{part=\"node\",le=\"0.001\"} 0",
            "cvip_join_seconds_bucket{part=\"node\",le=\"0.0025\"} 1",
            "cvip_join_seconds_bucket{part=\"node\",le=\"30\"} 1",
            "cvip_join_seconds_bucket{part=\"node\",le=\"+Inf\"} 2",
            "cvip_join_seconds_sum{part=\"node\"} 60.002",
            "cvip_join_seconds_count{part=\"node\"} 2",
        ] {
            assert!(text.lines().any(|is| is == line), "{line} is not in {text}");
        }
    }

    #[test]
    fn a_label_s_value_ends_where_it_ends() {
        let mut text = MetricsText::default();
        text.metric(EVENT_SOURCE).value(&[("kind", "a"), ("source", "b\\c \"d\"\ne")], 1);
        let line = "cvip_event_source_info{kind=\"a\",source=\"b\\\\c \\\"d\\\"\\ne\"} 1\n";
        assert!(text.finish().ends_with(line));
    }
}

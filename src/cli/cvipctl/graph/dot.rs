//! The drawing in the language of Graphviz. Pure.

use std::fmt::Write;

use super::model::{Drawing, Look};

/// `dot -Tsvg` and its like read this.
pub(super) fn text(drawing: &Drawing) -> String {
    let mut text = String::from("digraph cvip {\n");
    // A string takes any text.
    let _ =
        writeln!(text, "  graph [rankdir=LR, label=\"{}\", labelloc=t];", quoted(&drawing.title));
    text.push_str("  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    text.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    for drawn in &drawing.boxes {
        let lines: Vec<String> = drawn.lines.iter().map(|line| quoted(line)).collect();
        let label = lines.join("\\n");
        let _ =
            writeln!(text, "  {} [label=\"{label}\", color=\"{}\"];", drawn.id, colour(drawn.look));
    }
    for column in 0..3 {
        let of_column = drawing.boxes.iter().filter(|drawn| drawn.column == column);
        let ids: Vec<&str> = of_column.map(|drawn| drawn.id.as_str()).collect();
        if !ids.is_empty() {
            let _ = writeln!(text, "  {{ rank=same; {}; }}", ids.join("; "));
        }
    }
    for edge in &drawing.edges {
        let (from, to) = (&drawing.boxes[edge.from].id, &drawing.boxes[edge.to].id);
        let style = if edge.look == Look::Good { "solid" } else { "dashed" };
        let _ = writeln!(
            text,
            "  {from} -> {to} [label=\"{}\", color=\"{}\", style={style}];",
            quoted(&edge.label),
            colour(edge.look)
        );
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Readable on white and on black.
fn colour(look: Look) -> &'static str {
    match look {
        Look::Good => "#2e8540",
        Look::Waits => "#b7791f",
        Look::Bad => "#d13438",
        Look::Idle => "#7a7a7a",
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::overview::testing::Cluster;
    use super::*;

    #[test]
    fn directors_services_and_real_servers_are_joined_by_who_sends_where() {
        let overview = Cluster::troubled().overview();
        let text = text(&Drawing::of(&overview.report, &overview.names));
        for line in [
            "digraph cvip {",
            "  d0 [label=\"node 1 (alpha)\\nactive director, running\\nCVIP 192.0.2.10\", \
             color=\"#2e8540\"];",
            "  d1 [label=\"node 2 (beta)\\nstandby, running\", color=\"#7a7a7a\"];",
            "  s2 [label=\"tcp 192.0.2.10:80\\nwlc\\n44 active, 9 inactive, 158/s\", \
             color=\"#2e8540\"];",
            "  s2 -> n5 [label=\"weight 1, 12 active\", color=\"#2e8540\", style=solid];",
            "  s2 -> n6 [label=\"unhealthy, weight 0, 23 active\", color=\"#d13438\", \
             style=dashed];",
            "  s2 -> n7 [label=\"draining, weight 0, 9 active\", color=\"#b7791f\", style=dashed];",
            "  d0 -> s2 [label=\"\", color=\"#2e8540\", style=solid];",
            "}",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\nis missing in\n{text}");
        }
        assert!(!text.contains("d1 -> "), "a standby sends nothing: {text}");
    }

    #[test]
    fn what_a_node_calls_itself_stays_a_string() {
        assert_eq!(quoted("a \"b\" \\n"), "a \\\"b\\\" \\\\n");
    }
}

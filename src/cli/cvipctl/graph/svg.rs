//! The drawing as an image: three columns of boxes, and curves between them. It is readable on a
//! light and on a dark page. Pure.

use std::fmt::Write;

use super::model::{Drawing, DrawnBox};

/// Width of a character of the font, in pixels, with room to spare: fonts differ.
const CHARACTER: usize = 8;
/// Height of a line of text.
const LINE: usize = 18;
/// Between a box and its text.
const PADDING: usize = 10;
/// Between two boxes of a column.
const GAP: usize = 18;
/// Between two columns: a label of a curve fits.
const BETWEEN: usize = 260;
/// Around everything.
const MARGIN: usize = 20;
/// Above the boxes, for the title.
const HEAD: usize = 50;

/// Where a box stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

const STYLE: &str = "
    text { font: 13px ui-monospace, 'DejaVu Sans Mono', monospace; fill: #1b1b1b; }
    .title { font-size: 15px; font-weight: bold; }
    .label { font-size: 11px; }
    .name { font-weight: bold; }
    rect { fill: #ffffff; stroke-width: 2; }
    path { fill: none; stroke-width: 1.5; }
    .good { stroke: #2e8540; }
    .waits { stroke: #b7791f; stroke-dasharray: 6 4; }
    .bad { stroke: #d13438; stroke-dasharray: 6 4; }
    .idle { stroke: #7a7a7a; stroke-dasharray: 2 4; }
    .page { fill: #f6f6f6; stroke: none; }
    @media (prefers-color-scheme: dark) {
      text { fill: #eeeeee; }
      rect { fill: #2a2a2a; }
      .page { fill: #1b1b1b; }
      .good { stroke: #57c26e; }
      .waits { stroke: #e0b04a; }
      .bad { stroke: #ff6b6f; }
      .idle { stroke: #a0a0a0; }
    }
";

/// A document of SVG 1.1.
pub(super) fn text(drawing: &Drawing) -> String {
    let places = places(&drawing.boxes);
    let right = places.iter().map(|place| place.x + place.width).max().unwrap_or(0);
    let bottom = places.iter().map(|place| place.y + place.height).max().unwrap_or(HEAD);
    let title = MARGIN + drawing.title.chars().count() * (CHARACTER + 2);
    let (width, height) = (right.max(title) + MARGIN, bottom + MARGIN);
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // A string takes any text.
    let _ = write!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n  <title>{0}</title>\n  \
         <style>{STYLE}  </style>\n  <rect class=\"page\" width=\"{width}\" \
         height=\"{height}\"/>\n  <text class=\"title\" x=\"{MARGIN}\" y=\"{y}\">{0}</text>\n",
        escaped(&drawing.title),
        y = MARGIN + LINE,
    );
    for edge in &drawing.edges {
        let (from, to) = (places[edge.from], places[edge.to]);
        let (x1, y1) = (from.x + from.width, from.y + from.height / 2);
        let (x2, y2) = (to.x, to.y + to.height / 2);
        let middle = (x1 + x2) / 2;
        let look = edge.look.name();
        let _ = writeln!(
            text,
            "  <path class=\"{look}\" d=\"M {x1} {y1} C {middle} {y1}, {middle} {y2}, {x2} {y2}\"/>"
        );
        if !edge.label.is_empty() {
            // Near its end, where the curves of a service have parted.
            let _ = writeln!(
                text,
                "  <text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                x2 - 8,
                label_height(y1, y2),
                escaped(&edge.label)
            );
        }
    }
    for (drawn, place) in drawing.boxes.iter().zip(&places) {
        let Place { x, y, width, height } = *place;
        let look = drawn.look.name();
        let _ = writeln!(
            text,
            "  <rect class=\"{look}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
             rx=\"6\"/>"
        );
        for (at, line) in drawn.lines.iter().enumerate() {
            let class = if at == 0 { " class=\"name\"" } else { "" };
            let _ = writeln!(
                text,
                "  <text{class} x=\"{}\" y=\"{}\">{}</text>",
                x + PADDING,
                y + PADDING + at * LINE + LINE * 3 / 4,
                escaped(line)
            );
        }
    }
    text.push_str("</svg>\n");
    text
}

/// Where the label of a curve stands that comes from `y1` and ends at `y2`: beside it, on the side
/// from which it comes.
fn label_height(y1: usize, y2: usize) -> usize {
    match y1.cmp(&y2) {
        std::cmp::Ordering::Greater => y2 + 16,
        _ => y2.saturating_sub(6),
    }
}

/// Columns from left to right, each in the middle of the highest.
fn places(boxes: &[DrawnBox]) -> Vec<Place> {
    let size = |drawn: &DrawnBox| {
        let longest = drawn.lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        (longest * CHARACTER + 2 * PADDING, drawn.lines.len() * LINE + 2 * PADDING)
    };
    let columns: Vec<Vec<usize>> = (0..3)
        .map(|column| (0..boxes.len()).filter(|at| boxes[*at].column == column).collect())
        .collect();
    let height = |column: &Vec<usize>| {
        let heights: usize = column.iter().map(|at| size(&boxes[*at]).1).sum();
        heights + GAP * column.len().saturating_sub(1)
    };
    let highest = columns.iter().map(height).max().unwrap_or(0);
    let mut places = vec![Place { x: 0, y: 0, width: 0, height: 0 }; boxes.len()];
    let mut x = MARGIN;
    for column in columns.iter().filter(|column| !column.is_empty()) {
        let width = column.iter().map(|at| size(&boxes[*at]).0).max().unwrap_or(0);
        let mut y = HEAD + (highest - height(column)) / 2;
        for at in column {
            let height = size(&boxes[*at]).1;
            places[*at] = Place { x, y, width, height };
            y += height + GAP;
        }
        x += width + BETWEEN;
    }
    places
}

/// Text of an element, with nothing that XML 1.0 does not take (2.2, Char).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => escaped.push(c),
            _ => escaped.push('\u{fffd}'),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::super::overview::testing::Cluster;
    use super::super::model::Look;
    use super::*;

    fn drawn(cluster: Cluster) -> (Drawing, String) {
        let overview = cluster.overview();
        let drawing = Drawing::of(&overview.report, &overview.names);
        let text = text(&drawing);
        (drawing, text)
    }

    #[test]
    fn the_image_is_xml_with_a_box_for_each_and_a_curve_for_each_way() {
        let mut cluster = Cluster::troubled();
        cluster.state.drains.values_mut().for_each(|order| order.by = "<&\"\u{1}".to_owned());
        let (drawing, text) = drawn(cluster);
        let document = roxmltree::Document::parse(&text).unwrap();
        let of = |name: &str| {
            let nodes = document.descendants();
            nodes.filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", name))).count()
        };
        assert_eq!(of("rect"), drawing.boxes.len() + 1, "and the page");
        assert_eq!(of("path"), drawing.edges.len());
        assert_eq!(of("title"), 1);
        for word in ["node 1 (alpha)", "tcp 192.0.2.10:80", "unhealthy, weight 0, 23 active"] {
            assert!(document.descendants().any(|node| node.text() == Some(word)), "{word}: {text}");
        }
        for look in Look::ALL {
            let class = format!(".{} {{ stroke", look.name());
            assert_eq!(text.matches(&class).count(), 2, "in light and in dark: {class}");
        }
    }

    #[test]
    fn boxes_do_not_overlap_and_stand_within_the_page() {
        let (drawing, _) = drawn(Cluster::troubled());
        let places = places(&drawing.boxes);
        for (at, one) in places.iter().enumerate() {
            for other in &places[at + 1..] {
                let apart = one.x + one.width < other.x
                    || other.x + other.width < one.x
                    || one.y + one.height < other.y
                    || other.y + other.height < one.y;
                assert!(apart, "{one:?} {other:?}");
            }
            assert!(one.x >= MARGIN && one.y >= HEAD);
        }
    }

    #[test]
    fn characters_that_xml_does_not_take_are_replaced() {
        assert_eq!(escaped("a<b>&\"\u{0}\u{ffff}"), "a&lt;b&gt;&amp;&quot;\u{fffd}\u{fffd}");
    }
}

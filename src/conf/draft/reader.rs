//! One value after the other of the XML tree, each judged by itself.

use std::borrow::Cow;
use std::net::IpAddr;

use roxmltree::Node;

use crate::conf::address::{Unusable, usable};
use crate::conf::clustertab::node_number;
use crate::conf::grammar::{ELEMENTS, Element};
use crate::conf::model::{RegistrationMode, Routing};
use crate::conf::report::{At, ConfReport, Reported, Span};
use crate::conf::words::{alternatives, closest, quoted};
use crate::ipvs::limits::INTERFACE_MAX_LEN;
use crate::protocol::Protocol;

/// Words that people note things with: such an element is no slip of the pen.
const ANNOTATIONS: [&str; 4] = ["comment", "description", "name", "title"];

pub(super) struct DraftReader<'r, 'a> {
    pub(super) report: &'r mut ConfReport<'a>,
}

impl DraftReader<'_, '_> {
    pub(super) fn error(&mut self, at: &Span, message: impl Into<String>) -> Reported<'_> {
        self.report.error(at, message)
    }

    pub(super) fn warning(&mut self, at: &Span, message: impl Into<String>) -> Reported<'_> {
        self.report.warning(at, message)
    }

    /// Hands each child that the grammar knows to `each`, a single one once only; reports
    /// whatever else stands there, and what is missing.
    pub(super) fn walk<'d, 'i>(
        &mut self,
        parent: Node<'d, 'i>,
        element: &Element,
        mut each: impl FnMut(&mut Self, &'static str, Node<'d, 'i>),
    ) {
        self.no_attributes(parent);
        let mut seen: Vec<(&'static str, Span)> = Vec::new();
        for node in parent.children() {
            if node.is_text() {
                self.stray_text(node, element);
                continue;
            }
            if !node.is_element() {
                continue;
            }
            let name = node.tag_name().name();
            let Some(known) = element.children().find(|child| *child == name) else {
                self.unknown(node, name, element);
                continue;
            };
            match seen.iter().find(|(child, _)| *child == known) {
                Some((_, first)) if element.single.contains(&known) => {
                    let line = self.report.line_of(first.start);
                    self.error(
                        &self.tag(node),
                        format!("`{known}` stands twice in this `{}`", element.name),
                    )
                    .help(format!("the first is on line {line}; keep one of them"));
                    continue;
                }
                Some(_) => {}
                None => seen.push((known, node.range())),
            }
            each(self, known, node);
        }
        for (required, purpose) in element.required {
            if !seen.iter().any(|(child, _)| child == required) {
                let message = format!("`{required}` is missing in this `{}`", element.name);
                self.error(&self.tag(parent), message).help(*purpose);
            }
        }
    }

    /// The start tag of an element, as far as its name.
    pub(super) fn tag(&self, node: Node<'_, '_>) -> Span {
        let text = self.report.text();
        let start = node.range().start;
        let length = text[start..]
            .find(|c: char| c.is_whitespace() || c == '/' || c == '>')
            .unwrap_or(text.len() - start);
        let closed = text[start + length..].starts_with('>');
        start..start + length + usize::from(closed)
    }

    pub(super) fn no_attributes(&mut self, node: Node<'_, '_>) {
        let parent = node.tag_name().name();
        let element = ELEMENTS.iter().find(|element| element.name == parent);
        for attribute in node.attributes() {
            let name = attribute.name();
            // A setting in the wrong place would be missing.
            if element.is_some_and(|element| element.children().any(|child| child == name)) {
                let message = format!("attribute `{name}` where `{parent}` takes an element");
                self.error(&attribute.range(), message)
                    .help(format!("write it between the tags of `{parent}`: <{name}>...</{name}>"));
                continue;
            }
            let message = format!("attribute {} is ignored", quoted(attribute.name()));
            self.warning(&attribute.range(), message)
                .help("cvip.conf has no attributes: values stand between tags");
        }
    }

    pub(super) fn stray_text(&mut self, node: Node<'_, '_>, element: &Element) {
        if node.text().is_none_or(|text| text.trim().is_empty()) {
            return;
        }
        let span = trimmed(self.report.text(), node.range());
        let text = self.report.text()[span.clone()].to_owned();
        self.error(
            &span,
            format!("text {} where `{}` takes elements only", quoted(&text), element.name),
        )
        .help("put it between the tags of an element, or in a comment: <!-- ... -->");
    }

    /// An element that does not belong here. A slip of the pen is an error, for what was meant by it
    /// would be missing; a word that means nothing here is ignored, as one of a later version.
    pub(super) fn unknown(&mut self, node: Node<'_, '_>, name: &str, element: &Element) {
        let tag = self.tag(node);
        let (word, parent) = (quoted(name), element.name);
        if ANNOTATIONS.contains(&name) && !element.children().any(|child| child == name) {
            self.warning(&tag, format!("unknown element {word} in `{parent}`: it is ignored"))
                .help("comments stand between <!-- and -->");
            return;
        }
        match meant(name, element) {
            Some(help) => {
                self.error(&tag, format!("unknown element {word} in `{parent}`")).help(help)
            }
            None => self
                .warning(&tag, format!("unknown element {word} in `{parent}`: it is ignored"))
                .help("is it of another version? See cvip.conf(5) for the elements that there are"),
        }
    }

    /// The text of an element that holds a value, without the blanks around it.
    pub(super) fn value<'d>(&mut self, node: Node<'d, '_>) -> Option<At<Cow<'d, str>>> {
        self.no_attributes(node);
        let name = node.tag_name().name();
        if let Some(child) = node.children().find(Node::is_element) {
            let element = quoted(child.tag_name().name());
            self.error(
                &self.tag(child),
                format!("`{name}` takes a value, not the element {element}"),
            );
            return None;
        }
        let mut parts = node.children().filter(Node::is_text);
        let Some(first) = parts.next() else {
            self.error(&self.tag(node), format!("`{name}` is empty"));
            return None;
        };
        let mut value = Cow::Borrowed(first.text().unwrap_or(""));
        let mut span = first.range();
        for part in parts {
            value.to_mut().push_str(part.text().unwrap_or(""));
            span.end = part.range().end;
        }
        let value = match value {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        };
        if value.is_empty() {
            self.error(&self.tag(node), format!("`{name}` is empty"));
            return None;
        }
        Some(At { value, span: trimmed(self.report.text(), span) })
    }

    /// A value that `convert` understands; reports the message and help that it gives else.
    pub(super) fn converted<T>(
        &mut self,
        node: Node<'_, '_>,
        convert: impl FnOnce(&str) -> Result<T, (String, Option<String>)>,
    ) -> Option<At<T>> {
        let At { value, span } = self.value(node)?;
        match convert(&value) {
            Ok(value) => Some(At { value, span }),
            Err((message, help)) => {
                self.error(&span, message).help_by(|| help);
                None
            }
        }
    }

    /// A whole number in a range; `what` names it in messages.
    pub(super) fn number(
        &mut self,
        node: Node<'_, '_>,
        what: &str,
        range: std::ops::RangeInclusive<u32>,
        help: Option<&str>,
    ) -> Option<At<u32>> {
        self.converted(node, |text| {
            let help = help.map(str::to_owned);
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err((format!("{what} {} is not a whole number", quoted(text)), help));
            }
            text.parse::<u32>().ok().filter(|number| range.contains(number)).ok_or_else(|| {
                let (low, high) = range.into_inner();
                (format!("{what} {} is outside {low} to {high}", quoted(text)), help)
            })
        })
    }

    pub(super) fn routing(&mut self, node: Node<'_, '_>) -> Option<At<Routing>> {
        self.word(node, &Routing::ALL, Routing::name, ("routing method", "it is one of"))
    }

    pub(super) fn node_num(&mut self, node: Node<'_, '_>) -> Option<At<u32>> {
        let At { value, span } = self.value(node)?;
        node_number(self.report, &value, &span).map(|value| At { value, span })
    }

    pub(super) fn address(&mut self, node: Node<'_, '_>) -> Option<At<IpAddr>> {
        self.converted(node, |text| {
            usable(text).map_err(|Unusable { message, help }| (message, help))
        })
    }

    /// An interface's name, by the kernel's rule (`dev_valid_name`, net/core/dev.c).
    pub(super) fn interface(&mut self, node: Node<'_, '_>) -> Option<At<String>> {
        self.converted(node, |text| {
            let refused = |why: &str, help: Option<String>| {
                Err((format!("{} is not an interface name: {why}", quoted(text)), help))
            };
            if let Some((device, _)) = text.split_once(':') {
                return refused("it has a `:`", Some(format!("write {}", quoted(device))));
            }
            if text.contains('/') {
                return refused("it has a `/`", None);
            }
            if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return refused("it has a blank", None);
            }
            if text == "." || text == ".." {
                return refused("Linux keeps it for folders", None);
            }
            if text.len() > INTERFACE_MAX_LEN {
                return refused(
                    &format!("it is longer than {INTERFACE_MAX_LEN} bytes"),
                    Some("`ip link` lists the names".to_owned()),
                );
            }
            Ok(text.to_owned())
        })
    }

    pub(super) fn weight(&mut self, node: Node<'_, '_>, least: u32) -> Option<u16> {
        let range = least..=u16::MAX.into();
        let weight = self.number(node, "weight", range, Some("weight 0 takes no connections"))?;
        u16::try_from(weight.value).ok()
    }

    /// One of some words, in any case; `unknown` says what the word is not, and `known` begins
    /// the help that lists them.
    pub(super) fn word<T: Copy>(
        &mut self,
        node: Node<'_, '_>,
        all: &[T],
        name: impl Fn(T) -> &'static str,
        (unknown, known): (&str, &str),
    ) -> Option<At<T>> {
        self.converted(node, |text| {
            all.iter().copied().find(|word| name(*word).eq_ignore_ascii_case(text)).ok_or_else(
                || {
                    let words: Vec<&str> = all.iter().map(|word| name(*word)).collect();
                    let help = format!("{known} {}", alternatives(&words));
                    (format!("unknown {unknown} {}", quoted(text)), Some(help))
                },
            )
        })
    }

    /// A list with commas between its items, each with its own place.
    pub(super) fn list(&mut self, node: Node<'_, '_>) -> Option<Vec<At<String>>> {
        let At { value, span } = self.value(node)?;
        // Not so where a comment or a character reference stands within the list.
        let literal = self.report.text()[span.clone()] == *value;
        let mut start = span.start;
        let mut items = Vec::new();
        for item in value.split(',') {
            let place = start..start + item.len();
            start = place.end + 1;
            let place = match literal {
                true => trimmed(self.report.text(), place),
                false => span.clone(),
            };
            if item.trim().is_empty() {
                self.error(&place, "an empty item in a list")
                    .help("one comma stands between two items, and none at the end");
                return None;
            }
            items.push(At { value: item.trim().to_owned(), span: place });
        }
        Some(items)
    }
}

/// A span without the blanks at its ends.
fn trimmed(text: &str, span: Span) -> Span {
    let part = &text[span.clone()];
    let start = span.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

/// The child of an element that takes this word for its value, and the word as it is written.
fn taker(word: &str, element: &Element) -> Option<(&'static str, &'static str)> {
    element.children().find_map(|child| {
        let mut values = match child {
            "routing" => Routing::ALL.map(Routing::name).to_vec(),
            "protocol" => Protocol::ALL.map(Protocol::name).to_vec(),
            "registration" => RegistrationMode::ALL.map(RegistrationMode::name).to_vec(),
            _ => return None,
        };
        values.retain(|value| value.eq_ignore_ascii_case(word));
        Some((child, values.pop()?))
    })
}

/// What was probably meant by an element that is unknown here; none if it resembles nothing.
fn meant(name: &str, element: &Element) -> Option<String> {
    if let Some((child, value)) = taker(name, element) {
        return Some(format!("write <{child}>{value}</{child}>"));
    }
    let home = |name: &str| ELEMENTS.iter().find(|e| e.children().any(|child| child == name));
    if let Some(home) = home(name) {
        return Some(format!("`{name}` belongs in `{}`", home.name));
    }
    let begins = |child: &&str| {
        let rest = child.strip_prefix(name).or_else(|| name.strip_prefix(*child));
        name.len() > 1 && rest.is_some_and(|rest| rest.starts_with('_'))
    };
    let own = closest(name, element.children()).or_else(|| element.children().find(begins));
    if let Some(meant) = own {
        return Some(format!("did you mean `{meant}`?"));
    }
    let all = || ELEMENTS.iter().flat_map(|element| element.children());
    let meant = closest(name, all()).or_else(|| all().find(begins))?;
    Some(format!("did you mean `{meant}`? It belongs in `{}`", home(meant)?.name))
}

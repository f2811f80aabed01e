//! cvip.conf's XML: from text to a tree, with a message of ours where it is malformed.
//!
//! What the grammar has no use for (document types, entities, masses of attributes) is
//! refused before it can cost anything.

use roxmltree::{Document, Error, ParsingOptions, TextPos};

use super::report::{ConfReport, Span};
use super::words::quoted;

/// Attributes that a file may have in all. cvip.conf has none, and the XML parser compares
/// each with all others of its element, and copies namespaces into nested elements.
const MAX_ATTRIBUTES: usize = 1000;

/// The tree of a text; reports why there is none.
pub(super) fn document<'a>(report: &mut ConfReport<'a>) -> Option<Document<'a>> {
    let text = report.text();
    if text.trim().is_empty() {
        report
            .error(&(0..0), "the file is empty")
            .help("the least is one `cvips` element with `routing` and a `cvip`");
        return None;
    }
    if let Some(at) = attribute_beyond(text, MAX_ATTRIBUTES) {
        report
            .error(&(at..at + 1), format!("more than {MAX_ATTRIBUTES} attributes in one file"))
            .help("cvip.conf has no attributes: values stand between tags");
        return None;
    }
    match Document::parse_with_options(text, ParsingOptions::default()) {
        Ok(document) => Some(document),
        Err(error) => {
            malformed(report, &error);
            None
        }
    }
}

/// What holds no attributes, whatever stands in it.
const WITHOUT_ATTRIBUTES: [(&str, &str); 3] = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];

/// The byte of the first `=` in tags and text beyond so many.
fn attribute_beyond(text: &str, most: usize) -> Option<usize> {
    let mut count = 0;
    let mut skip_until = 0;
    for (at, sign) in text.match_indices(['<', '=']) {
        if at < skip_until {
            continue;
        }
        let rest = &text[at..];
        if sign == "=" {
            count += 1;
            if count > most {
                return Some(at);
            }
        } else if let Some((_, close)) =
            WITHOUT_ATTRIBUTES.iter().find(|(open, _)| rest.starts_with(open))
        {
            skip_until = rest.find(close).map_or(text.len(), |end| at + end);
        }
    }
    None
}

/// Reports malformed XML in the words of a configuration file's author.
fn malformed(report: &mut ConfReport<'_>, error: &Error) {
    let text = report.text();
    let end = text.trim_end().len();
    let at = |pos: TextPos| report.offset_of(pos.row as usize, pos.col as usize);
    let char_at = |at: usize| at..at + text[at..].chars().next().map_or(0, char::len_utf8);
    let tag_at =
        |at: usize| -> Span { at..text[at..].find('>').map_or(text.len(), |close| at + close + 1) };
    let (span, message, help): (Span, String, &str) = match error {
        Error::DtdDetected => {
            let at = text.find("<!DOCTYPE").unwrap_or(0);
            let message = "a document type (DOCTYPE) is not taken".to_owned();
            (tag_at(at), message, "remove it: cvip.conf needs no DTD and no entities")
        }
        Error::UnknownEntityReference(name, pos) => (
            tag_like(text, at(*pos), ';'),
            format!("unknown entity {}", quoted(&format!("&{name};"))),
            "XML has &amp; &lt; &gt; &quot; and &apos; only",
        ),
        Error::MalformedEntityReference(pos) => (
            char_at(at(*pos)),
            "a `&` that begins no entity".to_owned(),
            "write &amp; for the character itself",
        ),
        Error::UnexpectedCloseTag(open, close, pos) => (
            tag_at(at(*pos)),
            format!(
                "{} closes what {} opened",
                quoted(&format!("</{close}>")),
                quoted(&format!("<{open}>"))
            ),
            "close elements in the reverse order of opening them",
        ),
        Error::UnclosedRootNode | Error::UnexpectedEndOfStream => (
            end..end,
            "the file ends before its elements are closed".to_owned(),
            "the last line is `</cvips>`",
        ),
        Error::NoRootNode => (
            end..end,
            "there is no element in the file".to_owned(),
            "the least is one `cvips` element with `routing` and a `cvip`",
        ),
        Error::DuplicatedAttribute(name, pos) => (
            char_at(at(*pos)),
            format!("attribute {} stands twice", quoted(name)),
            "cvip.conf has no attributes: values stand between tags",
        ),
        Error::InvalidComment(pos) => (
            char_at(at(*pos)),
            "`--` inside a comment".to_owned(),
            "XML ends a comment with `-->` and allows no other `--` in it",
        ),
        Error::NonXmlChar(c, pos) => (
            char_at(at(*pos)),
            format!("U+{:04X} is not a character of XML", u32::from(*c)),
            "remove it",
        ),
        Error::UnexpectedDeclaration(pos) => (
            tag_at(at(*pos)),
            "the XML declaration stands at the very start of the file, or not at all".to_owned(),
            "remove what stands before it, blanks too",
        ),
        other => {
            let pos = other.pos();
            let words = match other {
                // What stands there instead is shown by the mark.
                Error::InvalidChar(expected, ..) => format!("expected '{}'", *expected as char),
                Error::InvalidChar2(expected, ..) => format!("expected {expected}"),
                _ => other.to_string(),
            };
            // The parser's own words end in the position, which stands before ours.
            let words = words.strip_suffix(&format!(" at {pos}")).unwrap_or(&words);
            let message = format!("malformed XML: {words}");
            (char_at(at(pos)), message, "values stand between tags, as in `<port>80</port>`")
        }
    };
    report.error(&span, message).help(help);
}

/// From a byte to the next `end` on its line, or that byte's character alone.
fn tag_like(text: &str, at: usize, end: char) -> Span {
    let line = text[at..].lines().next().unwrap_or("");
    at..at + line.find(end).map_or_else(|| usize::from(!line.is_empty()), |close| close + 1)
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, str};

    use super::*;

    fn shown(text: &str) -> String {
        let mut report = ConfReport::new("cvip.conf", text);
        assert!(document(&mut report).is_none());
        report.finish().iter().map(|d| format!("{d}\n")).collect()
    }

    #[test]
    fn a_document_type_is_refused_before_any_entity_is_expanded() {
        let bomb = "<?xml version=\"1.0\"?>\n<!DOCTYPE cvips [<!ENTITY a \"aaaa\">]>\n<cvips>&a;</cvips>\n";
        assert_data_eq!(
            shown(bomb),
            str![[r#"
cvip.conf:2:1: error: a document type (DOCTYPE) is not taken
<!DOCTYPE cvips [<!ENTITY a "aaaa">]>
^~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
help: remove it: cvip.conf needs no DTD and no entities

"#]]
        );
    }

    #[test]
    fn malformed_xml_is_shown_where_it_stands() {
        assert_data_eq!(
            shown("<cvips>\n  <cvip>\n    <port>80</prot>\n  </cvip>\n</cvips>\n"),
            str![[r#"
cvip.conf:3:13: error: `</prot>` closes what `<port>` opened
    <port>80</prot>
            ^~~~~~~
help: close elements in the reverse order of opening them

"#]]
        );
        assert_data_eq!(
            shown("<cvips>\n\t<routing>DR</routing>\n"),
            str![[r#"
cvip.conf:2:23: error: the file ends before its elements are closed
	<routing>DR</routing>
	                     ^
help: the last line is `</cvips>`

"#]]
        );
        assert_data_eq!(
            shown("<cvips>\n  <owner>a&b;c</owner></cvips>"),
            str![[r#"
cvip.conf:2:11: error: unknown entity `&b;`
  <owner>a&b;c</owner></cvips>
          ^~~
help: XML has &amp; &lt; &gt; &quot; and &apos; only

"#]]
        );
        assert_data_eq!(
            shown("<cvips>\n  <owner>a & b</owner></cvips>"),
            str![[r#"
cvip.conf:2:12: error: a `&` that begins no entity
  <owner>a & b</owner></cvips>
           ^
help: write &amp; for the character itself

"#]]
        );
        assert_data_eq!(
            shown("\n<?xml version=\"1.0\"?>\n<cvips/>"),
            str![[r#"
cvip.conf:2:1: error: the XML declaration stands at the very start of the file, or not at all
<?xml version="1.0"?>
^~~~~~~~~~~~~~~~~~~~~
help: remove what stands before it, blanks too

"#]]
        );
        assert_data_eq!(
            shown("<cvips>\n<!-- a -- b --></cvips>"),
            str![[r#"
cvip.conf:2:1: error: `--` inside a comment
<!-- a -- b --></cvips>
^
help: XML ends a comment with `-->` and allows no other `--` in it

"#]]
        );
        assert_data_eq!(
            shown("<cvips port=80/>"),
            str![[r#"
cvip.conf:1:13: error: malformed XML: expected a quote
<cvips port=80/>
            ^
help: values stand between tags, as in `<port>80</port>`

"#]]
        );
    }

    #[test]
    fn a_file_without_any_element_says_so() {
        for text in ["", " \n", "<!-- later -->\n", "80\n"] {
            assert!(shown(text).contains("error: "), "{text}");
        }
    }

    #[test]
    fn masses_of_attributes_are_refused_before_they_cost_anything() {
        let attributes: String = (0..2000).map(|n| format!(" a{n}='>'")).collect();
        assert!(shown(&format!("<cvips{attributes}/>")).contains("more than 1000 attributes"));
        let nested: String = (0..2000).map(|n| format!("<a xmlns:n{n}='u'>")).collect();
        assert!(shown(&nested).contains("more than 1000 attributes"));
        let rule = "=".repeat(2000);
        let comment = format!("<!--{rule}--><cvips><?a {rule}?><![CDATA[{rule}]]></cvips>");
        assert_eq!(attribute_beyond(&comment, MAX_ATTRIBUTES), None);
    }

    #[test]
    fn nesting_as_deep_as_a_file_can_be_is_no_danger() {
        let deep = "<a>".repeat(300_000);
        assert!(shown(&deep).contains("the file ends before its elements are closed"));
    }
}

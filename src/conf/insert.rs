//! Further services for a cvip.conf that stands: put into its text, of which nothing else
//! changes. Pure.

use std::fmt::Write;
use std::net::IpAddr;

use roxmltree::{Document, Node, ParsingOptions};

use super::clustertab::Clustertab;
use super::diagnostic::{Diagnostic, DiagnosticSeverity};
use super::grammar::{CVIP, SERVICE};
use super::load::MAX_BYTES;
use super::model::ServiceConf;
use super::parse::parse;
use super::write::Xml;

/// What one level of depth is indented by in [`Xml`].
const WRITTEN_UNIT: usize = 4;

/// The text with further services, each at the end of its CVIP, indented as what stands there.
/// `path` is for messages.
///
/// # Errors
/// The faults of the text as it is, or of what it would become, or that what it would become
/// says anything else than the text and the services: then nothing is to be changed.
pub fn with_services(
    text: &str,
    path: &str,
    clustertab: &Clustertab,
    services: &[(IpAddr, ServiceConf)],
) -> Result<String, Vec<Diagnostic>> {
    let fault = |message: String| {
        let (severity, path) = (DiagnosticSeverity::Error, path.to_owned());
        vec![Diagnostic { severity, path, place: None, message, help: None }]
    };
    let (Some(mut conf), _) = parse(text, path, clustertab) else {
        return Err(parse(text, path, clustertab).1);
    };
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = Document::parse_with_options(bare, ParsingOptions::default())
        .map_err(|error| fault(error.to_string()))?;
    let elements = document.root_element().children().filter(|n| n.tag_name().name() == CVIP.name);
    let mut new = text[..text.len() - bare.len()].to_owned();
    let mut copied = 0;
    // The elements are those of which the parser made the model, in the same order.
    for (element, cvip) in elements.zip(&mut conf.cvips) {
        let own = services.iter().filter(|(addr, _)| *addr == cvip.addr);
        let own: Vec<ServiceConf> = own.map(|(_, service)| service.clone()).collect();
        if own.is_empty() {
            continue;
        }
        let place = InsertPlace::of(bare, element);
        new.push_str(&bare[copied..place.at]);
        place.write(&mut new, &own);
        copied = place.at;
        cvip.services.extend(own);
    }
    new.push_str(&bare[copied..]);
    if new.len() as u64 > MAX_BYTES {
        return Err(fault(format!("it would be larger than {MAX_BYTES} bytes (1 MiB)")));
    }
    match parse(&new, path, clustertab) {
        (Some(said), _) if said == conf => Ok(new),
        (Some(_), _) => Err(fault("it would not say what it is to say".to_owned())),
        (None, faults) => Err(faults),
    }
}

/// Where services go in the text, and how they are indented there.
struct InsertPlace<'t> {
    /// The byte before which they go.
    at: usize,
    /// The CVIP's closing tag stands behind something else on its line.
    in_a_line: bool,
    /// The blanks before the CVIP's own tag.
    outer: &'t str,
    /// The blanks before its children.
    inner: String,
    /// The blanks of one more level.
    unit: String,
    line_end: &'static str,
}

impl<'t> InsertPlace<'t> {
    fn of(text: &'t str, cvip: Node<'_, '_>) -> InsertPlace<'t> {
        let range = cvip.range();
        let close = text[..range.end].rfind("</").unwrap_or(range.end);
        let line = text[..close].rfind('\n').map_or(0, |newline| newline + 1);
        let in_a_line = !text[line..close].trim().is_empty();
        let outer = indentation(text, range.start).unwrap_or("");
        // A service's own indentation before that of others, which may stand in a line.
        let children = || cvip.children().filter(Node::is_element);
        let service = children().rfind(|child| child.tag_name().name() == SERVICE.name);
        let inner = service
            .into_iter()
            .chain(children())
            .find_map(|child| indentation(text, child.range().start));
        let spaces = " ".repeat(WRITTEN_UNIT);
        let inner = inner.map_or_else(|| format!("{outer}{spaces}"), str::to_owned);
        let unit = inner.strip_prefix(outer).filter(|unit| !unit.is_empty()).map(str::to_owned);
        InsertPlace {
            at: if in_a_line { close } else { line },
            in_a_line,
            outer,
            unit: unit.unwrap_or(spaces),
            inner,
            line_end: if text.contains("\r\n") { "\r\n" } else { "\n" },
        }
    }

    fn write(&self, text: &mut String, services: &[ServiceConf]) {
        let InsertPlace { outer, inner, unit, line_end, .. } = self;
        if self.in_a_line {
            text.push_str(line_end);
        }
        for line in
            services.iter().map(|service| Xml(service).to_string()).collect::<String>().lines()
        {
            let tag = line.trim_start();
            let depth = ((line.len() - tag.len()) / WRITTEN_UNIT).saturating_sub(2);
            // Writing to a String cannot fail.
            let _ = write!(text, "{inner}{}{tag}{line_end}", unit.repeat(depth));
        }
        if self.in_a_line {
            text.push_str(outer);
        }
    }
}

/// The blanks before a byte, if nothing else stands before it on its line.
fn indentation(text: &str, at: usize) -> Option<&str> {
    let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    Some(&text[line..at]).filter(|before| before.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, str};

    use super::*;
    use crate::conf::{DiagnosticSeverity, RegistrationMode};
    use crate::protocol::Protocol;

    const CLUSTERTAB: &str = "1 192.168.200.1\n2 192.168.200.2\n";

    fn clustertab() -> Clustertab {
        Clustertab::parse(CLUSTERTAB, "clustertab").0.expect("a clustertab")
    }

    fn xdmcp() -> ServiceConf {
        let mut service = ServiceConf::new(Protocol::Udp, 177, 177);
        service.persistence = Some(300);
        service.registration = RegistrationMode::Static;
        service.node_weights = [(2, 3)].into();
        service
    }

    fn inserted(text: &str, services: &[(&str, ServiceConf)]) -> Result<String, String> {
        let services: Vec<(IpAddr, ServiceConf)> =
            services.iter().map(|(addr, s)| (addr.parse().unwrap(), s.clone())).collect();
        with_services(text, "cvip.conf", &clustertab(), &services)
            .map_err(|faults| faults.iter().map(|fault| format!("{fault}\n")).collect())
    }

    const TWO: &str = "<?xml version=\"1.0\"?>
<!-- mine -->
<cvips>
  <routing>DR</routing>
  <cvip> <!-- the first -->
    <ip_addr>192.168.200.10</ip_addr>
    <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
    <real_server_node><node_num>2</node_num></real_server_node>
      <!-- odd   -->
  </cvip>

\t<cvip>
\t\t<ip_addr>192.168.200.11</ip_addr>
\t\t<director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
\t\t<real_server_node><node_num>2</node_num></real_server_node>
\t\t<service>
\t\t\t<port>80</port>
\t\t</service></cvip>
</cvips>
";

    #[test]
    fn services_stand_at_the_end_of_their_cvip_indented_as_their_neighbours() {
        let new = inserted(TWO, &[("192.168.200.11", xdmcp()), ("192.168.200.10", xdmcp())]);
        assert_data_eq!(
            new.unwrap().replace('\t', "->"),
            str![[r#"
<?xml version="1.0"?>
<!-- mine -->
<cvips>
  <routing>DR</routing>
  <cvip> <!-- the first -->
    <ip_addr>192.168.200.10</ip_addr>
    <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
    <real_server_node><node_num>2</node_num></real_server_node>
      <!-- odd   -->
    <service>
      <protocol>udp</protocol>
      <port>177</port>
      <persistence>300</persistence>
      <node>
        <node_num>2</node_num>
        <weight>3</weight>
      </node>
      <registration>static</registration>
    </service>
  </cvip>

-><cvip>
->-><ip_addr>192.168.200.11</ip_addr>
->-><director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
->-><real_server_node><node_num>2</node_num></real_server_node>
->-><service>
->->-><port>80</port>
->-></service>
->-><service>
->->-><protocol>udp</protocol>
->->-><port>177</port>
->->-><persistence>300</persistence>
->->-><node>
->->->-><node_num>2</node_num>
->->->-><weight>3</weight>
->->-></node>
->->-><registration>static</registration>
->-></service>
-></cvip>
</cvips>

"#]]
        );
    }

    #[test]
    fn nothing_else_of_the_text_changes() {
        let web = ServiceConf::new(Protocol::Tcp, 8080, 8089);
        let lines = TWO.replace('\n', "");
        for text in [TWO.to_owned(), TWO.replace('\n', "\r\n"), format!("\u{feff}{TWO}"), lines] {
            let services = [("192.168.200.10", xdmcp()), ("192.168.200.10", web.clone())];
            let new = inserted(&text, &services).unwrap();
            let start = new.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
            let added = new.len() - text.len();
            assert_eq!(new[start + added..], text[start..]);
            let added = &new[start..start + added];
            assert_eq!(added.matches("<service>").count(), 2, "{added}");
            let ends = added.matches("\r\n").count();
            assert!(ends == 0 || ends == added.matches('\n').count(), "{added:?}");
            assert_eq!(inserted(&text, &[]).unwrap(), text);
        }
    }

    #[test]
    fn what_the_file_would_refuse_is_not_put_into_it() {
        let mut twice = xdmcp();
        (twice.protocol, twice.start, twice.end) = (Protocol::Tcp, 70, 90);
        let fault = inserted(TWO, &[("192.168.200.11", twice)]).unwrap_err();
        assert!(fault.contains("tcp 80 is in two services"), "{fault}");
        let fault = inserted("<cvips/>", &[]).unwrap_err();
        assert!(fault.contains("`routing` is missing"), "{fault}");
        // What cannot be said is not said otherwise.
        let mut odd = xdmcp();
        odd.persistence = None;
        odd.persistence_netmask = None;
        odd.scheduler_flags = 1 << 20;
        let fault = inserted(TWO, &[("192.168.200.11", odd)]).unwrap_err();
        assert!(fault.contains("error: "), "{fault}");
        let many: Vec<_> = (1..6000)
            .map(|port| ("192.168.200.10", ServiceConf { start: port, end: port, ..xdmcp() }))
            .collect();
        assert!(inserted(TWO, &many).unwrap_err().contains("larger than 1048576 bytes"));
    }

    #[test]
    fn a_fault_is_an_error() {
        let faults = with_services("", "c", &clustertab(), &[]).unwrap_err();
        assert!(faults.iter().any(|fault| fault.severity == DiagnosticSeverity::Error));
    }
}

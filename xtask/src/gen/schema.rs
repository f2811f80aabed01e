//! The section JSON of a page, from the JSON Schema of its document.
//!
//! `docs/json` is what the tests hold against the programs; the pages say no more and no less.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::roff::{bold, literal, paragraph, sentence};
use crate::build;

const ABOUT: &str = ".SH JSON
A document is one object.
Its member
.B schema
is the version of the documents, 1; it grows when a member changes its meaning
or goes away, not when one is added.
Units stand in the names of members, times are RFC 3339 in UTC.
";

/// Pages whose document has another name than their command, or is another program's, and those
/// with more than one.
const DOCUMENTS: [(&str, &[&str]); 4] = [
    ("cvipctl-convert", &["table"]),
    ("cvipctl-events", &["event"]),
    ("cvipctl-import", &["import-table", "import"]),
    ("setport_weight", &["flags"]),
];

/// A document's schema, with those that it refers to.
struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    fn load() -> Result<Schemas> {
        let mut schemas = BTreeMap::new();
        for entry in fs::read_dir(build::root().join("docs/json"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read_to_string(&path)?;
                let schema =
                    serde_json::from_str(&text).with_context(|| path.display().to_string())?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                schemas.insert(name, schema);
            }
        }
        Ok(Schemas(schemas))
    }

    /// What a schema refers to, and in which file that stands.
    fn resolve<'a>(&'a self, schema: &'a Value, file: &'a str) -> (&'a Value, &'a str) {
        let Some(reference) = schema["$ref"].as_str() else { return (schema, file) };
        let (other, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let file = if other.is_empty() { file } else { other };
        match self.0.get_key_value(file).and_then(|(f, v)| Some((f, v.pointer(pointer)?))) {
            Some((file, schema)) => (schema, file),
            None => (schema, file),
        }
    }
}

/// A member of a document: its name with those around it, its type and its meaning.
#[derive(Debug, PartialEq, Eq)]
struct DocumentMember {
    path: String,
    kind: String,
    about: String,
    is_optional: bool,
}

/// The section of a page; without a schema of its own, what all documents have in common.
pub(super) fn section(page: &str) -> Result<String> {
    let command = page.strip_prefix("cvipctl-").unwrap_or(page);
    let named = DOCUMENTS.iter().find(|(of, _)| *of == page).map(|(_, document)| *document);
    let own = [command];
    let documents = named.unwrap_or(&own);
    let schemas = Schemas::load()?;
    let mut text = ABOUT.to_owned();
    for document in documents {
        push_document(&mut text, &schemas, document, documents.len() > 1);
    }
    Ok(text)
}

/// The members of one document; of several each says what prints it.
fn push_document(text: &mut String, schemas: &Schemas, document: &str, is_one_of_several: bool) {
    let Some((file, schema)) = schemas.0.get_key_value(&format!("{document}.json")) else { return };
    if is_one_of_several {
        let about = schema["description"].as_str().unwrap_or_default();
        let _ = writeln!(text, ".PP\n{}", paragraph(&sentence(about)));
    }
    match document {
        "table" => text.push_str(
            "The document is that of\n.BR \"ipvsadm\\-rs \\-\\-list \\-\\-json\" ,\nwithout \
             counters:\n.BR ipvsadm\\-rs (8)\ndescribes it, and its\n.B \\-\\-restore\\-json\n\
             takes it.\n",
        ),
        "event" => push_kinds(text, schemas, schema, file),
        _ => {
            for member in members(schemas, schema, file, "") {
                let optional = if member.is_optional { ", may be absent" } else { "" };
                let about = paragraph(&sentence(&member.about));
                let tag = format!("{} ({}{optional})", bold(&member.path), literal(&member.kind));
                let _ = writeln!(text, ".TP\n{tag}\n{about}");
            }
        }
    }
    let _ = writeln!(text, ".PP\nThe sources have its JSON Schema:\n.IR docs/json/{file} .");
}

/// The names of an object's members: those that it must have in their order, then the others.
fn names(schema: &Value) -> Vec<(&str, bool)> {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut names: Vec<(&str, bool)> = required.map(|name| (name, false)).collect();
    let mut others: Vec<&str> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .filter(|name| !names.iter().any(|(known, _)| known == name))
        .collect();
    others.sort_unstable();
    names.extend(others.into_iter().map(|name| (name, true)));
    names
}

fn members(schemas: &Schemas, schema: &Value, file: &str, path: &str) -> Vec<DocumentMember> {
    let mut found = Vec::new();
    for (name, is_optional) in names(schema).into_iter().filter(|(name, _)| *name != "schema") {
        let written = &schema["properties"][name];
        let (member, of) = schemas.resolve(written, file);
        let path = format!("{path}{name}");
        let about = written["description"].as_str().or(member["description"].as_str());
        let about = about.unwrap_or_default().to_owned();
        let (inner, inner_of) = schemas.resolve(&member["items"], of);
        let kind = match member["type"] == "array" {
            true => format!("list of {}", plural(&kind(inner))),
            false => kind(member),
        };
        found.push(DocumentMember { path: path.clone(), kind, about, is_optional });
        if inner["type"] == "object" && of_table(inner_of).is_none() {
            found.extend(members(schemas, inner, inner_of, &format!("{path}[].")));
        }
        if member["properties"].is_object() {
            found.extend(members(schemas, member, of, &format!("{path}.")));
        }
    }
    found
}

/// A virtual service is described once, in ipvsadm-rs(8).
fn of_table(file: &str) -> Option<&str> {
    (file == "table.json").then_some(file)
}

/// A type, for people.
fn kind(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        return words.join(", ");
    }
    match &schema["type"] {
        Value::Array(kinds) => {
            let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
            kinds.join(" or ")
        }
        Value::String(kind) if schema["format"] == "date-time" && kind == "string" => {
            "time".to_owned()
        }
        Value::String(kind) => kind.clone(),
        _ => "value".to_owned(),
    }
}

fn plural(kind: &str) -> String {
    format!("{kind}s")
}

/// The kinds of events, each with what it tells.
fn push_kinds(text: &mut String, schemas: &Schemas, schema: &Value, file: &str) {
    text.push_str("Each line is a document.\nAll have these members:\n");
    for name in ["at", "director"] {
        let about = schema["$defs"][name]["description"].as_str().unwrap_or_default();
        let _ = writeln!(text, ".TP\n{}\n{}", bold(name), paragraph(&sentence(about)));
    }
    let _ = writeln!(text, ".TP\n{}\nThe kind of event, one of the following.", bold("event"));
    text.push_str(".SS Kinds of events\nEach kind has members of its own.\n");
    for kind in schema["oneOf"].as_array().into_iter().flatten() {
        let (kind, file) = schemas.resolve(kind, file);
        let name = kind["properties"]["event"]["const"].as_str().unwrap_or_default();
        let about = kind["description"].as_str().unwrap_or_default();
        let all = names(kind).into_iter();
        let own = all.filter(|(name, _)| !["schema", "at", "director", "event"].contains(name));
        let own: Vec<String> = own
            .map(|(name, is_optional)| {
                let (member, _) = schemas.resolve(&kind["properties"][name], file);
                let about = member["description"].as_str().unwrap_or_default();
                let optional = if is_optional { "may be absent" } else { "" };
                let notes = [about.trim_end_matches('.'), optional];
                let notes: Vec<&str> = notes.into_iter().filter(|n| !n.is_empty()).collect();
                match notes.is_empty() {
                    true => format!("`{name}`"),
                    false => format!("`{name}` ({})", notes.join("; ")),
                }
            })
            .collect();
        let _ = writeln!(text, ".TP\n{}\n{}", bold(name), paragraph(&sentence(about)));
        if !own.is_empty() {
            let _ = writeln!(text, "{}", paragraph(&format!("Members: {}.", own.join(", "))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_of_a_document_of_cvip_s_and_every_kind_of_event_is_described() {
        let schemas = Schemas::load().unwrap();
        // Those of ipvsadm-rs are described in its page.
        let others = [
            "table",
            "connections",
            "timeouts",
            "daemons",
            "totals",
            "kernel-status",
            "server-drain",
            "event",
        ];
        let mut faults = Vec::new();
        for (file, schema) in &schemas.0 {
            if others.contains(&file.trim_end_matches(".json")) {
                continue;
            }
            let members = members(&schemas, schema, file, "");
            let bare = members.into_iter().filter(|member| member.about.is_empty());
            faults.extend(bare.map(|member| format!("{file}: {}", member.path)));
        }
        for kind in schemas.0["event.json"]["oneOf"].as_array().unwrap() {
            if kind["description"].as_str().is_none_or(str::is_empty) {
                faults.push(kind["properties"]["event"]["const"].to_string());
            }
        }
        assert!(faults.is_empty(), "without a description:\n{}", faults.join("\n"));
    }

    #[test]
    fn members_of_members_are_named_with_those_around_them() {
        let schema = serde_json::json!({
            "properties": {
                "rows": { "type": "array", "description": "Rows.", "items": {
                    "type": "object",
                    "properties": { "size": { "type": ["integer", "null"] } },
                    "required": ["size"]
                } },
                "word": { "enum": ["a", "b"], "description": "A word." }
            },
            "required": ["rows"]
        });
        let schemas = Schemas(BTreeMap::new());
        let found = members(&schemas, &schema, "x.json", "");
        let found: Vec<_> = found.iter().map(|m| (&*m.path, &*m.kind, m.is_optional)).collect();
        assert_eq!(
            found,
            [
                ("rows", "list of objects", false),
                ("rows[].size", "integer or null", false),
                ("word", "\"a\", \"b\"", true)
            ]
        );
    }
}

//! Documents held against the JSON Schemas of `docs/json`.
//!
//! Only the keywords that those need are known, and an unknown one is a fault. Stricter than the
//! standard: a member that no schema names is a fault, so that none is printed undocumented.

#![allow(dead_code)] // each program uses its part

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// The schemas, by the names of their files.
pub(crate) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    pub(crate) fn read() -> Schemas {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json");
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let paths = paths.filter(|path| path.extension().is_some_and(|end| end == "json"));
        let read = |path: std::path::PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let schema = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, schema)
        };
        Schemas(paths.map(read).collect())
    }

    /// The document in `text`, which must be one by the schema of this name.
    #[track_caller]
    pub(crate) fn check(&self, name: &str, text: &str) -> Value {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let faults = self.faults(name, &value);
        assert!(faults.is_empty(), "no {name}: {faults:#?}\n{value:#}");
        value
    }

    /// What is wrong with a document, and where.
    pub(crate) fn faults(&self, name: &str, value: &Value) -> Vec<String> {
        let file = format!("{name}.json");
        let mut faults = Vec::new();
        self.hold(&file, &self.0[&file], value, "", &mut faults);
        faults
    }

    /// What is wrong with the schemas themselves: an unknown keyword, or a reference to nothing.
    pub(crate) fn own_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (file, schema) in &self.0 {
            self.walk(file, schema, file, &mut faults);
        }
        faults
    }

    fn walk(&self, file: &str, schema: &Value, place: &str, faults: &mut Vec<String>) {
        let Some(keywords) = schema.as_object() else {
            return faults.push(format!("{place}: no object"));
        };
        for (keyword, value) in keywords {
            let place = format!("{place}/{keyword}");
            match keyword.as_str() {
                "$schema" | "title" | "description" | "type" | "const" | "enum" | "minimum"
                | "maximum" => {}
                "required" => {
                    for name in value.as_array().unwrap() {
                        if schema["properties"].get(name.as_str().unwrap()).is_none() {
                            faults.push(format!("{place}: {name} is no property"));
                        }
                    }
                }
                "format" if value == "date-time" => {}
                "$ref" => {
                    if self.target(file, value.as_str().unwrap()).is_none() {
                        faults.push(format!("{place}: {value} is nowhere"));
                    }
                }
                "items" | "additionalProperties" => self.walk(file, value, &place, faults),
                "properties" | "$defs" => {
                    for (name, schema) in value.as_object().unwrap() {
                        self.walk(file, schema, &format!("{place}/{name}"), faults);
                    }
                }
                "oneOf" => {
                    for (index, schema) in value.as_array().unwrap().iter().enumerate() {
                        self.walk(file, schema, &format!("{place}/{index}"), faults);
                    }
                }
                _ => faults.push(format!("{place}: an unknown keyword")),
            }
        }
    }

    fn target<'a>(&'a self, file: &'a str, reference: &str) -> Option<(&'a str, &'a Value)> {
        let (other, pointer) = reference.split_once('#')?;
        let (file, root) = match other {
            "" => (file, self.0.get(file)?),
            _ => self.0.get_key_value(other).map(|(file, root)| (file.as_str(), root))?,
        };
        Some((file, root.pointer(pointer)?))
    }

    fn hold(
        &self,
        file: &str,
        schema: &Value,
        value: &Value,
        place: &str,
        faults: &mut Vec<String>,
    ) {
        if let Some(reference) = schema["$ref"].as_str() {
            let (file, schema) = self.target(file, reference).unwrap();
            return self.hold(file, schema, value, place, faults);
        }
        if let Some(branches) = schema["oneOf"].as_array() {
            let tried = branches.iter().map(|branch| {
                let mut faults = Vec::new();
                self.hold(file, branch, value, place, &mut faults);
                faults
            });
            let tried: Vec<Vec<String>> = tried.collect();
            if tried.iter().filter(|faults| faults.is_empty()).count() != 1 {
                faults.extend(tried.into_iter().min_by_key(Vec::len).unwrap_or_default());
                faults.push(format!("{place}: not one of several"));
            }
            return;
        }
        let mut is = |right: bool, what: &dyn Fn() -> String| {
            if !right {
                faults.push(format!("{place}: {}", what()));
            }
        };
        let types = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            other => other.as_str().into_iter().collect::<Vec<_>>(),
        };
        let fits = types.is_empty() || types.iter().any(|word| is_of(word, value));
        is(fits, &|| format!("{value} is no {types:?}"));
        if let Some(words) = schema["enum"].as_array() {
            is(words.contains(value), &|| format!("{value} is none of {words:?}"));
        }
        if let Some(only) = schema.get("const") {
            is(value == only, &|| format!("{value} is not {only}"));
        }
        if let (Some(least), Some(number)) = (schema["minimum"].as_i64(), value.as_i64()) {
            is(number >= least, &|| format!("{number} is below {least}"));
        }
        if let (Some(most), Some(number)) = (schema["maximum"].as_i64(), value.as_i64()) {
            is(number <= most, &|| format!("{number} is above {most}"));
        }
        if let (Some(_), Some(text)) = (schema.get("format"), value.as_str()) {
            is(is_a_time(text), &|| format!("{text} is no time by RFC 3339"));
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            is(value.get(name).is_some(), &|| format!("{name} is missing"));
        }
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        for (name, member) in value.as_object().unwrap_or(&none) {
            let place = format!("{place}/{name}");
            match properties.get(name).or_else(|| schema.get("additionalProperties")) {
                Some(schema) => self.hold(file, schema, member, &place, faults),
                None => faults.push(format!("{place}: undocumented")),
            }
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.hold(file, &schema["items"], item, &format!("{place}/{index}"), faults);
        }
    }
}

fn is_of(word: &str, value: &Value) -> bool {
    match word {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => panic!("unknown type {word}"),
    }
}

/// `2026-03-01T10:00:00Z`, with or without a fraction.
fn is_a_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    matches!(shape.as_str(), "0000-00-00T00:00:00Z" | "0000-00-00T00:00:00.000Z")
}

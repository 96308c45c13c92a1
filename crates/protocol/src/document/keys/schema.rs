//! The JSON Schema (draft 2020-12), for editors. It refuses nothing that the reader takes, and of what the reader refuses all
//! that a schema can say: no sums of several keys, no names that must be known elsewhere in the document.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Absent, DOCUMENT, Form, Key, Kind, Law, Section, render};

/// The schema's own name.
pub const SCHEMA_ID: &str = "urn:perigee:document:1";
/// The file that documents name in their `#:schema` line.
pub const SCHEMA_FILE: &str = "perigee.schema.json";

/// The schema as text with a final line break, the same at each call.
pub fn schema() -> String {
    let mut root = Map::new();
    root.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    root.insert("$id".into(), SCHEMA_ID.into());
    root.insert("title".into(), "A CDN document of Perigee".into());
    root.append(&mut section(&DOCUMENT));
    // Nothing here can fail: there are no maps but by strings.
    serde_json::to_string_pretty(&Value::Object(root)).map(|text| text + "\n").unwrap_or_default()
}

fn section(section: &Section) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    let required: Vec<_> =
        section.keys.iter().filter(|key| key.absent == Absent::Refused).map(|key| key.name).collect();
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    let properties = section.keys.iter().map(|key| (key.name.to_owned(), property(key)));
    schema.insert("properties".into(), Value::Object(properties.collect()));
    schema.insert("additionalProperties".into(), false.into());
    if !section.laws.is_empty() {
        schema.insert("allOf".into(), section.laws.iter().map(law).collect());
    }
    schema
}

fn law(law: &Law) -> Value {
    let has = |key: &str, word: &str| json!({ "required": [key], "properties": { key: { "const": word } } });
    match law {
        Law::OneOf(keys) => json!({ "oneOf": each_required(keys) }),
        Law::AnyOf(keys) => json!({ "anyOf": each_required(keys) }),
        Law::AnyKey => json!({ "minProperties": 1 }),
        Law::NotBoth(a, b) => json!({ "not": { "required": [a, b] } }),
        Law::Only(key, other, word) => json!({ "if": { "required": [key] }, "then": has(other, word) }),
        Law::Needed(key, other, word) => json!({ "if": has(other, word), "then": { "required": [key] } }),
    }
}

fn each_required(keys: &[&str]) -> Vec<Value> {
    keys.iter().map(|key| json!({ "required": [key] })).collect()
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind);
    let default = match key.absent {
        Absent::Refused => "required".to_owned(),
        absent => format!("default: {}", render::absent(absent)),
    };
    schema.insert("description".into(), format!("{}\n\n{}; {default}", key.about, render::kind(&key.kind)).into());
    if let Absent::Is(value) = key.absent
        && let Some(value) = json_of(value)
    {
        schema.insert("default".into(), value);
    }
    if let Some(example) = json_of(key.example) {
        schema.insert("examples".into(), json!([example]));
    }
    Value::Object(schema)
}

/// A value of TOML as one of JSON.
fn json_of(value: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("v = {value}")).ok()?;
    serde_json::to_value(table.get("v")?).ok()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn text(form: &Form) -> Map<String, Value> {
    let mut schema = object(json!({ "type": "string", "maxLength": form.chars_max }));
    if !form.pattern.is_empty() {
        schema.insert("pattern".into(), form.pattern.into());
    }
    schema
}

fn kind(kind: &Kind) -> Map<String, Value> {
    let of = |kind: &Kind| Value::Object(self::kind(kind));
    match kind {
        Kind::Boolean => object(json!({ "type": "boolean" })),
        Kind::Integer(low, high, []) => object(json!({ "type": "integer", "minimum": low, "maximum": high })),
        Kind::Integer(low, high, but) => {
            object(json!({ "type": "integer", "minimum": low, "maximum": high, "not": { "enum": but } }))
        }
        Kind::Number(numbers) => object(json!({ "enum": numbers })),
        Kind::Float(low, high) => object(json!({ "type": "number", "minimum": low, "maximum": high })),
        Kind::Duration(low, _) => {
            let digits = if *low == Duration::ZERO { "[0-9]+" } else { "0*[1-9][0-9]*" };
            object(json!({ "type": "string", "pattern": format!("^{digits}(ms|s|m|h|d)$") }))
        }
        Kind::Ttl => object(json!({ "type": "string", "pattern": "^([0-9]+(s|m|h|d)|([0-9]*000|0+)ms)$" })),
        Kind::Size(..) => object(json!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)$" })),
        Kind::Choice(words) => object(json!({ "enum": words })),
        Kind::Text(form) => text(form),
        Kind::List(element, low, high, unique) => object(
            json!({ "type": "array", "items": of(element), "minItems": low, "maxItems": high, "uniqueItems": unique }),
        ),
        Kind::Some(element, high) => {
            let list = Kind::List(element, 1, *high, true);
            object(json!({ "anyOf": [of(element), of(&list)] }))
        }
        Kind::Map(names, value, high) => {
            let mut schema = object(json!({ "type": "object", "additionalProperties": of(value) }));
            if !names.pattern.is_empty() {
                schema.insert("propertyNames".into(), json!({ "pattern": names.pattern }));
            }
            if *high > 0 {
                schema.insert("maxProperties".into(), json!(high));
            }
            schema
        }
        Kind::Table(section) => self::section(section),
        Kind::Tables(section, low, high) => object(json!({
            "type": "array", "items": Value::Object(self::section(section)), "minItems": low, "maxItems": high
        })),
        Kind::Either(kinds) => object(json!({ "anyOf": kinds.iter().map(of).collect::<Vec<_>>() })),
    }
}

//! The schema of an action: which kinds of targets its events may have, and JSON Schemas for what actor, targets and event say about
//! themselves. Schemas come from the outside and are run on every event, so they are small, finite and refer to nothing but themselves.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use gatewright_jose::sha256;
use jsonschema::{PatternOptions, Validator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::model::{MetadataMap, Problem, TargetBody};

/// The whole definition as text, in bytes.
const LARGEST: usize = 16 * 1024;
/// Lists and objects in each other, the schema itself included.
const DEEPEST: usize = 16;
/// Values in one JSON Schema with all its references followed. A pattern counts as many, and what is looked at twice counts twice.
const MOST_WORK: usize = 1_000;
const WORK_OF_PATTERN: usize = 50;
/// What one pattern may grow to, in bytes.
const LARGEST_PATTERN: usize = 64 * 1024;
const MOST_TARGETS: usize = 50;
/// Keywords by which a schema is found from elsewhere, or refers to more than a definition of its own.
const REFUSED: &[&str] = &["$id", "id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary"];
const DRAFTS: &[&str] = &[
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
];

/// A definition as it is stored and compared: what was not given is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Value>,
    pub targets: Vec<TargetDefinition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetDefinition {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

/// Where a definition is wrong, and the code for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionProblem {
    pub field: String,
    pub code: &'static str,
}

impl Definition {
    /// Whether it can be kept and run.
    pub fn check(&self) -> Result<(), DefinitionProblem> {
        let at = |field: String, code| Err(DefinitionProblem { field, code });
        if self.targets.is_empty() {
            return at("targets".to_owned(), "required");
        }
        if self.targets.len() > MOST_TARGETS {
            return at("targets".to_owned(), "must_be_at_most_50");
        }
        for (index, target) in self.targets.iter().enumerate() {
            let field = format!("targets[{index}].type");
            if target.kind.is_empty() {
                return at(field, "required");
            }
            if target.kind.chars().count() > 128 {
                return at(field, "must_be_at_most_128_characters");
            }
            if self.targets[..index].iter().any(|other| other.kind == target.kind) {
                return at(field, "repeated");
            }
        }
        if self.text().len() > LARGEST {
            return at("body".to_owned(), "too_large");
        }
        for (field, schema) in self.schemas() {
            if let Err(code) = check_bounds(schema).and_then(|()| build(schema).map(drop)) {
                return at(field, code);
            }
        }
        Ok(())
    }

    /// The text that is stored. Equal definitions have equal texts: the names of an object are sorted.
    pub fn text(&self) -> String {
        json!(self).to_string()
    }

    fn schemas(&self) -> impl Iterator<Item = (String, &Value)> {
        let actor = self.actor.iter().map(|schema| ("actor.metadata".to_owned(), schema));
        let targets = self.targets.iter().enumerate();
        let targets = targets.filter_map(|(at, target)| Some((format!("targets[{at}].metadata"), target.metadata.as_ref()?)));
        actor.chain(targets).chain(self.metadata.iter().map(|schema| ("metadata".to_owned(), schema)))
    }
}

/// A definition ready to be run.
#[derive(Debug)]
pub struct Compiled {
    actor: Option<Validator>,
    targets: HashMap<String, Option<Validator>>,
    metadata: Option<Validator>,
}

impl Compiled {
    /// What of the event does not fit. What is absent is looked at as an empty object, so that a required name is missed.
    pub fn check(&self, actor: &MetadataMap, targets: &[TargetBody], metadata: &MetadataMap) -> Vec<Problem> {
        let mut problems = Vec::new();
        run(self.actor.as_ref(), "/actor/metadata", actor, &mut problems);
        for (at, target) in targets.iter().enumerate() {
            let empty = MetadataMap::new();
            match self.targets.get(&target.kind) {
                None => problems.push(Problem::new(format!("/targets/{at}/type"), "is no target of this action")),
                Some(schema) => {
                    let given = target.metadata.as_ref().unwrap_or(&empty);
                    run(schema.as_ref(), &format!("/targets/{at}/metadata"), given, &mut problems);
                }
            }
        }
        run(self.metadata.as_ref(), "/metadata", metadata, &mut problems);
        problems
    }
}

fn run(schema: Option<&Validator>, path: &str, given: &MetadataMap, problems: &mut Vec<Problem>) {
    let Some(schema) = schema else { return };
    let given = Value::Object(given.clone());
    for error in schema.iter_errors(&given).take(20) {
        let keyword = error.kind().keyword();
        problems.push(Problem::new(format!("{path}{}", error.instance_path().as_str()), format!("does not fit `{keyword}` of its schema")));
    }
}

/// Compiled definitions by the hash of their text: what a text means never changes, so nothing here can be out of date.
static COMPILED: LazyLock<Mutex<HashMap<[u8; 32], Arc<Compiled>>>> = LazyLock::new(Mutex::default);
const MOST_COMPILED: usize = 256;

/// The stored definition, compiled. `None` if it is none any more, which only a hand in the database can have done.
pub fn compile(text: &str) -> Option<Arc<Compiled>> {
    let hash = sha256(text.as_bytes());
    let known = || COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(compiled) = known().get(&hash) {
        return Some(compiled.clone());
    }
    let definition: Definition = serde_json::from_str(text).ok()?;
    // Whatever a hand in the database wrote, it does not get to run without an end.
    definition.schemas().try_for_each(|(_, schema)| check_bounds(schema)).ok()?;
    let built = |schema: &Option<Value>| schema.as_ref().map(build).transpose();
    let compiled = Arc::new(Compiled {
        actor: built(&definition.actor).ok()?,
        targets: definition
            .targets
            .iter()
            .map(|target| Some((target.kind.clone(), built(&target.metadata).ok()?)))
            .collect::<Option<HashMap<_, _>>>()?,
        metadata: built(&definition.metadata).ok()?,
    });
    // Patterns take the most room by far: those are compiled again each time.
    if !text.contains("\"pattern") {
        let mut known = known();
        if known.len() >= MOST_COMPILED {
            known.clear();
        }
        known.insert(hash, compiled.clone());
    }
    Some(compiled)
}

fn build(schema: &Value) -> Result<Validator, &'static str> {
    jsonschema::options()
        .offline()
        // An annotation, as the newer drafts say. What must hold can be said by `pattern`.
        .should_validate_formats(false)
        // The engine without look-around and back-references: its time is linear in the text.
        .with_pattern_options(PatternOptions::regex().size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_PATTERN))
        .build(schema)
        .map_err(|_| "invalid_schema")
}

fn check_bounds(schema: &Value) -> Result<(), &'static str> {
    let Value::Object(root) = schema else { return Err("must_be_an_object") };
    if let Some(draft) = root.get("$schema") {
        let known = draft.as_str().is_some_and(|draft| DRAFTS.contains(&draft.trim_end_matches('#')));
        if !known {
            return Err("unsupported_draft");
        }
    }
    let mut work = 0;
    measure(schema, root, 1, 1, &mut work)
}

/// Walks the schema with its references followed. A circle of them would be infinitely deep.
fn measure(value: &Value, root: &Map<String, Value>, depth: usize, weight: usize, work: &mut usize) -> Result<(), &'static str> {
    *work += weight;
    if depth > DEEPEST {
        return Err("too_deep");
    }
    if *work > MOST_WORK {
        return Err("too_complex");
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| measure(item, root, depth + 1, weight, work)),
        Value::Object(fields) => {
            if REFUSED.iter().any(|name| fields.get(*name).is_some_and(|value| !value.is_object())) {
                return Err("reference_not_allowed");
            }
            // These look at what the schemas beside and below them found out, once more on each level.
            let again = fields.contains_key("unevaluatedProperties") || fields.contains_key("unevaluatedItems");
            let weight = if again { weight.saturating_mul(2) } else { weight };
            if fields.get("pattern").is_some_and(Value::is_string) {
                *work += weight.saturating_mul(WORK_OF_PATTERN);
            }
            if let Some(Value::Object(patterns)) = fields.get("patternProperties") {
                *work = work.saturating_add(weight.saturating_mul(WORK_OF_PATTERN).saturating_mul(patterns.len()));
            }
            if let Some(Value::String(reference)) = fields.get("$ref") {
                let target = find_definition(reference, root).ok_or("reference_not_allowed")?;
                measure(target, root, depth + 1, weight, work)?;
            }
            fields.values().try_for_each(|field| measure(field, root, depth + 1, weight, work))
        }
        _ => Ok(()),
    }
}

/// `#/$defs/NAME` or `#/definitions/NAME`, and nothing else.
fn find_definition<'a>(reference: &str, root: &'a Map<String, Value>) -> Option<&'a Value> {
    let (group, name) = reference.strip_prefix("#/")?.split_once('/')?;
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    (plain && ["$defs", "definitions"].contains(&group)).then(|| root.get(group)?.get(name)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(metadata: Value) -> Definition {
        Definition { actor: None, targets: vec![TargetDefinition { kind: "team".to_owned(), metadata: None }], metadata: Some(metadata) }
    }

    fn code(metadata: Value) -> Result<(), &'static str> {
        of(metadata).check().map_err(|problem| problem.code)
    }

    #[test]
    fn good_schemas_are_taken() {
        for schema in [
            json!({}),
            json!({"type": "object", "properties": {"role": {"type": "string"}}, "required": ["role"], "additionalProperties": false}),
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"id": {"type": "string"}, "$ref": {"type": "string"}}}),
            json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": {"a": {"type": "number"}}, "properties": {"x": {"$ref": "#/$defs/a"}}}),
            json!({"properties": {"x": {"pattern": "^[a-z]+$", "maxLength": 5}}}),
            json!({"unknown": {"keyword": true}}),
        ] {
            assert_eq!(code(schema.clone()), Ok(()), "{schema}");
        }
    }

    #[test]
    fn a_schema_that_reaches_outside_is_refused() {
        for schema in [
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"$ref": "#"}),
            json!({"$ref": "#/properties/a", "properties": {"a": {}}}),
            json!({"$ref": "#/$defs/none"}),
            json!({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {}}}),
            json!({"$id": "https://example.com/a"}),
            json!({"properties": {"a": {"$dynamicRef": "#a"}}}),
            json!({"$recursiveRef": "#"}),
            json!({"allOf": [{"$anchor": "a"}]}),
        ] {
            assert_eq!(code(schema.clone()), Err("reference_not_allowed"), "{schema}");
        }
        assert_eq!(code(json!({"$schema": "https://example.com/meta"})), Err("unsupported_draft"));
        assert_eq!(code(json!({"$schema": "http://json-schema.org/draft-04/schema#"})), Err("unsupported_draft"));
    }

    #[test]
    fn a_schema_without_end_is_refused() {
        assert_eq!(code(json!({"$defs": {"a": {"$ref": "#/$defs/a"}}})), Err("too_deep"), "a circle of one");
        let circle = json!({"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}});
        assert_eq!(code(circle), Err("too_deep"), "a circle of two");
        let deep = (0..20).fold(json!({}), |inner, _| json!({"not": inner}));
        assert_eq!(code(deep), Err("too_deep"));
        // Each definition refers to the next one ten times.
        let mut definitions = Map::new();
        for level in 0..3 {
            let below: Vec<Value> = (0..10).map(|_| json!({"$ref": format!("#/$defs/d{}", level + 1)})).collect();
            definitions.insert(format!("d{level}"), json!({"anyOf": below}));
        }
        definitions.insert("d3".to_owned(), json!({"type": "string"}));
        assert_eq!(code(json!({"$defs": definitions, "$ref": "#/$defs/d0"})), Err("too_complex"));
        let looked_at_again = (0..11).fold(json!({}), |inner, _| json!({"unevaluatedProperties": false, "not": inner}));
        assert_eq!(code(looked_at_again), Err("too_complex"));
        let patterns: Map<String, Value> = (0..30).map(|at| (format!("^{at}"), json!({}))).collect();
        assert_eq!(code(json!({"patternProperties": patterns})), Err("too_complex"));
        assert_eq!(code(json!({"description": "x".repeat(LARGEST)})).unwrap_err(), "too_large");
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for schema in [
            json!({"type": "strin"}),
            json!({"properties": []}),
            json!({"properties": {"a": {"pattern": "("}}}),
            json!({"properties": {"a": {"pattern": "(?=a)b"}}}),
            json!({"properties": {"a": {"pattern": "(a{1000}){1000}"}}}),
        ] {
            assert_eq!(code(schema.clone()), Err("invalid_schema"), "{schema}");
        }
        assert_eq!(code(json!([])), Err("must_be_an_object"));
        assert_eq!(code(json!(true)), Err("must_be_an_object"));
    }

    #[test]
    fn targets_are_there_once_each() {
        let target = |kind: &str| TargetDefinition { kind: kind.to_owned(), metadata: None };
        let check =
            |targets: Vec<TargetDefinition>| Definition { actor: None, targets, metadata: None }.check().map_err(|p| (p.field, p.code));
        let at = |field: &str, code| Err((field.to_owned(), code));
        assert_eq!(check(vec![]), at("targets", "required"));
        assert_eq!(check(vec![target("")]), at("targets[0].type", "required"));
        assert_eq!(check(vec![target("a"), target("b"), target("a")]), at("targets[2].type", "repeated"));
        assert_eq!(check(vec![target(&"x".repeat(129))]), at("targets[0].type", "must_be_at_most_128_characters"));
        assert_eq!(check((0..51).map(|n| target(&n.to_string())).collect()), at("targets", "must_be_at_most_50"));
        assert_eq!(check((0..50).map(|n| target(&n.to_string())).collect()), Ok(()));
    }

    #[test]
    fn an_event_that_does_not_fit_is_told_where() {
        let definition = Definition {
            actor: Some(json!({"type": "object", "properties": {"role": {"type": "string"}}, "required": ["role"]})),
            targets: vec![
                TargetDefinition { kind: "invoice".to_owned(), metadata: Some(json!({"properties": {"cost": {"type": "number"}}})) },
                TargetDefinition { kind: "team".to_owned(), metadata: None },
            ],
            metadata: Some(json!({"additionalProperties": false, "properties": {"a/b": {"maximum": 3}}})),
        };
        let compiled = compile(&definition.text()).unwrap();
        let map = |value: Value| value.as_object().unwrap().clone();
        let target = |kind: &str, metadata: Option<Value>| TargetBody::named(kind, metadata.map(map));
        let paths = |actor: Value, targets: &[TargetBody], metadata: Value| {
            let problems = compiled.check(&map(actor), targets, &map(metadata));
            problems.into_iter().map(|problem| problem.instance_path).collect::<Vec<_>>()
        };
        let good = [target("invoice", Some(json!({"cost": 1.5}))), target("team", Some(json!({"any": true})))];
        assert_eq!(paths(json!({"role": "admin"}), &good, json!({"a/b": 3})), Vec::<String>::new());
        let bad = [target("team", None), target("invoice", Some(json!({"cost": "much"}))), target("user", None)];
        assert_eq!(
            paths(json!({}), &bad, json!({"a/b": 4, "c": 1})),
            ["/actor/metadata", "/targets/1/metadata/cost", "/targets/2/type", "/metadata/a~1b", "/metadata"]
        );
        assert_eq!(paths(json!({"role": 1}), &good, json!({})), ["/actor/metadata/role"]);
    }

    #[test]
    fn equal_definitions_have_one_text() {
        let one = of(serde_json::from_str(r#"{"type":"object","properties":{}}"#).unwrap());
        let other = of(serde_json::from_str(r#"{"properties":{},"type":"object"}"#).unwrap());
        assert_eq!(one.text(), other.text());
        assert_ne!(one.text(), of(json!({"type": "object"})).text());
    }
}

//! Parses and renders templates. Pure, bounded by the length of its input, and unable to fail with anything but its two errors.

use serde_json::{Map, Value, json};

use crate::features::records::organization_memberships::Membership;
use crate::features::records::organizations::{Organization, OrganizationDomain};
use crate::features::records::users::User;

/// Longest template in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 8_192;
/// Longest rendered object in bytes of JSON: tokens travel in cookies, and those end at 4 KB.
pub const MAX_RENDERED_BYTES: usize = 3_072;
/// Claims that say whose token it is and how long it lives.
pub const RESERVED_CLAIMS: [&str; 10] = ["iss", "sub", "exp", "iat", "nbf", "jti", "act", "acr", "amr", "auth_time"];

const MAX_DEPTH: usize = 16;

/// What a template may tell of. A root that the sign-in does not have, such as an organization, is null.
#[derive(Clone, Copy, Debug)]
pub struct TemplateFacts<'a> {
    pub user: &'a User,
    pub organization: Option<OrganizationFacts<'a>>,
}

/// The roots `organization` and `organization_membership`.
#[derive(Clone, Copy, Debug)]
pub struct OrganizationFacts<'a> {
    pub organization: &'a Organization,
    pub domains: &'a [OrganizationDomain],
    pub membership: &'a Membership,
    /// The slug of the role that counts most, and those of all.
    pub role: Option<&'a str>,
    pub roles: &'a [String],
}

/// The claims that `template` gives for `facts`, each to be merged into the token.
pub fn render(template: &str, facts: &TemplateFacts<'_>) -> Result<Map<String, Value>, RenderError> {
    Template::parse(template)?.render(facts)
}

/// What keeps a text from being a template: where, and what to do. Displays in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct TemplateError {
    pub line: usize,
    pub column: usize,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("a template is at most 8192 bytes long")]
    TooLong,
    #[error("a template is one JSON object, {{...}} expressions allowed as values and within strings")]
    NotAnObject,
    #[error("{0} expected")]
    Expected(&'static str),
    #[error("this is not a JSON value")]
    BadValue,
    #[error("this string is not valid JSON")]
    BadString,
    #[error("values are nested more than 16 deep")]
    TooDeep,
    #[error("the claim {0} is reserved")]
    Reserved(String),
    #[error("the name {0:?} is there twice")]
    Repeated(String),
    #[error("names of claims are fixed, expressions are for values")]
    ExpressionInName,
    #[error("there is no fact {0}")]
    UnknownFact(String),
    #[error("{0} is an object or a list: write it outside of quotes")]
    ObjectInString(String),
}

impl Problem {
    /// The code of `errors[]`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "template_too_long",
            Self::Reserved(_) => "reserved_claim",
            Self::Repeated(_) => "repeated_name",
            Self::UnknownFact(_) => "unknown_variable",
            Self::ObjectInString(_) => "object_in_string",
            Self::TooDeep => "nested_too_deep",
            Self::ExpressionInName => "expression_in_name",
            Self::NotAnObject | Self::Expected(_) | Self::BadValue | Self::BadString => "invalid_template",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Wire code `token_too_big`.
    #[error("the rendered template is longer than 3072 bytes")]
    TooBig,
    #[error("{0} is an object or a list within a string")]
    ObjectInString(String),
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// A checked template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    members: Vec<(String, Node)>,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parser = Parser { text, at: 0 };
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(parser.error(Problem::TooLong));
        }
        parser.skip_space();
        if parser.peek() != Some('{') || parser.rest().starts_with("{{") {
            return Err(parser.error(Problem::NotAnObject));
        }
        let members = parser.object(1)?;
        parser.skip_space();
        if !parser.rest().is_empty() {
            return Err(parser.error(Problem::Expected("the end of the template")));
        }
        Ok(Self { members })
    }

    pub fn render(&self, facts: &TemplateFacts<'_>) -> Result<Map<String, Value>, RenderError> {
        let mut claims = Map::new();
        for (name, node) in &self.members {
            let value = node.render(facts)?;
            if !value.is_null() {
                claims.insert(name.clone(), value);
            }
        }
        let bytes = serde_json::to_vec(&claims).map_or(usize::MAX, |json| json.len());
        if bytes > MAX_RENDERED_BYTES { Err(RenderError::TooBig) } else { Ok(claims) }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Fixed(Value),
    Text(Vec<Piece>),
    Expression(Expression),
    Object(Vec<(String, Node)>),
    List(Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Expression(Expression),
}

/// Alternatives: the first that is not null counts.
#[derive(Clone, Debug, PartialEq)]
struct Expression(Vec<Operand>);

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Fact(Vec<String>),
    Literal(String),
}

impl Node {
    fn render(&self, facts: &TemplateFacts<'_>) -> Result<Value, RenderError> {
        Ok(match self {
            Self::Fixed(value) => value.clone(),
            Self::Expression(expression) => expression.value(facts),
            Self::List(nodes) => Value::Array(nodes.iter().map(|node| node.render(facts)).collect::<Result<_, _>>()?),
            Self::Object(members) => Value::Object(
                members.iter().map(|(name, node)| Ok((name.clone(), node.render(facts)?))).collect::<Result<_, RenderError>>()?,
            ),
            Self::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(fixed) => text.push_str(fixed),
                        Piece::Expression(expression) => match expression.value(facts) {
                            Value::Null => {}
                            Value::String(value) => text.push_str(&value),
                            value @ (Value::Bool(_) | Value::Number(_)) => text.push_str(&value.to_string()),
                            Value::Array(_) | Value::Object(_) => return Err(RenderError::ObjectInString(expression.name())),
                        },
                    }
                }
                Value::from(text.trim())
            }
        })
    }
}

impl Expression {
    fn value(&self, facts: &TemplateFacts<'_>) -> Value {
        let values = self.0.iter().map(|operand| match operand {
            Operand::Literal(text) => Value::from(text.as_str()),
            Operand::Fact(path) => find_fact(facts, path),
        });
        values.into_iter().find(|value| !value.is_null()).unwrap_or(Value::Null)
    }

    fn name(&self) -> String {
        let names = self.0.iter().filter_map(|operand| match operand {
            Operand::Fact(path) => Some(path.join(".")),
            Operand::Literal(_) => None,
        });
        names.collect::<Vec<_>>().join(" || ")
    }
}

/// What a path leads to, or `None` if no template may name it.
fn kind_of(path: &[String]) -> Option<FactKind> {
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let scalar = Some(FactKind::Scalar);
    let collection = Some(FactKind::Collection);
    match segments[..] {
        ["user", field] if USER_FIELDS.contains(&field) => scalar,
        ["user", "metadata" | "identities"] => collection,
        ["user", "metadata" | "identities", _] => scalar,
        ["organization", field] if ORGANIZATION_FIELDS.contains(&field) => scalar,
        ["organization", "metadata" | "domains"] => collection,
        ["organization", "metadata", _] => scalar,
        ["organization", "domains", index, "id" | "domain" | "state"] if is_index(index) => scalar,
        ["organization_membership", field] if MEMBERSHIP_FIELDS.contains(&field) => scalar,
        ["organization_membership", "roles" | "custom_attributes"] => collection,
        ["organization_membership", "role", "slug"] | ["organization_membership", "custom_attributes", _] => scalar,
        _ => None,
    }
}

fn is_index(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FactKind {
    Scalar,
    Collection,
}

const USER_FIELDS: [&str; 12] = [
    "id",
    "email",
    "email_verified",
    "first_name",
    "last_name",
    "name",
    "profile_picture_url",
    "external_id",
    "locale",
    "last_sign_in_at",
    "created_at",
    "updated_at",
];
const ORGANIZATION_FIELDS: [&str; 6] = ["id", "name", "external_id", "stripe_customer_id", "created_at", "updated_at"];
const MEMBERSHIP_FIELDS: [&str; 6] = ["id", "user_id", "organization_id", "status", "created_at", "updated_at"];

fn find_fact(facts: &TemplateFacts<'_>, path: &[String]) -> Value {
    let user = facts.user;
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    match segments[..] {
        ["user", field] => match field {
            "id" => Value::from(user.id.as_str()),
            "email" => Value::from(user.email.as_str()),
            "email_verified" => Value::from(user.email_verified),
            "first_name" => text(&user.first_name),
            "last_name" => text(&user.last_name),
            "name" => text(&user.name),
            "profile_picture_url" => text(&user.profile_picture_url),
            "external_id" => text(&user.external_id),
            "locale" => text(&user.locale),
            "last_sign_in_at" => user.last_sign_in_at.map_or(Value::Null, |at| Value::from(at.to_string())),
            "created_at" => Value::from(user.created_at.to_string()),
            "updated_at" => Value::from(user.updated_at.to_string()),
            "metadata" => user.metadata.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect(),
            // No upstream identity is linked yet: providers to ids, none of them.
            "identities" => Value::Object(Map::new()),
            _ => Value::Null,
        },
        ["user", "metadata", key] => user.metadata.get(key).map_or(Value::Null, |value| Value::from(value.as_str())),
        ["organization", ref rest @ ..] => facts.organization.map_or(Value::Null, |facts| organization_fact(&facts, rest)),
        ["organization_membership", ref rest @ ..] => facts.organization.map_or(Value::Null, |facts| membership_fact(&facts, rest)),
        _ => Value::Null,
    }
}

fn organization_fact(facts: &OrganizationFacts<'_>, path: &[&str]) -> Value {
    let OrganizationFacts { organization, domains, .. } = facts;
    let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    match *path {
        ["id"] => Value::from(organization.id.as_str()),
        ["name"] => Value::from(organization.name.as_str()),
        ["external_id"] => text(&organization.external_id),
        ["stripe_customer_id"] => text(&organization.stripe_customer_id),
        ["created_at"] => Value::from(organization.created_at.to_string()),
        ["updated_at"] => Value::from(organization.updated_at.to_string()),
        ["metadata"] => organization.metadata.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect(),
        ["metadata", key] => organization.metadata.get(key).map_or(Value::Null, |value| Value::from(value.as_str())),
        ["domains"] => domains.iter().map(domain_fact).collect(),
        ["domains", index, field] => {
            let domain = index.parse().ok().and_then(|index: usize| domains.get(index));
            domain.map_or(Value::Null, |domain| domain_fact(domain)[field].take())
        }
        _ => Value::Null,
    }
}

fn domain_fact(domain: &OrganizationDomain) -> Value {
    json!({"id": domain.id, "domain": domain.domain, "state": domain.state.as_str()})
}

fn membership_fact(facts: &OrganizationFacts<'_>, path: &[&str]) -> Value {
    let OrganizationFacts { membership, role, roles, .. } = facts;
    match *path {
        ["id"] => Value::from(membership.id.as_str()),
        ["user_id"] => Value::from(membership.user_id.as_str()),
        ["organization_id"] => Value::from(membership.organization_id.as_str()),
        ["status"] => Value::from(membership.status.as_str()),
        ["created_at"] => Value::from(membership.created_at.to_string()),
        ["updated_at"] => Value::from(membership.updated_at.to_string()),
        ["role", "slug"] => role.map_or(Value::Null, Value::from),
        ["roles"] => roles.iter().map(|slug| json!({"slug": slug})).collect(),
        ["custom_attributes"] => json!(membership.custom_attributes),
        ["custom_attributes", key] => json!(membership.custom_attributes)[key].take(),
        _ => Value::Null,
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Always at a character's first byte.
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn step(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Whether `expected` was next; it is passed over.
    fn accept(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len();
        }
        found
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|c| matches!(c, ' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !keep(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn error(&self, problem: Problem) -> TemplateError {
        let before = self.text.get(..self.at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        TemplateError { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1, problem }
    }

    fn object(&mut self, depth: usize) -> Result<Vec<(String, Node)>, TemplateError> {
        let mut members: Vec<(String, Node)> = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.accept("}") {
            return Ok(members);
        }
        loop {
            self.skip_space();
            let name = self.name()?;
            if depth == 1 && RESERVED_CLAIMS.contains(&name.as_str()) {
                return Err(self.error(Problem::Reserved(name)));
            }
            if members.iter().any(|(known, _)| *known == name) {
                return Err(self.error(Problem::Repeated(shortened(&name))));
            }
            self.skip_space();
            if !self.accept(":") {
                return Err(self.error(Problem::Expected("a colon")));
            }
            members.push((name, self.value(depth)?));
            self.skip_space();
            if self.accept("}") {
                return Ok(members);
            }
            if !self.accept(",") {
                return Err(self.error(Problem::Expected("a comma or the end of the object")));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, TemplateError> {
        let mut nodes = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.accept("]") {
            return Ok(nodes);
        }
        loop {
            nodes.push(self.value(depth)?);
            self.skip_space();
            if self.accept("]") {
                return Ok(nodes);
            }
            if !self.accept(",") {
                return Err(self.error(Problem::Expected("a comma or the end of the list")));
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, TemplateError> {
        self.skip_space();
        if depth >= MAX_DEPTH {
            return Err(self.error(Problem::TooDeep));
        }
        if self.accept("{{") {
            return self.expression().map(Node::Expression);
        }
        match self.peek() {
            Some('{') => self.object(depth + 1).map(Node::Object),
            Some('[') => self.list(depth + 1).map(Node::List),
            Some('"') => self.string().map(Node::Text),
            _ => {
                let start = self.at;
                let token = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
                serde_json::from_str(token).map(Node::Fixed).map_err(|_| {
                    self.at = start;
                    self.error(Problem::BadValue)
                })
            }
        }
    }

    fn name(&mut self) -> Result<String, TemplateError> {
        if self.peek() != Some('"') {
            return Err(self.error(Problem::Expected("a name in double quotes")));
        }
        let start = self.at;
        let pieces = self.string()?;
        match pieces.into_iter().next() {
            None => Ok(String::new()),
            Some(Piece::Text(name)) if !self.text[start..self.at].contains("{{") => Ok(name),
            Some(_) => Err(self.error(Problem::ExpressionInName)),
        }
    }

    /// A JSON string; what stands between its expressions is unescaped piece by piece.
    fn string(&mut self) -> Result<Vec<Piece>, TemplateError> {
        self.at += 1;
        let mut pieces = Vec::new();
        let mut start = self.at;
        loop {
            if self.rest().starts_with("{{") {
                self.text_piece(start, &mut pieces)?;
                self.at += 2;
                let expression = self.expression()?;
                if let Some(path) = expression.0.iter().find_map(Operand::collection) {
                    return Err(self.error(Problem::ObjectInString(path)));
                }
                pieces.push(Piece::Expression(expression));
                start = self.at;
                continue;
            }
            match self.step() {
                Some('"') => {
                    self.at -= 1;
                    self.text_piece(start, &mut pieces)?;
                    self.at += 1;
                    return Ok(pieces);
                }
                Some('\\') => drop(self.step()),
                Some(_) => {}
                None => return Err(self.error(Problem::Expected("the closing double quote"))),
            }
        }
    }

    fn text_piece(&self, start: usize, pieces: &mut Vec<Piece>) -> Result<(), TemplateError> {
        let raw = self.text.get(start..self.at).unwrap_or_default();
        if !raw.is_empty() {
            let text = serde_json::from_str(&format!("\"{raw}\"")).map_err(|_| self.error(Problem::BadString))?;
            pieces.push(Piece::Text(text));
        }
        Ok(())
    }

    /// From behind `{{` to behind `}}`.
    fn expression(&mut self) -> Result<Expression, TemplateError> {
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            operands.push(self.operand()?);
            self.skip_space();
            if self.accept("}}") {
                return Ok(Expression(operands));
            }
            if !self.accept("||") {
                return Err(self.error(Problem::Expected("|| or }}")));
            }
        }
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        if self.accept("'") {
            // Within a JSON string a quote or backslash would end or change the string around it.
            let text = self.take_while(|c| !matches!(c, '\'' | '"' | '\\') && !c.is_control());
            if !self.accept("'") {
                return Err(self.error(Problem::Expected("the closing single quote")));
            }
            return Ok(Operand::Literal(text.to_owned()));
        }
        let start = self.at;
        let path = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if path.is_empty() {
            return Err(self.error(Problem::Expected("a fact such as user.email or a 'literal'")));
        }
        let segments: Vec<String> = path.split('.').map(str::to_owned).collect();
        if segments.iter().any(String::is_empty) || kind_of(&segments).is_none() {
            self.at = start;
            return Err(self.error(Problem::UnknownFact(shortened(path))));
        }
        Ok(Operand::Fact(segments))
    }
}

impl Operand {
    fn collection(&self) -> Option<String> {
        match self {
            Self::Fact(path) if kind_of(path) == Some(FactKind::Collection) => Some(path.join(".")),
            _ => None,
        }
    }
}

/// The caller's own text in an error, never longer than a glance.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use gatewright_base::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::features::records::users::{EmailAddress, NewUser, UserId};

    fn ada() -> User {
        let new = NewUser {
            first_name: Some("Ada".into()),
            metadata: [("plan".to_owned(), "gold".to_owned()), ("quote".to_owned(), "say \"hi\" {{ user.id }}".to_owned())].into(),
            ..NewUser::default()
        };
        let email = EmailAddress::parse("ada@example.com").unwrap();
        User::new(UserId::from_text("user_01"), email, new, Timestamp::from_millis(0))
    }

    fn rendered(template: &str) -> Value {
        Value::Object(
            render(template, &TemplateFacts { user: &ada(), organization: None }).unwrap_or_else(|error| panic!("{template}: {error}")),
        )
    }

    fn problem(template: &str) -> Problem {
        Template::parse(template).unwrap_err().problem
    }

    #[test]
    fn templates_render_facts_fallbacks_and_literals() {
        for (template, claims) in [
            ("{}", json!({})),
            (" {\n} ", json!({})),
            (r#"{"a": "{{user.email}}"}"#, json!({"a": "ada@example.com"})),
            (r#"{"a": {{ user.email }}}"#, json!({"a": "ada@example.com"})),
            (r#"{"a": {{user.email_verified}}, "b": "is {{user.email_verified}}"}"#, json!({"a": false, "b": "is false"})),
            (r#"{"n": "{{ user.first_name || 'Someone' }} {{ user.last_name || 'Unknown' }}"}"#, json!({"n": "Ada Unknown"})),
            (r#"{"n": " {{ user.first_name }} {{ user.last_name }} "}"#, json!({"n": "Ada"})),
            (r#"{"gone": {{ user.last_name }}, "also": null, "kept": "{{ user.last_name }}"}"#, json!({"kept": ""})),
            (
                r#"{"in": {"null": {{ user.last_name }}, "list": [{{ user.id }}, 1, true, null]}}"#,
                json!({"in": {"null": null, "list": ["user_01", 1, true, null]}}),
            ),
            (
                r#"{"m": {{ user.metadata }}, "p": "{{ user.metadata.plan }}", "x": "{{user.metadata.none||'free'}}"}"#,
                json!({"m": {"plan": "gold", "quote": "say \"hi\" {{ user.id }}"}, "p": "gold", "x": "free"}),
            ),
            (r#"{"q": "<{{ user.metadata.quote }}>"}"#, json!({"q": "<say \"hi\" {{ user.id }}>"})),
            (
                r#"{"o": {{ organization.id }}, "t": "{{ organization.metadata.tier || 'bronze' }}", "d": "{{ organization.domains.0.domain }}"}"#,
                json!({"t": "bronze", "d": ""}),
            ),
            (r#"{"c": {{ user.last_name || user.name || user.first_name || 'x' }}}"#, json!({"c": "Ada"})),
            (r#"{"i": {{ user.identities }}, "g": {{ user.identities.GoogleOAuth }}}"#, json!({"i": {}})),
            (r#"{"e\u0073c": "tab\t{ {} } \u00e4 \"q\""}"#, json!({"esc": "tab\t{ {} } ä \"q\""})),
            (
                r#"{"aud": "api", "sid": "mine", "nested": {"sub": "free here"}}"#,
                json!({"aud": "api", "sid": "mine", "nested": {"sub": "free here"}}),
            ),
            (r#"{"n": -1.5e3}"#, json!({"n": -1500.0})),
        ] {
            assert_eq!(rendered(template), claims, "{template}");
        }
    }

    #[test]
    fn row_70_reserved_claims_cannot_be_set() {
        for claim in RESERVED_CLAIMS {
            assert_eq!(problem(&format!(r#"{{"{claim}": "x"}}"#)), Problem::Reserved(claim.to_owned()));
        }
        assert_eq!(problem(r#"{"\u0069ss": "x"}"#), Problem::Reserved("iss".to_owned()));
        assert_eq!(problem(r#"{"{{ user.metadata.plan }}": "x"}"#), Problem::ExpressionInName);
        assert_eq!(problem(r#"{"a{{ 'b' }}": "x"}"#), Problem::ExpressionInName);
    }

    #[test]
    fn row_70_a_template_names_allowed_facts_and_runs_nothing() {
        for fact in [
            "user",
            "user.password",
            "user.password_hash",
            "user.metadata.a.b",
            "user.constructor",
            "user.email.length",
            "user..email",
            ".user",
            "user.",
            "organization",
            "organization.secret",
            "organization.domains.x.domain",
            "environment.id",
            "env.MASTER_KEY",
            "settings",
            "__proto__",
        ] {
            assert_eq!(problem(&format!(r#"{{"a": {{{{ {fact} }}}}}}"#)), Problem::UnknownFact(fact.to_owned()));
        }
        for template in [
            r#"{"a": "{{ user.email | upcase }}"}"#,
            r#"{"a": "{{ user.email() }}"}"#,
            r#"{"a": "{{ 1 + 1 }}"}"#,
            r#"{"a": "{{ user['email'] }}"}"#,
            r#"{"a": "{{ }}"}"#,
            r#"{"a": "{{ user.email"}"#,
            r#"{"a": "{{ user.email }"}"#,
            r#"{"a": "{{ user.email || }}"}"#,
            r#"{"a": "{{ 'x }}"}"#,
        ] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
        // Liquid's tags are text here, never run.
        assert_eq!(rendered(r#"{"a": "{% for i in (1..9) %}x{% endfor %}"}"#), json!({"a": "{% for i in (1..9) %}x{% endfor %}"}));
    }

    #[test]
    fn broken_templates_are_refused_where_they_break() {
        for (template, expected) in [
            ("", Problem::NotAnObject),
            ("[]", Problem::NotAnObject),
            ("{{ user.email }}", Problem::NotAnObject),
            ("\"x\"", Problem::NotAnObject),
            ("{\"a\": 1} x", Problem::Expected("the end of the template")),
            ("{\"a\" 1}", Problem::Expected("a colon")),
            ("{\"a\": 1,}", Problem::Expected("a name in double quotes")),
            ("{a: 1}", Problem::Expected("a name in double quotes")),
            ("{\"a\": 1 \"b\": 2}", Problem::Expected("a comma or the end of the object")),
            ("{\"a\": [1 2]}", Problem::Expected("a comma or the end of the list")),
            ("{\"a\": [1,]}", Problem::BadValue),
            ("{\"a\": }", Problem::BadValue),
            ("{\"a\": 01}", Problem::BadValue),
            ("{\"a\": 1e999}", Problem::BadValue),
            ("{\"a\": undefined}", Problem::BadValue),
            ("{\"a\": \"x", Problem::Expected("the closing double quote")),
            ("{\"a\": \"\\x\"}", Problem::BadString),
            ("{\"a\": \"line\nbreak\"}", Problem::BadString),
            ("{\"a\": \"\\ud800\"}", Problem::BadString),
            ("{\"a\": 1, \"\\u0061\": 2}", Problem::Repeated("a".into())),
            ("{\"a\": {\"b\": 1, \"b\": 2}}", Problem::Repeated("b".into())),
            ("{\"a\": \"{{ user.metadata }}\"}", Problem::ObjectInString("user.metadata".into())),
            ("{\"a\": \"{{ user.id || user.metadata }}\"}", Problem::ObjectInString("user.metadata".into())),
        ] {
            assert_eq!(problem(template), expected, "{template}");
        }
        let error = Template::parse("{\n  \"ä\": {{ user.nope }}\n}").unwrap_err();
        assert_eq!(error.to_string(), "line 2, column 11: there is no fact user.nope");
    }

    #[test]
    fn sizes_and_depths_hold_at_n_and_n_plus_one() {
        let padded = |length: usize| format!("{{\"a\": 1{}}}", " ".repeat(length - 8));
        assert!(Template::parse(&padded(MAX_TEMPLATE_BYTES)).is_ok());
        assert_eq!(problem(&padded(MAX_TEMPLATE_BYTES + 1)), Problem::TooLong);
        // {"a":"..."} is 8 bytes around the text.
        let long = |length: usize| format!("{{\"a\": \"{}\"}}", "x".repeat(length - 8));
        let facts = ada();
        let facts = TemplateFacts { user: &facts, organization: None };
        assert!(render(&long(MAX_RENDERED_BYTES), &facts).is_ok());
        assert_eq!(render(&long(MAX_RENDERED_BYTES + 1), &facts), Err(RenderError::TooBig));
        let deep = |levels: usize| format!("{{\"a\": {}1{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(Template::parse(&deep(MAX_DEPTH - 2)).is_ok());
        assert_eq!(problem(&deep(MAX_DEPTH - 1)), Problem::TooDeep);
        assert_eq!(problem(&format!("{{\"a\": {}", "[".repeat(8_000))), Problem::TooDeep);
    }

    proptest! {
        #[test]
        fn random_templates_never_panic_nor_set_reserved_claims(
            text in prop_oneof![
                any::<String>(),
                "[\\{\\}\\[\\]\"',:|\\\\ a-z.0-9\n]{0,120}",
                proptest::collection::vec(prop_oneof![
                    Just("{"), Just("}"), Just("{{"), Just("}}"), Just("\""), Just("'"), Just("user.email"), Just("user.metadata"), Just("||"),
                    Just(","), Just(":"), Just("["), Just("]"), Just("\\"), Just("\\u0069ss"), Just("sub"), Just("null"), Just("1"), Just(" "), Just("ä"),
                    Just("\"a\":"), Just("\"iss\":"), Just("{{user.id}}"), Just("'x'"),
                ], 0..40).prop_map(|parts| parts.concat()),
                "[a-z\"{}: ]{0,20}".prop_map(|inside| format!("{{\"a\": \"{inside}\", \"b\": {{{{ user.id }}}}}}")),
            ],
        ) {
            let user = ada();
            if let Ok(claims) = render(&text, &TemplateFacts { user: &user, organization: None }) {
                prop_assert!(RESERVED_CLAIMS.iter().all(|claim| !claims.contains_key(*claim)));
                prop_assert!(claims.values().all(|value| !value.is_null()));
            }
        }
    }
}

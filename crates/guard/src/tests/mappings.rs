//! Claims of real providers, as they document them, and what becomes of them.

use std::time::Duration;

use gatewright_jose::Refusal as Reason;
use serde_json::{Value, json};

use super::*;
use crate::{Kind, Revoked, accept_introspection};

fn provider(mapping: Value, rest: Value) -> Issuer {
    let mut issuer = json!({
        "name": "provider", "issuer": PROVIDER, "audiences": ["https://api.example.com"], "algorithms": ["EdDSA"], "mapping": mapping
    });
    issuer.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    serde_json::from_value(issuer).unwrap()
}

fn principal(issuer: Issuer, claims: Value) -> Result<Principal, VerifyError> {
    let mut all = provider_claims();
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let token = Forge::new(3, "key_1").token(&all);
    authenticate(&ring(), &Revocations::new(), &[issuer], &Verifiable::bearer(&token), now())
}

fn mapped(mapping: Value, claims: Value) -> Principal {
    principal(provider(mapping, json!({})), claims).unwrap()
}

#[test]
fn auth0_names_claims_by_urls_and_machines_by_gty() {
    let mapping = json!({ "roles": "https://example.com/roles", "organization": ["org_id"] });
    let found = mapped(mapping, json!({ "https://example.com/roles": ["admin"], "permissions": ["read:expenses"], "org_id": "org_abc" }));
    assert_eq!(
        (found.roles, found.permissions, found.scopes),
        (vec!["admin".to_owned()], vec!["read:expenses".into()], vec!["read:expenses".into()])
    );
    assert_eq!((found.organization_id.as_deref(), found.kind, found.client_id.as_deref()), (Some("org_abc"), Kind::User, Some("spa")));
    let machine = mapped(json!({}), json!({ "sub": "abc@clients", "azp": "abc", "gty": "client-credentials" }));
    assert_eq!((machine.kind, machine.client_id.as_deref()), (Kind::Machine, Some("abc")));
}

#[test]
fn keycloak_nests_its_roles() {
    let mapping = json!({ "roles": ["realm_access.roles", "resource_access.expenses.roles"] });
    let claims = json!({
        "typ": "Bearer", "realm_access": { "roles": ["user", "admin"] }, "resource_access": { "expenses": { "roles": ["admin", "auditor"] } }
    });
    assert_eq!(mapped(mapping.clone(), claims).roles, ["user", "admin", "auditor"]);
    for odd in
        [json!({ "realm_access": [] }), json!({ "realm_access": { "roles": 1 } }), json!({ "realm_access": { "roles": [1, null, {}] } })]
    {
        assert!(mapped(mapping.clone(), odd).roles.is_empty());
    }
}

#[test]
fn entra_lists_scopes_in_scp_and_says_what_an_app_is() {
    let found = mapped(
        json!({ "organization": "tid" }),
        json!({ "scp": "Expenses.Read Expenses.Write", "scope": null, "tid": "tenant", "roles": ["A"] }),
    );
    assert_eq!(
        (found.scopes, found.organization_id.as_deref()),
        (vec!["Expenses.Read".to_owned(), "Expenses.Write".into()], Some("tenant"))
    );
    assert_eq!(mapped(json!({}), json!({ "idtyp": "app", "roles": ["A"] })).kind, Kind::Machine);
    assert_eq!(mapped(json!({}), json!({ "idtyp": "user" })).kind, Kind::User);
}

#[test]
fn okta_sends_no_typ_lists_scopes_and_calls_the_client_cid() {
    let issuer = provider(json!({ "roles": "groups" }), json!({ "types": ["", "at+jwt"] }));
    let claims = json!({ "iss": PROVIDER, "aud": "https://api.example.com", "sub": "0oa1", "cid": "0oa1", "scp": ["expenses.read"], "groups": ["Ops"], "exp": NOW + 9 });
    let token = Forge::new(3, "key_1").sign(r#"{"alg":"EdDSA","kid":"key_1"}"#, &claims.to_string());
    let found = authenticate(&ring(), &Revocations::new(), &[issuer], &Verifiable::bearer(&token), now()).unwrap();
    assert_eq!((found.kind, found.scopes, found.roles), (Kind::Machine, vec!["expenses.read".to_owned()], vec!["Ops".to_owned()]));
}

#[test]
fn cognito_has_its_audience_in_client_id() {
    let issuer = || provider(json!({ "roles": "cognito:groups" }), json!({ "audience_claim": "client_id", "audiences": ["4abc"] }));
    let claims = json!({ "aud": "ignored", "client_id": "4abc", "token_use": "access", "cognito:groups": ["admin"], "azp": "x" });
    assert_eq!(principal(issuer(), claims).unwrap().roles, ["admin"]);
    let of_another = json!({ "client_id": "9zzz", "token_use": "access" });
    assert_eq!(principal(issuer(), of_another).err(), Some(invalid(Reason::WrongAudience)));
    assert_eq!(principal(issuer(), json!({ "aud": "4abc" })).err(), Some(invalid(Reason::WrongAudience)));
}

#[test]
fn renaming_comes_before_granting_and_nothing_comes_twice() {
    let mapping = json!({
        "roles": "groups",
        "rename": { "role:Finance-Admins": "admin", "role:Old-Admins": "admin", "scope:exp.r": "expenses:read" },
        "grants": { "role:admin": ["expenses:write", "expenses:read"], "scope:expenses:read": ["expenses:read"], "role:Finance-Admins": ["never"] },
    });
    let found = mapped(
        mapping,
        json!({ "groups": ["Finance-Admins", "Old-Admins", "other"], "scope": "exp.r exp.r", "permissions": ["expenses:read"] }),
    );
    assert_eq!(found.roles, ["admin", "other"]);
    assert_eq!(found.scopes, ["expenses:read"]);
    assert_eq!(found.permissions, ["expenses:read", "expenses:write"]);
}

#[test]
fn a_role_is_no_scope_and_no_permission() {
    let mapping = json!({ "grants": { "role:admin": ["p"] } });
    assert!(mapped(mapping, json!({ "scope": "admin", "permissions": ["admin"] })).permissions == ["admin"]);
}

#[test]
fn a_claim_of_that_very_name_counts_before_a_path() {
    let found = mapped(json!({ "roles": "a.b" }), json!({ "a.b": ["literal"], "a": { "b": ["path"] } }));
    assert_eq!(found.roles, ["literal"]);
}

#[test]
fn a_sign_in_time_from_the_future_or_of_another_type_is_none() {
    let time = |value: Value| mapped(json!({}), json!({ "auth_time": value })).authenticated_at;
    assert_eq!(time(json!(NOW - 5)), Some(at(NOW - 5)));
    assert_eq!(time(json!(NOW + 10)), Some(at(NOW + 10)));
    for value in [json!(NOW + 11), json!(NOW.to_string()), json!(-1), json!(1e300), Value::Null] {
        assert_eq!(time(value.clone()), None, "{value}");
    }
}

#[test]
fn the_actor_is_the_tokens_before_the_cookies() {
    let mut claims = session_claims();
    let impersonator = json!({ "email": "support@example.com", "reason": "help" });
    let actor = |claims: &Value| {
        let token = Forge::new(1, "key_1").token(claims);
        let credential = Verifiable { token: &token, via: Via::Session, user: None, impersonator: Some(&impersonator) };
        authenticate(&ring(), &Revocations::new(), &issuers(), &credential, now()).unwrap().actor
    };
    assert_eq!(actor(&claims).as_deref(), Some("support@example.com"));
    claims["act"] = json!({ "sub": "root@example.com" });
    assert_eq!(actor(&claims).as_deref(), Some("root@example.com"));
}

fn introspected(change: Value) -> Result<Principal, Refusal> {
    let mut answer = json!({ "active": true, "iss": PROVIDER, "aud": "https://api.example.com", "sub": "u", "client_id": "c", "scope": "a b", "exp": NOW + 60 });
    answer.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let Value::Object(answer) = answer else { panic!("an object") };
    let answer = answer.into_iter().filter(|(_, value)| value != "absent").collect();
    accept_introspection(&provider(json!({}), json!({})), &Revocations::new(), answer, Duration::from_secs(10), now())
}

#[test]
fn an_active_answer_is_a_principal() {
    let found = introspected(json!({})).unwrap();
    assert_eq!((found.scopes.len(), found.expires_at, found.kind), (2, at(NOW + 60), Kind::User));
    assert_eq!(introspected(json!({ "sub": "c" })).unwrap().kind, Kind::Machine);
    let own = introspected(json!({ "sub": "absent" })).unwrap();
    assert_eq!((own.subject.as_str(), own.kind), ("c", Kind::Machine));
    let bare = introspected(json!({ "iss": "absent", "exp": "absent", "token_type": "bearer" })).unwrap();
    assert_eq!(bare.expires_at, at(NOW + 10));
}

#[test]
fn row_17_introspection_answers_about_other_tokens() {
    let refusal = |change: Value| introspected(change).err();
    for active in [json!(false), json!("true"), json!(1), Value::Null, json!("absent")] {
        assert_eq!(refusal(json!({ "active": active })), Some(Refusal::Inactive));
    }
    for (change, reason) in [
        (json!({ "iss": "https://evil.example" }), Reason::WrongIssuer),
        (json!({ "iss": null }), Reason::WrongIssuer),
        (json!({ "aud": "https://other.example" }), Reason::WrongAudience),
        (json!({ "aud": [] }), Reason::WrongAudience),
        // What oidc-provider says of a refresh token.
        (json!({ "aud": "absent" }), Reason::WrongAudience),
        (json!({ "token_type": "refresh_token" }), Reason::WrongType),
        (json!({ "token_type": "DPoP" }), Reason::WrongType),
        (json!({ "token_type": null }), Reason::WrongType),
        (json!({ "aud": null }), Reason::WrongAudience),
        (json!({ "exp": NOW - 10 }), Reason::Expired),
        (json!({ "exp": "1768478700" }), Reason::BadTime),
        (json!({ "nbf": NOW + 11 }), Reason::NotYetValid),
        (json!({ "typ": "Refresh" }), Reason::WrongType),
        (json!({ "token_use": "refresh_token" }), Reason::WrongType),
        (json!({ "cnf": { "jkt": "x" } }), Reason::WrongType),
        (json!({ "sub": "absent", "client_id": "absent" }), Reason::Malformed),
    ] {
        assert_eq!(refusal(change.clone()), Some(Refusal::InvalidToken(reason)), "{change}");
    }
}

#[test]
fn row_23_an_introspected_token_of_a_revoked_client_is_refused() {
    let revocations = Revocations::new();
    revocations.revoke(Revoked::Client("c"), now(), at(NOW + 600));
    let answer = json!({ "active": true, "sub": "u", "client_id": "c", "aud": "https://api.example.com" }).as_object().unwrap().clone();
    let verdict = accept_introspection(&provider(json!({}), json!({})), &revocations, answer, Duration::from_secs(10), now());
    assert_eq!(verdict.err(), Some(Refusal::Revoked));
}

use axum::extract::State;
use axum::http::StatusCode;
use gatewright_base::{Page, PageQuery, Secret};
use gatewright_db::Tx;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{
    GivenPassword, MetadataBody, PasswordFields, PasswordProblem, check_metadata_names, decide_password, first_metadata, is_locale,
    parse_name,
};
use super::writes::{self, Refusal, Update};
use crate::features::credentials::passwords::{self, HashType, Owner, SaltPosition};
use crate::features::flows::organization_memberships::LastAdmin;
use crate::features::records::environments;
use crate::features::records::organization_memberships::{self, Status};
use crate::features::records::organizations::{self, OrganizationId};
use crate::features::records::users::{
    self, EmailAddress, Metadata, NewUser, User, UserChange, UserId, UserView, check_external_id, check_metadata,
};
use crate::platform::cx::{Cx, EnvironmentId};
use crate::web::error::{ApiError, ErrorBody};
use crate::web::extract::{Caller, Json, Path, Query, not_null, nullable};
use crate::web::view::List;

pub fn routes() -> OpenApiRouter<Cx> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(find_by_external_id))
        .routes(routes!(find, update, delete))
        .routes(routes!(list_identities))
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreateUser {
    email: String,
    first_name: Option<String>,
    last_name: Option<String>,
    name: Option<String>,
    email_verified: Option<bool>,
    /// At most 50 keys of 40 and values of 600 ASCII characters.
    #[schema(value_type = Option<Metadata>)]
    metadata: Option<MetadataBody>,
    /// Unique in the environment, at most 128 ASCII characters.
    external_id: Option<String>,
    #[schema(value_type = Option<String>)]
    password: Option<Secret<String>>,
    #[schema(value_type = Option<String>)]
    password_hash: Option<Secret<String>>,
    password_hash_type: Option<HashType>,
    /// Only with `ssha256`; `suffix` when absent.
    password_salt_position: Option<SaltPosition>,
    #[expect(dead_code, reason = "the SDKs send it")]
    ip_address: Option<String>,
    #[expect(dead_code, reason = "the SDKs send it")]
    user_agent: Option<String>,
    #[expect(dead_code, reason = "the SDKs send it")]
    signals_id: Option<String>,
}

/// Creates a user.
#[utoipa::path(post, path = "/user_management/users", operation_id = "create_user", tag = "user-management.users",
    request_body = CreateUser,
    responses((status = 201, body = UserView), (status = 400, body = ErrorBody), (status = 422, body = ErrorBody)))]
async fn create(
    State(cx): State<Cx>,
    caller: Caller,
    Json(body): Json<CreateUser>,
) -> Result<(StatusCode, axum::Json<UserView>), ApiError> {
    let email = EmailAddress::parse(&body.email).ok_or_else(|| ApiError::invalid(&[("email", "invalid_email")]))?;
    let metadata = first_metadata(body.metadata.map(|body| body.0));
    check_metadata_names(metadata.keys()).and_then(|()| check_metadata(&metadata)).map_err(ApiError::invalid_metadata)?;
    if let Some(external_id) = &body.external_id {
        check_external_id(external_id)?;
    }
    let new = NewUser {
        first_name: name("first_name", body.first_name)?,
        last_name: name("last_name", body.last_name)?,
        name: name("name", body.name)?,
        email_verified: body.email_verified.unwrap_or(false),
        external_id: body.external_id,
        metadata,
        locale: None,
    };
    let fields = PasswordFields {
        password: body.password,
        password_hash: body.password_hash,
        password_hash_type: body.password_hash_type,
        password_salt_position: body.password_salt_position,
    };
    let given = decide_password(fields).map_err(refuse_password)?;
    let names = [&new.first_name, &new.last_name, &new.name].into_iter().flatten().map(String::as_str).collect();
    let hash = hash_to_store(&cx, &caller.environment, given, &Owner { email: &email, names }).await?;
    let scribe = caller.scribe(&cx);
    let user = User::new(UserId::mint(scribe.now, cx.rng()), email, new, scribe.now);
    let view = UserView::from(&user);
    let outcome = cx.db().write(move |tx| writes::create(tx, &caller.environment, &user, hash.as_deref(), &scribe)).await;
    match outcome {
        Ok(()) => Ok((StatusCode::CREATED, axum::Json(view))),
        Err(Refusal::EmailTaken) => {
            let errors = json!([{"code": "email_not_available", "message": "This email is not available."}]);
            Err(ApiError::bad_request("user_creation_error", "Could not create user.").with("errors", errors))
        }
        Err(refusal) => Err(refuse(refusal, "")),
    }
}

/// Lists users, newest first unless asked otherwise.
#[utoipa::path(get, path = "/user_management/users", operation_id = "list_users", tag = "user-management.users",
    params(("before" = Option<String>, Query), ("after" = Option<String>, Query),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100), ("order" = Option<String>, Query, description = "normal, desc or asc"),
        ("email" = Option<String>, Query), ("organization_id" = Option<String>, Query),
        ("organization" = Option<String>, Query, description = "The older name of organization_id.")),
    responses((status = 200, body = List<UserView>), (status = 422, body = ErrorBody)))]
async fn list(State(cx): State<Cx>, caller: Caller, query: Query) -> Result<axum::Json<List<UserView>>, ApiError> {
    let page = query.page()?;
    let organization = match query.scalar("organization_id")?.filter(|id| !id.is_empty()) {
        Some(id) => Some(id),
        None => query.scalar("organization")?.filter(|id| !id.is_empty()),
    };
    let organization = organization.map(OrganizationId::from_text);
    let email = match query.scalar("email")?.filter(|text| !text.is_empty()) {
        None => None,
        // What is no address is nobody's.
        Some(text) => match EmailAddress::parse(text) {
            Some(email) => Some(email),
            None => return Ok(axum::Json(Page { data: Vec::new(), before: None, after: None }.into())),
        },
    };
    let environment = caller.environment;
    let users = cx
        .db()
        .scan(move |tx| match &organization {
            None => Ok(users::list(tx, &environment, email.as_ref(), &page)?),
            Some(organization) => list_members(tx, &environment, organization, email.as_ref(), &page),
        })
        .await?;
    Ok(axum::Json(users.map(|user| UserView::from(&user)).into()))
}

/// The active members of an organization, or the one of them with `email`.
fn list_members(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    organization: &OrganizationId,
    email: Option<&EmailAddress>,
    page: &PageQuery,
) -> Result<Page<User>, ApiError> {
    if organizations::find(tx, environment, organization)?.is_none() {
        let id: String = organization.as_str().chars().take(200).collect();
        return Err(ApiError::unprocessable(format!("Organization not found: '{id}'.")));
    }
    if let Some(email) = email {
        let mut found = users::list(tx, environment, Some(email), page)?;
        let mut members = Vec::new();
        for user in found.data {
            let membership = organization_memberships::find_of(tx, environment, &user.id, organization)?;
            if membership.is_some_and(|membership| membership.status == Status::Active) {
                members.push(user);
            }
        }
        found.data = members;
        return Ok(found);
    }
    let ids = organization_memberships::list_user_ids(tx, environment, organization, page)?;
    let data = ids.data.iter().filter_map(|id| users::find(tx, environment, id).transpose()).collect::<Result<_, _>>()?;
    Ok(Page { data, before: ids.before, after: ids.after })
}

/// One user.
#[utoipa::path(get, path = "/user_management/users/{id}", operation_id = "get_user", tag = "user-management.users",
    params(("id" = String, Path)), responses((status = 200, body = UserView), (status = 404, body = ErrorBody)))]
async fn find(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<UserView>, ApiError> {
    load(&cx, caller, &id).await.map(|user| axum::Json(UserView::from(&user)))
}

/// The user with an external id.
#[utoipa::path(get, path = "/user_management/users/external_id/{external_id}", operation_id = "get_user_by_external_id",
    tag = "user-management.users", params(("external_id" = String, Path)),
    responses((status = 200, body = UserView), (status = 404, body = ErrorBody)))]
async fn find_by_external_id(
    State(cx): State<Cx>,
    caller: Caller,
    Path(external_id): Path<String>,
) -> Result<axum::Json<UserView>, ApiError> {
    let given = external_id.clone();
    let user = cx.db().read(move |tx| users::find_by_external_id(tx, &caller.environment, &given)).await?;
    let user = user.ok_or_else(|| ApiError::not_found("User", &external_id))?;
    Ok(axum::Json(UserView::from(&user)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct UpdateUser {
    #[serde(default, deserialize_with = "not_null")]
    email: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    first_name: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    last_name: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    email_verified: Option<bool>,
    /// Merged key by key; a `null` value deletes its key, `null` for the whole deletes all.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Metadata>)]
    metadata: Option<Option<MetadataBody>>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    external_id: Option<Option<String>>,
    /// A language tag such as `en-US`; `null` takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    locale: Option<Option<String>>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = Option<String>)]
    password: Option<Secret<String>>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = Option<String>)]
    password_hash: Option<Secret<String>>,
    password_hash_type: Option<HashType>,
    password_salt_position: Option<SaltPosition>,
}

/// Changes a user. What the body leaves out stays. A new address or password ends the user's sessions.
#[utoipa::path(put, path = "/user_management/users/{id}", operation_id = "update_user", tag = "user-management.users",
    params(("id" = String, Path)), request_body = UpdateUser,
    responses((status = 200, body = UserView), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
async fn update(
    State(cx): State<Cx>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<UpdateUser>,
) -> Result<axum::Json<UserView>, ApiError> {
    let email = match &body.email {
        None => None,
        Some(text) => {
            Some(EmailAddress::parse(text).ok_or_else(|| ApiError::bad_request("invalid_email", "This is not an email address."))?)
        }
    };
    if let Some(Some(external_id)) = &body.external_id {
        check_external_id(external_id)?;
    }
    if let Some(Some(locale)) = &body.locale
        && !is_locale(locale)
    {
        return Err(ApiError::bad_request("invalid_locale", "The locale is not a language tag such as en-US."));
    }
    let metadata = body.metadata.map(|given| given.map(|body| body.0));
    if let Some(Some(patch)) = &metadata {
        let set = patch.iter().filter(|(_, value)| value.is_some()).map(|(key, _)| key);
        check_metadata_names(set).map_err(ApiError::invalid_metadata)?;
    }
    let change = UserChange {
        email,
        email_verified: body.email_verified,
        first_name: body.first_name.map(|text| parse_name("first_name", text)).transpose()?,
        last_name: body.last_name.map(|text| parse_name("last_name", text)).transpose()?,
        name: body.name.map(|text| parse_name("name", text)).transpose()?,
        external_id: body.external_id,
        metadata: None,
        locale: body.locale,
    };
    let fields = PasswordFields {
        password: body.password,
        password_hash: body.password_hash,
        password_hash_type: body.password_hash_type,
        password_salt_position: body.password_salt_position,
    };
    let given = decide_password(fields).map_err(refuse_password)?;
    // Before any hashing: an unknown user costs nothing, and the policy needs the address.
    let present = load(&cx, caller.clone(), &id).await?;
    let owner = Owner { email: change.email.as_ref().unwrap_or(&present.email), ..Owner::of_user(&present) };
    let password_hash = hash_to_store(&cx, &caller.environment, given, &owner).await?;
    let (scribe, wanted) = (caller.scribe(&cx), Update { change, metadata, password_hash });
    let outcome = cx.db().write(move |tx| writes::update(tx, &caller.environment, &present.id, &wanted, &scribe)).await;
    match outcome {
        Ok(user) => Ok(axum::Json(UserView::from(&user))),
        Err(refusal) => Err(refuse(refusal, &id)),
    }
}

/// Deletes a user for good, with password, sessions and all.
#[utoipa::path(delete, path = "/user_management/users/{id}", operation_id = "delete_user", tag = "user-management.users",
    params(("id" = String, Path)), responses((status = 200), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "An organization would lose its last active admin.")))]
async fn delete(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let (scribe, user) = (caller.scribe(&cx), UserId::from_text(id.as_str()));
    match cx.db().write(move |tx| writes::delete(tx, &caller.environment, &user, &scribe)).await {
        Ok(()) => Ok(StatusCode::OK),
        Err(refusal) => Err(refuse(refusal, &id)),
    }
}

/// An account elsewhere that signs in as this user.
#[derive(Debug, Serialize, ToSchema)]
struct UserIdentity {
    idp_id: String,
    r#type: UserIdentityType,
    provider: UserIdentityProvider,
}

#[derive(Debug, Serialize, ToSchema)]
#[expect(dead_code, reason = "until providers are linked, only the schema is used")]
enum UserIdentityType {
    OAuth,
}

#[derive(Debug, Serialize, ToSchema)]
#[expect(dead_code, reason = "until providers are linked, only the schema is used")]
#[expect(clippy::enum_variant_names, reason = "the wire's own names")]
enum UserIdentityProvider {
    AppleOAuth,
    BitbucketOAuth,
    DiscordOAuth,
    GithubOAuth,
    GitLabOAuth,
    GoogleOAuth,
    GrokOAuth,
    XOAuth,
    IntuitOAuth,
    LinkedInOAuth,
    MicrosoftOAuth,
    SalesforceOAuth,
    SlackOAuth,
    VercelMarketplaceOAuth,
    VercelOAuth,
    XeroOAuth,
}

/// The user's accounts at social providers: a bare array, without an envelope.
#[utoipa::path(get, path = "/user_management/users/{id}/identities", operation_id = "list_user_identities", tag = "user-management.users",
    params(("id" = String, Path)), responses((status = 200, body = Vec<UserIdentity>), (status = 404, body = ErrorBody)))]
async fn list_identities(State(cx): State<Cx>, caller: Caller, Path(id): Path<String>) -> Result<axum::Json<Vec<UserIdentity>>, ApiError> {
    load(&cx, caller, &id).await.map(|_| axum::Json(Vec::new()))
}

async fn load(cx: &Cx, caller: Caller, id: &str) -> Result<User, ApiError> {
    let given = UserId::from_text(id);
    let user = cx.db().read(move |tx| users::find(tx, &caller.environment, &given)).await?;
    user.ok_or_else(|| ApiError::not_found("User", id))
}

async fn hash_to_store(
    cx: &Cx,
    environment: &EnvironmentId,
    given: Option<GivenPassword>,
    owner: &Owner<'_>,
) -> Result<Option<String>, ApiError> {
    Ok(match given {
        None => None,
        Some(GivenPassword::Imported(hash)) => Some(hash.to_string()),
        Some(GivenPassword::Clear(password)) => {
            let id = environment.clone();
            let found = cx.db().read(move |tx| environments::find(tx, &id)).await?;
            let settings = found.ok_or_else(|| ApiError::internal(&"a caller's environment is gone"))?.settings;
            passwords::check_strength(cx, &settings, password.reveal(), owner)
                .await
                .map_err(|weaknesses| passwords::refuse_weak("password_strength_error", &weaknesses))?;
            Some(passwords::hash(cx, &password).await?)
        }
    })
}

fn name(field: &'static str, text: Option<String>) -> Result<Option<String>, ApiError> {
    match text {
        None => Ok(None),
        Some(text) => Ok(parse_name(field, text)?),
    }
}

fn refuse(refusal: Refusal, id: &str) -> ApiError {
    match refusal {
        Refusal::NotFound => ApiError::not_found("User", id),
        Refusal::EmailTaken => ApiError::bad_request("email_not_available", "This email is not available."),
        Refusal::ExternalIdTaken => ApiError::bad_request("external_id_already_used", "This external ID is already used by another user."),
        Refusal::Metadata(error) => ApiError::invalid_metadata(error),
        Refusal::LastAdmin(LastAdmin { organization_id }) => ApiError::conflict(
            "user_deletion_not_allowed",
            format!(
                "The user is the last active admin of organization '{organization_id}'. Make another member admin first, or delete the organization."
            ),
        ),
        Refusal::Db(error) => error.into(),
    }
}

fn refuse_password(problem: PasswordProblem) -> ApiError {
    let refuse = ApiError::bad_request;
    match problem {
        PasswordProblem::PasswordAndHash => refuse("password_and_password_hash_provided", "Give a password or a password hash, not both."),
        PasswordProblem::PasswordAndHashType => {
            refuse("password_and_password_hash_type_provided", "A password hash type goes with a password hash, not with a password.")
        }
        PasswordProblem::PositionWithoutHash => {
            refuse("password_salt_position_requires_password_hash", "A salt position goes with a password hash.")
        }
        PasswordProblem::InvalidHash => {
            refuse("invalid_password_hash", "The password hash is not of the named type, or its cost is out of bounds.")
        }
        PasswordProblem::HashWithoutType => ApiError::invalid(&[("password_hash_type", "required")]),
        PasswordProblem::TypeWithoutHash => ApiError::invalid(&[("password_hash", "required")]),
        PasswordProblem::PositionNotOfThisType => ApiError::invalid(&[("password_salt_position", "only_with_ssha256")]),
    }
}

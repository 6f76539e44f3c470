//! Two-step verification: authenticator apps, phone numbers, recovery codes. A factor counts from its first right code on; that code
//! proves it in this browser, too.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::Response;
use gatewright_base::Secret;
use gatewright_db::{DbError, Tx};
use gatewright_jose::{MasterKey, hash_secret, random_token};
use serde::{Deserialize, Serialize};

use super::model::{Notice, Page, may_remove_factor};
use super::view::{Authenticator, AuthenticatorSetup, FormError, ManageFactor, Phone, PhoneCode, RecoveryCodes, ShownCodes};
use super::visitor::{Instead, SignedIn, not_found};
use crate::features::credentials::authentication_factors::{
    self, Asker, Challenge, ChallengeId, Enrolled, Factor, FactorId, FactorKind, NotMade, PhoneNumber, Refused, Verification,
};
use crate::features::credentials::letters::{self, Asked};
use crate::features::credentials::{browser_sessions, passkeys, recovery_codes};
use crate::features::records::environments::Mfa;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::events::Scribe;
use crate::platform::mail::Draft;
use crate::platform::mail::views::{SecurityChange, SecurityChanged};
use crate::platform::sms;
use crate::web::extract::FormFields;
use crate::web::page::Visit;

const RETRY: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;

pub async fn show_authenticator(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let signed_in = of_allowed(SignedIn::of_query_lately(&cx, &visit, Page::Authenticator).await?)?;
    Ok(signed_in.page(&cx, &visit, StatusCode::OK, &Authenticator { top: signed_in.top(), errors: vec![] }))
}

/// Makes a factor and shows its secret, as a picture and to be typed.
pub async fn begin_authenticator(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = of_allowed(SignedIn::of_form(&cx, &visit, &form, Page::Authenticator).await?)?;
    let (environment, user) = (signed_in.client.environment.id.clone(), signed_in.user.id.clone());
    let scribe = signed_in.scribe(&cx);
    {
        let (environment, user, scribe) = (environment.clone(), user.clone(), scribe.clone());
        cx.db().write(move |tx| authentication_factors::delete_unverified_of_user(tx, &environment, &user, &scribe)).await?;
    }
    let (issuer, account) = (&cx.config().brand.name, signed_in.user.email.as_str());
    let enrolled = authentication_factors::enroll_totp(&cx, &environment, Some(&user), issuer, account, None, &scribe).await;
    let Enrolled { factor, secret, uri, .. } = match enrolled {
        Ok(enrolled) => enrolled,
        Err(problem) => {
            let (status, error) = not_made(problem)?;
            return Ok(signed_in.page(&cx, &visit, status, &Authenticator { top: signed_in.top(), errors: vec![error] }));
        }
    };
    let challenge = ask(&cx, &visit, &environment, &factor.id).await?;
    let setup = Setup { secret: secret.reveal().clone(), uri: uri.reveal().clone() };
    setup_page(&cx, &visit, &signed_in, StatusCode::OK, &factor.id, &challenge, &setup, vec![])
}

/// The first right code makes the factor count.
pub async fn confirm_authenticator(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = of_allowed(SignedIn::of_form(&cx, &visit, &form, Page::Authenticator).await?)?;
    let environment = signed_in.client.environment.id.clone();
    let (challenge, factor) = load_challenged(&cx, &signed_in, form.text("challenge")).await?;
    let setup = Setup::open(cx.master_key(), &environment, &factor.id, form.text("setup")).ok_or_else(not_found)?;
    let reason = match confirm(&cx, &visit, &signed_in, &challenge.id, form.text("code")).await? {
        Confirmed::Done(response) => return Ok(*response),
        Confirmed::Refused(reason, open) => {
            let next = if open { challenge } else { ask(&cx, &visit, &environment, &factor.id).await? };
            return setup_page(&cx, &visit, &signed_in, RETRY, &factor.id, &next, &setup, vec![app_code_error(reason)]);
        }
        Confirmed::Gone => not_found(),
    };
    Err(reason)
}

pub async fn show_phone(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let signed_in = of_texting(&cx, SignedIn::of_query_lately(&cx, &visit, Page::Phone).await?)?;
    Ok(phone_page(&cx, &visit, &signed_in, StatusCode::OK, String::new(), vec![]))
}

/// Sends a code to the number.
pub async fn begin_phone(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = of_texting(&cx, SignedIn::of_form(&cx, &visit, &form, Page::Phone).await?)?;
    let (environment, user, scribe) = (signed_in.client.environment.id.clone(), signed_in.user.id.clone(), signed_in.scribe(&cx));
    let typed: String = form.text("phone_number").trim().chars().take(64).collect();
    let again = |status, error| Ok(phone_page(&cx, &visit, &signed_in, status, typed.clone(), vec![error]));
    let Some(number) = PhoneNumber::parse(&typed) else { return again(RETRY, FormError::PhoneNumberNotWhole) };
    {
        let (environment, user, scribe) = (environment.clone(), user.clone(), scribe.clone());
        cx.db().write(move |tx| authentication_factors::delete_unverified_of_user(tx, &environment, &user, &scribe)).await?;
    }
    let made = match authentication_factors::enroll_sms(&cx, &environment, Some(&user), number, &scribe).await {
        Ok(factor) => authentication_factors::challenge(&cx, &environment, &factor.id, visit.lang, None).await,
        Err(problem) => Err(problem),
    };
    match made {
        Ok(Some(asked)) => Ok(phone_code_page(&cx, &visit, &signed_in, StatusCode::OK, &asked.factor, &asked.challenge, vec![])),
        Ok(None) => Err(not_found()),
        Err(problem) => {
            let (status, error) = not_made(problem)?;
            again(status, error)
        }
    }
}

pub async fn confirm_phone(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = of_texting(&cx, SignedIn::of_form(&cx, &visit, &form, Page::Phone).await?)?;
    let (challenge, factor) = load_challenged(&cx, &signed_in, form.text("challenge")).await?;
    match confirm(&cx, &visit, &signed_in, &challenge.id, form.text("code")).await? {
        Confirmed::Done(response) => Ok(*response),
        Confirmed::Refused(reason, _) => {
            Ok(phone_code_page(&cx, &visit, &signed_in, RETRY, &factor, &challenge, vec![text_code_error(reason)]))
        }
        Confirmed::Gone => Err(not_found()),
    }
}

/// One factor, by `?factor=`.
pub async fn show_factor(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_query_lately(&cx, &visit, Page::Overview).await?;
    let factor = load_factor(&cx, &signed_in, visit.query.one("factor").ok().flatten().unwrap_or_default()).await?;
    Ok(factor_page(&cx, &visit, &signed_in, StatusCode::OK, &factor, vec![]))
}

pub async fn remove_factor(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_form(&cx, &visit, &form, Page::Overview).await?;
    let factor = load_factor(&cx, &signed_in, form.text("factor")).await?;
    let notice = letter(&cx, &visit, &signed_in, SecurityChange::FactorRemoved)?;
    let (environment, user, id, scribe) =
        (signed_in.client.environment.id.clone(), signed_in.user.id.clone(), factor.id.clone(), signed_in.scribe(&cx));
    let mfa = signed_in.client.environment.settings.mfa;
    let removed = cx
        .db()
        .write(move |tx| {
            crate::features::records::users::lock(tx, &environment, &user)?;
            let factors = authentication_factors::list_of_user(tx, &environment, &user)?.len();
            let passkeys = passkeys::list_of_user(tx, &environment, &user)?.len();
            if !may_remove_factor(mfa, factors + passkeys) {
                return Ok::<_, DbError>(false);
            }
            if authentication_factors::delete(tx, &environment, &id, &scribe)?.is_some() {
                notice.post(tx, &environment)?;
            }
            Ok(true)
        })
        .await?;
    if removed {
        return Ok(signed_in.done(&cx, Notice::FactorRemoved, []));
    }
    Ok(factor_page(&cx, &visit, &signed_in, RETRY, &factor, vec![FormError::LastFactor]))
}

pub async fn show_recovery_codes(State(cx): State<Cx>, visit: Visit) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_query_lately(&cx, &visit, Page::RecoveryCodes).await?;
    let (environment, user) = (signed_in.client.environment.id.clone(), signed_in.user.id.clone());
    let left = cx
        .db()
        .read(move |tx| {
            let enrolled = authentication_factors::is_enrolled(tx, &environment, &user)?;
            Ok::<_, DbError>(if enrolled { Some(recovery_codes::count_left(tx, &environment, &user)?) } else { None })
        })
        .await?
        .ok_or_else(not_found)?;
    Ok(signed_in.page(&cx, &visit, StatusCode::OK, &RecoveryCodes { top: signed_in.top(), left }))
}

/// New codes in place of the old ones, shown this once.
pub async fn renew_recovery_codes(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Instead> {
    let signed_in = SignedIn::of_form(&cx, &visit, &form, Page::RecoveryCodes).await?;
    let notice = letter(&cx, &visit, &signed_in, SecurityChange::RecoveryCodesReplaced)?;
    let (cx_in, environment, user, scribe) =
        (cx.clone(), signed_in.client.environment.id.clone(), signed_in.user.id.clone(), signed_in.scribe(&cx));
    let codes = cx
        .db()
        .write(move |tx| {
            if !authentication_factors::is_enrolled(tx, &environment, &user)? {
                return Ok::<_, DbError>(None);
            }
            let codes = recovery_codes::regenerate(tx, &environment, &user, cx_in.rng(), &scribe)?;
            notice.post(tx, &environment)?;
            Ok(codes)
        })
        .await?
        .ok_or_else(not_found)?;
    Ok(signed_in.page(&cx, &visit, StatusCode::OK, &shown(&signed_in, &codes)))
}

/// What became of the first code of a factor.
enum Confirmed {
    Done(Box<Response>),
    /// Why, and whether the challenge can still be answered.
    Refused(Refused, bool),
    Gone,
}

async fn confirm(cx: &Cx, visit: &Visit, signed_in: &SignedIn, challenge: &ChallengeId, code: &str) -> Result<Confirmed, Instead> {
    let notice = letter(cx, visit, signed_in, SecurityChange::FactorAdded)?;
    let token = random_token(cx.rng());
    let (cx_in, signed_in_in, challenge, code, new_hash, scribe) =
        (cx.clone(), signed_in.clone(), challenge.clone(), code.to_owned(), hash_secret(&token), signed_in.scribe(cx));
    let outcome = cx.db().write(move |tx| confirm_in(tx, &cx_in, &signed_in_in, &challenge, &code, &new_hash, &notice, &scribe)).await?;
    let codes = match outcome {
        Outcome::Right(codes) => codes,
        Outcome::Refused(reason, open) => return Ok(Confirmed::Refused(reason, open)),
        Outcome::Gone => return Ok(Confirmed::Gone),
    };
    let cookie = browser_sessions::cookie(cx, &signed_in.client.environment.id, &token, &signed_in.session);
    Ok(Confirmed::Done(Box::new(match codes {
        Some(codes) => {
            let mut page = signed_in.page(cx, visit, StatusCode::OK, &shown(signed_in, &codes));
            page.headers_mut().append(SET_COOKIE, cookie);
            page
        }
        None => signed_in.done(cx, Notice::FactorAdded, [cookie]),
    })))
}

enum Outcome {
    Right(Option<Vec<Secret<String>>>),
    Refused(Refused, bool),
    Gone,
}

/// Takes the code; when it is right this browser's session has proved the factor, under another token (attack row 44), and whoever had
/// no recovery codes gets them.
#[expect(clippy::too_many_arguments, reason = "what one transaction is made of")]
fn confirm_in(
    tx: &mut Tx<'_>,
    cx: &Cx,
    signed_in: &SignedIn,
    challenge: &ChallengeId,
    code: &str,
    new_hash: &str,
    notice: &Draft,
    scribe: &Scribe,
) -> Result<Outcome, DbError> {
    let (environment, user) = (&signed_in.client.environment.id, &signed_in.user.id);
    let verified = authentication_factors::verify(tx, cx.master_key(), environment, challenge, code, Asker::Anybody, scribe)?;
    let factor = match verified {
        None => return Ok(Outcome::Gone),
        Some(Verification::Refused { reason, was_open, .. }) => return Ok(Outcome::Refused(reason, was_open && reason == Refused::Wrong)),
        Some(Verification::Right { factor, .. }) => factor,
    };
    if browser_sessions::rotate(tx, environment, user, &signed_in.token_hash, new_hash, scribe.now)? {
        browser_sessions::mark_second_factor(tx, environment, new_hash, factor.second_factor())?;
    }
    notice.post(tx, environment)?;
    if recovery_codes::count_left(tx, environment, user)? > 0 {
        return Ok(Outcome::Right(None));
    }
    Ok(Outcome::Right(recovery_codes::regenerate(tx, environment, user, cx.rng(), scribe)?))
}

/// The secret of a factor on its way through the form that confirms it, sealed for that factor: the store gives it out once.
#[derive(Serialize, Deserialize)]
struct Setup {
    secret: String,
    uri: String,
}

const SETUP: &str = "account.authenticator_setup";

impl Setup {
    fn seal(&self, cx: &Cx, environment: &EnvironmentId, factor: &FactorId) -> String {
        let plain = serde_json::to_vec(self).unwrap_or_default();
        gatewright_jose::b64::encode_url(cx.master_key().seal(SETUP, &format!("{environment}/{factor}"), &plain, cx.rng()))
    }

    fn open(master_key: &MasterKey, environment: &EnvironmentId, factor: &FactorId, sealed: &str) -> Option<Self> {
        let sealed = gatewright_jose::b64::decode_url(sealed)?;
        let plain = master_key.open(SETUP, &format!("{environment}/{factor}"), &sealed).ok()?;
        serde_json::from_slice(plain.reveal()).ok()
    }
}

#[expect(clippy::too_many_arguments, reason = "what the page is made of")]
fn setup_page(
    cx: &Cx,
    visit: &Visit,
    signed_in: &SignedIn,
    status: StatusCode,
    factor: &FactorId,
    challenge: &Challenge,
    setup: &Setup,
    errors: Vec<FormError>,
) -> Result<Response, Instead> {
    let qr_code = authentication_factors::qr_code(&setup.uri).ok_or_else(not_found)?;
    let view = AuthenticatorSetup {
        top: signed_in.top(),
        qr_code: qr_code.reveal().clone(),
        secret: setup.secret.as_bytes().chunks(4).map(|four| String::from_utf8_lossy(four).into_owned()).collect::<Vec<_>>().join(" "),
        challenge: challenge.id.to_string(),
        setup: setup.seal(cx, &signed_in.client.environment.id, factor),
        errors,
    };
    Ok(signed_in.page(cx, visit, status, &view))
}

async fn ask(cx: &Cx, visit: &Visit, environment: &EnvironmentId, factor: &FactorId) -> Result<Challenge, Instead> {
    let asked = authentication_factors::challenge(cx, environment, factor, visit.lang, None).await?;
    asked.map(|asked| asked.challenge).ok_or_else(not_found)
}

/// A challenge of a factor of the person's own (404 for anybody else's).
async fn load_challenged(cx: &Cx, signed_in: &SignedIn, id: &str) -> Result<(Challenge, Factor), Instead> {
    let (environment, user, id) = (signed_in.client.environment.id.clone(), signed_in.user.id.clone(), ChallengeId::from_text(id));
    let found = cx.db().read(move |tx| authentication_factors::find_challenged(tx, &environment, &id)).await?;
    found.filter(|(_, factor)| factor.user_id.as_ref() == Some(&user)).ok_or_else(not_found)
}

async fn load_factor(cx: &Cx, signed_in: &SignedIn, id: &str) -> Result<Factor, Instead> {
    let (environment, user, id) = (signed_in.client.environment.id.clone(), signed_in.user.id.clone(), FactorId::from_text(id));
    let found = cx.db().read(move |tx| authentication_factors::find(tx, &environment, &id)).await?;
    found.filter(|factor| factor.is_verified() && factor.user_id.as_ref() == Some(&user)).ok_or_else(not_found)
}

/// A mail to the owner about what changes.
pub fn letter(cx: &Cx, visit: &Visit, signed_in: &SignedIn, change: SecurityChange) -> Result<Draft, DbError> {
    let asked = Asked { lang: Some(visit.lang), user_agent: visit.peer.user_agent.clone() };
    let href = cx.url(&Page::Overview.address(signed_in.client.id.as_str()));
    let mail = SecurityChanged { change, href, facts: asked.facts(cx, &signed_in.user.email) };
    letters::draft(cx, &signed_in.client.environment.id, &signed_in.user.email, asked.lang_for(Some(&signed_in.user)), &mail)
}

fn shown(signed_in: &SignedIn, codes: &[Secret<String>]) -> ShownCodes {
    ShownCodes { top: signed_in.top(), codes: codes.iter().map(|code| code.reveal().clone()).collect() }
}

fn factor_page(cx: &Cx, visit: &Visit, signed_in: &SignedIn, status: StatusCode, factor: &Factor, errors: Vec<FormError>) -> Response {
    let phone = match &factor.kind {
        FactorKind::Sms { phone_number } => Some(phone_number.masked_word()),
        FactorKind::Totp { .. } | FactorKind::GenericOtp => None,
    };
    signed_in.page(cx, visit, status, &ManageFactor { top: signed_in.top(), factor: factor.id.to_string(), phone, errors })
}

fn phone_page(cx: &Cx, visit: &Visit, signed_in: &SignedIn, status: StatusCode, number: String, errors: Vec<FormError>) -> Response {
    signed_in.page(cx, visit, status, &Phone { top: signed_in.top(), phone_number: number, errors })
}

fn phone_code_page(
    cx: &Cx,
    visit: &Visit,
    signed_in: &SignedIn,
    status: StatusCode,
    factor: &Factor,
    challenge: &Challenge,
    errors: Vec<FormError>,
) -> Response {
    let FactorKind::Sms { phone_number } = &factor.kind else { return signed_in.go_to(Page::Overview) };
    let view = PhoneCode { top: signed_in.top(), phone: phone_number.masked_word(), challenge: challenge.id.to_string(), errors };
    signed_in.page(cx, visit, status, &view)
}

fn not_made(problem: NotMade) -> Result<(StatusCode, FormError), Instead> {
    match problem {
        NotMade::TooMany => Ok((RETRY, FormError::TooManyFactors)),
        NotMade::Limited(limited) => Ok((TOO_MANY, FormError::TooManyTries { minutes: limited.minutes() })),
        other => Err(other.into()),
    }
}

fn app_code_error(reason: Refused) -> FormError {
    match reason {
        Refused::TooManyAttempts => FormError::TooManyTries { minutes: 1 },
        Refused::Wrong | Refused::Expired | Refused::Used => FormError::AppCodeWrong,
    }
}

fn text_code_error(reason: Refused) -> FormError {
    match reason {
        Refused::Wrong => FormError::TextCodeWrong,
        Refused::Expired | Refused::TooManyAttempts | Refused::Used => FormError::TextCodeExpired,
    }
}

/// Where nobody is asked for a second factor, nobody enrols one.
fn of_allowed(signed_in: SignedIn) -> Result<SignedIn, Instead> {
    if signed_in.client.environment.settings.mfa == Mfa::Off { Err(not_found()) } else { Ok(signed_in) }
}

fn of_texting(cx: &Cx, signed_in: SignedIn) -> Result<SignedIn, Instead> {
    let signed_in = of_allowed(signed_in)?;
    if sms::is_configured(cx) { Ok(signed_in) } else { Err(not_found()) }
}

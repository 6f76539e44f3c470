use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gatewright_base::Secret;
use gatewright_db::DbError;

use super::check::{self, Step};
use super::limits;
use super::sign_in::{code_error, email_of, keep_email, keep_typed, too_many};
use super::view::{FormError, SignUp, VerifyEmail};
use super::wait::{Waiting, asked, signals};
use super::weak_password::WeakPassword;
use crate::features::credentials::email_verifications::{self, Redemption, Target};
use crate::features::credentials::letters::{self, MailRefused};
use crate::features::credentials::methods::Method;
use crate::features::credentials::passwords::{self, Owner};
use crate::features::credentials::{one_time_codes, pending_authentications};
use crate::features::flows::authenticate::{Attempt, Origin, StepUp, record_email_verification};
use crate::features::flows::radar;
use crate::features::records::environments::Settings;
use crate::features::records::users::{self, EmailAddress, NewUser, User, UserId, UserView, check_name};
use crate::platform::actor::Actor;
use crate::platform::cx::Cx;
use crate::platform::events::Event;
use crate::platform::mail::views::AccountExists;
use crate::web::error::ApiError;
use crate::web::extract::FormFields;
use crate::web::page::{Problem, Refused, Visit};

const RETRY: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
const NAME_MAX: usize = 255;
const EXISTS_MAIL: letters::Kind = letters::Kind { minute: "mails.account_exists", day: "mails.account_exists.day" };

pub async fn show(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    if !is_open(&waiting) {
        return Ok(waiting.go("/sign-in"));
    }
    if let Some(there) = check::before_sign_up(&cx, &visit, &waiting).await? {
        return Ok(there);
    }
    let view = SignUp { email: waiting.request.email.clone().unwrap_or_default(), ..blank(&cx, &waiting) };
    Ok(waiting.page(&cx, &visit, StatusCode::OK, &view))
}

/// Makes the account and mails a code. Somebody who has the address already gets a mail that says so, and the page is the same.
pub async fn submit(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    if !is_open(&waiting) {
        return Ok(waiting.go("/sign-in"));
    }
    let cut = |name: &str, max: usize| form.text(name).trim().chars().take(max).collect::<String>();
    let kept = SignUp {
        first_name: cut("first_name", NAME_MAX + 1),
        last_name: cut("last_name", NAME_MAX + 1),
        email: cut("email", 255),
        ..blank(&cx, &waiting)
    };
    let again = |kept: SignUp, status, errors| Ok(waiting.page(&cx, &visit, status, &SignUp { errors, ..kept }));
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::SignUp).await? {
        if over.is_check() {
            keep_typed(&cx, &waiting, &kept.email).await?;
        }
        return over.answer(|limited| again(kept, StatusCode::TOO_MANY_REQUESTS, vec![too_many(limited)]));
    }
    let password = Secret::new(form.text("password").to_owned());
    let email = EmailAddress::parse(&kept.email);
    let mut errors = check(&cx, &waiting.settings, &kept, email.as_ref(), password.reveal()).await;
    if email.as_ref().is_some_and(|email| !waiting.admits(email)) {
        errors.push(FormError::NotInvited);
    }
    let (Some(email), true) = (email, errors.is_empty()) else { return again(kept, RETRY, errors) };
    if !waiting.policy_for(&cx, &email).await?.password {
        return again(kept, RETRY, vec![FormError::PasswordsNotUsed]);
    }
    if let Err(limited) = limits::count_invited(&cx, waiting.invitation.as_ref()).await? {
        return again(kept, StatusCode::TOO_MANY_REQUESTS, vec![too_many(limited)]);
    }
    if let Err(over) = limits::admit_sign_up(&cx, &visit, &waiting, Step::SignUp).await? {
        if over.is_check() {
            keep_typed(&cx, &waiting, &kept.email).await?;
        }
        return over.answer(|limited| again(kept, StatusCode::TOO_MANY_REQUESTS, vec![too_many(limited)]));
    }
    // Before there is an account, and whether or not there is one already: the answer tells nothing.
    let environment = &waiting.client.environment;
    let method = Method::Password.event_type();
    let assessed = radar::assess(&cx, environment, &email, method, Some(radar::Action::SignUp), &signals(&visit)).await?;
    let blocked = assessed.verdict.answer == radar::Answer::Block;
    let hash = match passwords::hash(&cx, &password).await {
        Ok(hash) => hash,
        Err(busy) => return Err(ApiError::from(busy).into()),
    };
    if blocked {
        radar::note_blocked(&cx, &environment.id, assessed).await?;
        return again(kept, RETRY, vec![FormError::SignUpRefused]);
    }
    keep_email(&cx, &waiting, &email).await?;
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let new = NewUser { first_name: named(&kept.first_name), last_name: named(&kept.last_name), ..NewUser::default() };
    let user = User::new(UserId::mint(cx.now(), cx.rng()), email.clone(), new, cx.now());
    let (environment, row, scribe) =
        (waiting.request.environment.clone(), user.clone(), cx.scribe(Actor::User { id: user.id.to_string() }));
    let made = cx
        .db()
        .write(move |tx| {
            if !users::insert(tx, &environment, &row)? {
                return Ok::<_, DbError>(false);
            }
            passwords::upsert(tx, &environment, &row.id, &hash, scribe.now)?;
            scribe.record(tx, &environment, &Event::new("user.created", UserView::from(&row)))?;
            Ok(true)
        })
        .await?;
    if made {
        let radar = radar::Standing::assessed(assessed);
        let attempt = Attempt { radar, ..waiting.attempt(&cx, &visit, user, Method::Password) };
        return waiting.go_on(&cx, &visit, attempt).await;
    }
    // Counted like an account that was begun: what is found next time must not tell whether one was (attack row 37).
    radar::note_begun(&cx, &waiting.request.environment, assessed).await?;
    match tell_owner(&cx, &visit, &waiting, &email).await {
        Ok(()) => Ok(waiting.go("/verify-email")),
        Err(MailRefused::TooMany(limited) | MailRefused::DailyQuota(limited)) => {
            again(kept, StatusCode::TOO_MANY_REQUESTS, vec![too_many(limited)])
        }
        Err(MailRefused::Db(error)) => Err(error.into()),
    }
}

async fn tell_owner(cx: &Cx, visit: &Visit, waiting: &Waiting, email: &EmailAddress) -> Result<(), MailRefused> {
    let environment = waiting.request.environment.clone();
    letters::count_mail(cx, &environment, EXISTS_MAIL, email.key()).await?;
    let (id, address) = (environment.clone(), email.clone());
    let owner = cx.db().read(move |tx| users::find_by_email(tx, &id, &address)).await?;
    let Some(owner) = owner else { return Ok(()) };
    let asked = asked(visit);
    let sign_in_href = waiting.client.environment.settings.sign_in_endpoint.clone().unwrap_or_else(|| cx.url("/sign-in"));
    let mail = AccountExists { sign_in_href, facts: asked.facts(cx, &owner.email) };
    let draft = letters::draft(cx, &environment, &owner.email, asked.lang_for(Some(&owner)), &mail)?;
    cx.db().write(move |tx| draft.post(tx, &environment)).await?;
    Ok(())
}

fn owner<'a>(kept: &'a SignUp, email: &'a EmailAddress) -> Owner<'a> {
    Owner { email, names: vec![kept.first_name.as_str(), kept.last_name.as_str()] }
}

async fn check(cx: &Cx, settings: &Settings, kept: &SignUp, email: Option<&EmailAddress>, password: &str) -> Vec<FormError> {
    let mut errors = Vec::new();
    for (field, text) in [("first_name", &kept.first_name), ("last_name", &kept.last_name)] {
        if check_name(field, text).is_err() {
            errors.push(FormError::NameTooLong { field, maximum: NAME_MAX });
        }
    }
    match email {
        None if kept.email.is_empty() => errors.push(FormError::EmailMissing),
        None => errors.push(FormError::EmailNotAnAddress),
        Some(_) => {}
    }
    if password.is_empty() {
        errors.push(FormError::PasswordMissing);
    } else if let Some(email) = email
        && let Err(weaknesses) = passwords::check_strength(cx, settings, password, &owner(kept, email)).await
    {
        errors.push(FormError::WeakPassword(WeakPassword::of(&weaknesses, kept.password_minimum)));
    }
    errors
}

fn blank(cx: &Cx, waiting: &Waiting) -> SignUp {
    SignUp { password_minimum: passwords::min_length(cx, &waiting.settings), ..SignUp::default() }
}

fn is_open(waiting: &Waiting) -> bool {
    waiting.client.environment.settings.sign_up && waiting.policy.password
}

pub async fn show_verify(State(cx): State<Cx>, visit: Visit) -> Result<Response, Refused> {
    let waiting = Waiting::of_query(&cx, &visit).await?;
    let Some(email) = email_of(&waiting) else { return Ok(waiting.go("/sign-in")) };
    let sent_again = visit.query.one("sent").ok().flatten() == Some("again");
    Ok(waiting.page(&cx, &visit, StatusCode::OK, &VerifyEmail { sent_again, ..blank_code(&email) }))
}

pub async fn submit_verify(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let Some(email) = email_of(&waiting) else { return Ok(waiting.go("/sign-in")) };
    let again = |status, error| Ok(waiting.page(&cx, &visit, status, &VerifyEmail { errors: vec![error], ..blank_code(&email) }));
    let code = form.text("code").to_owned();
    if code.trim().is_empty() {
        return again(RETRY, FormError::CodeMissing);
    }
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::VerifyEmail).await? {
        return over.answer(|limited| again(StatusCode::TOO_MANY_REQUESTS, too_many(limited)));
    }
    if let Err(limited) = limits::count_code(&cx, &visit, &waiting.request.environment, email.key()).await? {
        return again(StatusCode::TOO_MANY_REQUESTS, too_many(limited));
    }
    // Without a half-done sign-in (the address was somebody's already) no code can be right; the answer is the same.
    let Some(hash) = waiting.pending_hash(&cx) else { return again(RETRY, FormError::CodeWrong) };
    let (client, now, cx_in, scribe) = (waiting.client.clone(), cx.now(), cx.clone(), cx.scribe(Actor::System));
    let origin = Origin { ip_address: visit.peer.address(), user_agent: visit.peer.user_agent.clone() };
    let outcome = cx
        .db()
        .write(move |tx| {
            let environment = &client.environment.id;
            let step = StepUp::EmailVerification.code();
            let Some(pending) = pending_authentications::find(tx, environment, client.id.as_str(), step, &hash, now)? else {
                return Ok::<_, DbError>(None);
            };
            let id = pending.email_verification_id.clone().unwrap_or_default();
            let redemption = email_verifications::redeem(tx, cx_in.master_key(), environment, Target::Id(&id), &code, &scribe)?;
            record_email_verification(tx, environment, &pending.user_id, &origin, &redemption, &scribe)?;
            if matches!(redemption, Redemption::Redeemed { .. }) && !pending_authentications::take(tx, environment, &hash, now)? {
                return Ok(None);
            }
            Ok(Some((pending, redemption)))
        })
        .await?;
    match outcome {
        None => Err(Refused::page(Problem::RequestExpired)),
        Some((pending, Redemption::Redeemed { user })) if user.id == pending.user_id => {
            let radar = radar::carried(&pending).once_mailbox_proved(false);
            let attempt = Attempt { second_factor: pending.second_factor, radar, ..waiting.attempt(&cx, &visit, user, pending.method) };
            waiting.go_on(&cx, &visit, attempt).await
        }
        Some((_, Redemption::Redeemed { .. })) => again(RETRY, FormError::CodeWrong),
        Some((_, Redemption::Refused { reason, .. })) => again(RETRY, code_error(reason)),
    }
}

/// A new code for the same half-done sign-in.
pub async fn send_again(State(cx): State<Cx>, visit: Visit, form: FormFields) -> Result<Response, Refused> {
    let waiting = Waiting::of_form(&cx, &visit, &form).await?;
    let Some(email) = email_of(&waiting) else { return Ok(waiting.go("/sign-in")) };
    let again = |limited| {
        let view = VerifyEmail { errors: vec![too_many(limited)], ..blank_code(&email) };
        Ok(waiting.page(&cx, &visit, StatusCode::TOO_MANY_REQUESTS, &view))
    };
    if let Err(over) = limits::admit(&cx, &visit, &waiting, Step::VerifyEmail).await? {
        return over.answer(again);
    }
    let sent = super::wait::go(&format!("/verify-email?request={}&sent=again", waiting.id()), []);
    let Some(hash) = waiting.pending_hash(&cx) else {
        return match tell_owner(&cx, &visit, &waiting, &email).await {
            Ok(()) => Ok(sent),
            Err(MailRefused::TooMany(limited) | MailRefused::DailyQuota(limited)) => again(limited),
            Err(MailRefused::Db(error)) => Err(error.into()),
        };
    };
    let (client, now) = (waiting.client.clone(), cx.now());
    let found = cx
        .db()
        .read(move |tx| {
            let environment = &client.environment.id;
            let step = StepUp::EmailVerification.code();
            let Some(pending) = pending_authentications::find(tx, environment, client.id.as_str(), step, &hash, now)? else {
                return Ok::<_, DbError>(None);
            };
            Ok(users::find(tx, environment, &pending.user_id)?.map(|user| (user, pending)))
        })
        .await?;
    let Some((user, pending)) = found else { return Err(Refused::page(Problem::RequestExpired)) };
    let radar = radar::carried(&pending);
    let attempt = Attempt { second_factor: pending.second_factor, radar, ..waiting.attempt(&cx, &visit, user, pending.method) };
    match waiting.start_verification(&cx, &attempt).await {
        Ok(()) => Ok(sent),
        Err(error) => match error.limit() {
            Some(limited) => again(limited),
            None => Err(error.into()),
        },
    }
}

fn blank_code(email: &EmailAddress) -> VerifyEmail {
    VerifyEmail { email: email.as_str().to_owned(), minutes: one_time_codes::MINUTES, ..VerifyEmail::default() }
}

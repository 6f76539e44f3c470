//! Every feature, one line each. A feature is a folder; its shelf says whom it may call: surfaces -> flows -> credentials -> records -> platform.

pub mod credentials;
pub mod flows;
pub mod records;
pub mod surfaces;
#[cfg(test)]
mod whole_api_tests;

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::platform::cx::Cx;
use crate::platform::jobs::Job;
use crate::web::pages::{Pages, RenderError};

pub use surfaces::{audit_trail, boundary, dev, identities, operator};

/// What a feature brings: operations of the API, pages, recurring work.
#[derive(Default)]
pub struct Feature {
    api: OpenApiRouter<Cx>,
    pages: Router<Cx>,
    jobs: Vec<Job>,
}

impl Feature {
    /// Operations; each shows in the API document.
    pub fn api(mut self, routes: OpenApiRouter<Cx>) -> Self {
        self.api = self.api.merge(routes);
        self
    }

    /// Routes for browsers and machines that are no operation of the API.
    pub fn pages(mut self, routes: Router<Cx>) -> Self {
        self.pages = self.pages.merge(routes);
        self
    }

    pub fn job(mut self, job: Job) -> Self {
        self.jobs.push(job);
        self
    }
}

fn features(dev: bool) -> Vec<Feature> {
    let mut features = vec![
        records::audit_log_events::feature(),
        records::cors_origins::feature(),
        records::feature_flags::feature(),
        records::groups::feature(),
        records::jwt_templates::feature(),
        records::organization_domains::feature(),
        records::radar_lists::feature(),
        records::redirect_uris::feature(),
        records::resources::feature(),
        records::role_assignments::feature(),
        records::sign_in_policies::feature(),
        records::webhook_endpoints::feature(),
        credentials::api_keys::feature(),
        credentials::authentication_factors::feature(),
        credentials::authorization_codes::feature(),
        credentials::browser_sessions::feature(),
        credentials::devices::feature(),
        credentials::email_changes::feature(),
        credentials::email_verifications::feature(),
        credentials::impersonations::feature(),
        credentials::magic_auths::feature(),
        credentials::passkeys::feature(),
        credentials::password_resets::feature(),
        credentials::passwords::feature(),
        credentials::pending_authentications::feature(),
        credentials::radar_challenges::feature(),
        credentials::recovery_codes::feature(),
        credentials::sessions::feature(),
        credentials::signing_keys::feature(),
        credentials::visitor_checks::feature(),
        flows::authenticate::feature(),
        flows::authorize::feature(),
        flows::checks::feature(),
        flows::device::feature(),
        flows::impersonation::feature(),
        flows::invitations::feature(),
        flows::organization_memberships::feature(),
        flows::permissions::feature(),
        flows::radar::feature(),
        flows::roles::feature(),
        flows::organizations::feature(),
        flows::users::feature(),
        surfaces::audit_logs::feature(),
        surfaces::audit_trail::feature(),
        surfaces::events::feature(),
        surfaces::health::feature(),
        surfaces::hosted_pages::feature(),
        surfaces::identities::feature(),
        surfaces::security_page::feature(),
        surfaces::webhooks::feature(),
        surfaces::log_streams::feature(),
        surfaces::revocations::feature(),
        surfaces::shared_signals::feature(),
        platform_work(),
    ];
    if dev {
        features.push(surfaces::dev::feature());
    }
    features
}

fn platform_work() -> Feature {
    Feature::default()
        .job(crate::platform::journal::jobs::sequencing())
        .job(crate::platform::journal::jobs::pruning())
        .job(crate::platform::mail::delivery::job())
        .job(crate::platform::revocations::job())
        .job(crate::platform::sms::job())
        .job(crate::platform::sweep::job())
}

pub fn routes(cx: &Cx) -> (Router<Cx>, OpenApi) {
    let mut api = OpenApiRouter::new();
    let mut pages = Router::new();
    for feature in features(cx.config().dev) {
        api = api.merge(feature.api);
        pages = pages.merge(feature.pages);
    }
    let (router, document) = api.split_for_parts();
    (router.merge(pages), document)
}

/// All recurring work. The development surface has none of its own.
pub fn jobs() -> Vec<Job> {
    features(false).into_iter().flat_map(|feature| feature.jobs).collect()
}

/// Every template of pages and mails, compiled.
pub fn pages() -> Result<Pages, RenderError> {
    Pages::new(&[
        surfaces::hosted_pages::view::TEMPLATES,
        surfaces::security_page::view::TEMPLATES,
        surfaces::dev::view::TEMPLATES,
        crate::platform::mail::views::TEMPLATES,
    ])
}

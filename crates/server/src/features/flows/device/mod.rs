//! Device authorization (RFC 8628): a device without a browser shows a code, a person types it at `/device` and allows it.
//! The code is bound to the browser that typed it, so that nobody else can answer for that person.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{Approval, DeviceCode, LIFETIME, Poll, decide_poll};
pub use store::{bind, find_and_stamp, find_by_user_code, mark_approved, mark_denied, take};

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes()).job(crate::platform::jobs::Job {
        name: "device_codes",
        every: std::time::Duration::from_secs(600),
        run: |cx| {
            let now = cx.now();
            Box::pin(async move { cx.db().write(move |tx| store::sweep(tx, now)).await.map(drop) })
        },
    })
}

//! What stays open longer than a request: WebSockets and streams.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gatewright_base::Timestamp;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::feed::{Guard, Resolved};
use crate::{Principal, Refusal, Via};

/// How long a credential is believed that the server has not confirmed since: a server that is away ends nothing at once.
const UNCONFIRMED_FOR: Duration = Duration::from_secs(300);
/// The clock is looked at this often at least: clocks are set, machines sleep.
const MAX_TURN: Duration = Duration::from_secs(60);

/// Waits until the credential behind something that stays open holds no more, and says why, as a sentence for the other side. A revocation
/// that the guard hears of ends it at once; the server is asked about the session every `interval` and when the access token expires. Close
/// the WebSocket with 4401, or end the stream; select on it beside the work.
///
/// Nothing is renewed here: the cookie could not be set.
pub async fn until_revoked(guard: Guard, principal: Arc<Principal>, interval: Duration) -> String {
    let (tell, told) = oneshot::channel();
    // Kept as long as somebody waits for us.
    let _watching = guard.on_revoked(Arc::clone(&principal), move || {
        let _ = tell.send(());
    });
    let mut told = pin!(told);
    let interval = interval.max(Duration::from_millis(10));
    // Until when there is proof. A token is one as long as it lives; of an API key the server alone can tell, and does so in its feed.
    let mut confirmed = principal.expires_at;
    let mut next_look = guard.clock().now().plus(interval);
    let mut looked_at_expiry = false;
    loop {
        let now = guard.clock().now();
        let next = if looked_at_expiry { next_look } else { next_look.min(principal.expires_at) };
        let turn = next.since(now).clamp(Duration::from_millis(10), MAX_TURN);
        if timeout(turn, told.as_mut()).await.is_ok() {
            return Refusal::Revoked.message();
        }
        let now = guard.clock().now();
        let has_expired = now >= principal.expires_at;
        if has_expired && principal.via != Via::Session {
            return "The access token has expired.".to_owned();
        }
        if now < next_look && (looked_at_expiry || !has_expired) {
            continue;
        }
        looked_at_expiry |= has_expired;
        next_look = now.plus(interval);
        match look_up(&guard, &principal).await.outcome {
            Ok(_) => confirmed = confirmed.max(now),
            // A server that does not answer says nothing about the session: look again later.
            Err(Refusal::Unavailable { .. }) if !is_unconfirmed(confirmed, guard.clock().now()) => {}
            Err(refusal) => return refusal.message(),
        }
    }
}

fn is_unconfirmed(confirmed: Timestamp, now: Timestamp) -> bool {
    now > confirmed.plus(UNCONFIRMED_FOR)
}

async fn look_up(guard: &Guard, principal: &Arc<Principal>) -> Resolved {
    let (tell, told) = oneshot::channel();
    guard.look_up(Arc::clone(principal), move |resolved| drop(tell.send(resolved)));
    told.await
        .unwrap_or_else(|_| Resolved { outcome: Err(Refusal::Unavailable { retry_after: Duration::from_secs(1) }), cookies: Arc::new([]) })
}

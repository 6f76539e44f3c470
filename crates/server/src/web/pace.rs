//! Answers that leave at full tenths of a second: where known and unknown addresses need different work, such as an account made or
//! a mail to its owner, the time must not tell which it was (attack row 37).

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::platform::cx::Cx;

/// When an answer was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    began: Instant,
    step: Duration,
}

impl Pace {
    pub fn begin(cx: &Cx) -> Self {
        Self { began: Instant::now(), step: cx.config().answer_step }
    }

    /// Until the next full step.
    pub async fn wait(self) {
        sleep_until(self.began + next_step(self.began.elapsed(), self.step)).await;
    }
}

fn next_step(elapsed: Duration, step: Duration) -> Duration {
    let steps = elapsed.as_nanos().checked_div(step.as_nanos()).map_or(0, |steps| steps + 1);
    step.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_leaves_at_the_next_full_step() {
        let ms = Duration::from_millis;
        for (elapsed, leaves) in [(ms(0), ms(100)), (ms(1), ms(100)), (ms(99), ms(100)), (ms(100), ms(200)), (ms(250), ms(300))] {
            assert_eq!(next_step(elapsed, ms(100)), leaves, "{elapsed:?}");
        }
        assert_eq!(next_step(ms(250), Duration::ZERO), Duration::ZERO);
    }

    #[tokio::test]
    async fn more_and_less_work_take_alike() {
        let step = Duration::from_millis(100);
        for work in [0, 60] {
            let pace = Pace { began: Instant::now(), step };
            tokio::time::sleep(Duration::from_millis(work)).await;
            pace.wait().await;
            assert!(pace.began.elapsed() >= step, "{work}");
        }
    }
}

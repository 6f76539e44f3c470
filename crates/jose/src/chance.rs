use gatewright_base::Rng;

/// The operating system's CSPRNG through aws-lc-rs. The only [`Rng`] for production.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    #[expect(clippy::disallowed_methods, reason = "the one place where chance comes in")]
    fn fill(&self, bytes: &mut [u8]) {
        // Going on without randomness would mint guessable secrets; there is nothing better to do than stop.
        aws_lc_rs::rand::fill(bytes).expect("the operating system gives random bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let rng: &dyn Rng = &SystemRng;
        assert_ne!(rng.array::<32>(), rng.array::<32>());
    }
}

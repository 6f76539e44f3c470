use std::sync::Mutex;

/// Where randomness comes from. Implementations for production fill from the operating system's CSPRNG.
pub trait Rng: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Rng {
    /// `N` random bytes.
    pub fn array<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A number below `bound`, each equally likely: draws above the last whole multiple are thrown away.
    pub fn below(&self, bound: u32) -> u32 {
        let zone = u32::MAX - (u32::MAX % bound);
        loop {
            let draw = u32::from_le_bytes(self.array());
            if draw < zone {
                return draw % bound;
            }
        }
    }
}

/// Repeatable chance for tests: the same seed gives the same bytes (SplitMix64). Never for secrets.
#[derive(Debug)]
pub struct SeededRng(Mutex<u64>);

impl SeededRng {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let rng: &dyn Rng = &SeededRng::new(7);
        let mut seen = [false; 10];
        for _ in 0..500 {
            seen[rng.below(10) as usize] = true;
        }
        assert!(seen.iter().all(|s| *s));
    }

    #[test]
    fn a_seed_repeats() {
        let (a, b): (&dyn Rng, &dyn Rng) = (&SeededRng::new(1), &SeededRng::new(1));
        assert_eq!(a.array::<16>(), b.array::<16>());
        assert_ne!(a.array::<16>(), [0; 16]);
    }
}

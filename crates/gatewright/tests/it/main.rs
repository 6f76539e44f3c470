//! The command as people run it: its answers, its refusals, its ends.

mod configuration;
mod development;
mod identities;
mod production;
mod running;

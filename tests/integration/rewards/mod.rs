//! Rewards against the official code, and as files beside a generator.

mod classifier;
mod files;
mod image_reward;
mod networks;

//! Rewards against the official code, and as files beside a generator.

/// Its files are fetched by a script.
#[cfg(unix)]
mod classifier;
mod files;
mod image_reward;
mod networks;

//! Everything that needs no process of its own: the library through its public interface.

mod edit;
#[cfg(windows)]
mod exit;
mod families;
/// Runs cargo, that of the machine that builds.
#[cfg(unix)]
mod foreign_crate;
mod graph;
/// Of the sources, which are the same everywhere, by paths with slashes.
#[cfg(unix)]
mod house;
mod int4;
mod int8;
mod optimize;
mod paths;
mod rewards;
mod text;

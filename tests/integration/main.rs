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
/// There is a plug-in for this system alone.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod openvino;
mod optimize;
mod paths;
mod rewards;
mod text;

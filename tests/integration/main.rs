//! Everything that needs no process of its own: the library through its public interface.

mod edit;
mod families;
mod foreign_crate;
mod graph;
mod house;
mod int8;
mod optimize;
mod rewards;
mod text;

//! Each family of generators against the official code, and as a model file.

mod alpha;
mod climbing;
mod maskbit;
mod maskgen;
mod maskgit;
mod meissonic;
mod prompted;
mod tokens;

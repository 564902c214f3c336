//! `softdimo bench`: what opening a model, running it and optimising with it cost, in time and in memory.

mod alone;
mod child;
mod generate;
mod machine;
mod optimize;
mod peak;
mod profile;
mod resident;
mod spread;
mod start;
mod summary;
mod table;

use std::process::ExitCode;

use softdimo::Result;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Generation: every combination of the models and lists, each in a process of its own, in turn
    Generate(generate::Args),
    /// One step of test-time optimisation (pixel-target reward) against one forward pass, in turn
    Optimize(optimize::Args),
    /// From the start of a process to the PNG of its first picture, and its first optimisation
    Start(start::Args),
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.what {
        What::Generate(args) => generate::run(&args),
        What::Optimize(args) => optimize::run(&args),
        What::Start(args) => start::run(&args),
    }
}

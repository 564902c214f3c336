//! The command line: `softdimo generate | optimize | inspect | labels | convert | quantize | compare | tune | verify | bench`.
//!
//! Results go to stdout, messages and progress to stderr. Exit status: 0 done, 1 failed (or a verification
//! that did not pass), 2 wrong usage, 129, 130 or 143 ended by SIGHUP, SIGINT or SIGTERM.

mod bench;
mod compare;
mod convert;
mod engine;
mod generate;
mod inspect;
mod interrupt;
mod labels;
mod like;
mod optimize;
mod output;
mod picture;
mod plot;
mod printed;
mod progress;
mod provenance;
mod quantize;
mod reward;
mod say;
mod style;
mod tune;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "softdimo", version, about = "One-step image generation", propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make pictures and write them as PNG
    #[command(allow_negative_numbers = true)]
    Generate(generate::Args),
    /// Climb a reward's gradient through the model, and show before and after
    #[command(allow_negative_numbers = true)]
    Optimize(optimize::Args),
    /// Print what a model file holds and check its hash
    Inspect(inspect::Args),
    /// List the class labels of a model
    Labels(labels::Args),
    /// Make a model file from official checkpoints
    Convert(convert::Args),
    /// Write a model file again with narrower weights
    Quantize(quantize::Args),
    /// See what another form of a model, such as int8, does to its pictures
    Compare(compare::Args),
    /// Measure which layers of a model in int8 this machine computes faster in f32, and remember it
    Tune(tune::Args),
    /// Replay a golden file and compare every tensor
    Verify(verify::Args),
    /// Time opening and running a model, and print its memory
    Bench(bench::Args),
}

fn main() -> ExitCode {
    interrupt::outlive_size_limits();
    interrupt::watch();
    let arguments = like::expand(&Cli::command(), std::env::args_os().collect());
    let result = arguments.and_then(|(arguments, like)| match Cli::try_parse_from(arguments) {
        Ok(cli) => run(cli.command, like),
        Err(usage) => say::usage(&usage),
    });
    match result {
        Ok(_) if interrupt::interrupted() => interrupt::exit_code(),
        Ok(code) => code,
        Err(error) => {
            say::tell!("softdimo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, like: Option<like::Like>) -> softdimo::Result<ExitCode> {
    match command {
        Command::Generate(args) => generate::run(args, like),
        Command::Optimize(args) => optimize::run(args, like),
        Command::Inspect(args) => inspect::run(args),
        Command::Labels(args) => labels::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Tune(args) => tune::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Bench(args) => bench::run(args),
    }
}

//! `softdimo convert`: official checkpoints to one model file.

mod generator;
mod reward;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgMatches, Command, FromArgMatches, Subcommand, ValueEnum};
use softdimo::convert::{About, Storage, Summary};
use softdimo::families::FAMILIES;
use softdimo::rewards::architecture::REWARDS;

use crate::output::{check_apart, check_file, folder};
use crate::progress::Progress;
use crate::say::{say, tell};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    family: Family,
}

/// One subcommand for every row of the library's tables of families and of rewards.
enum Family {
    Generator(generator::Args),
    Reward(reward::Args),
}

/// A reward's name on the command line.
fn dashed(name: &str) -> String {
    name.replace('_', "-")
}

impl Subcommand for Family {
    fn augment_subcommands(mut command: Command) -> Command {
        for row in FAMILIES {
            let d = row.description;
            command = command
                .subcommand(generator::Args::augment(Command::new(d.name), d.condition).about(d.about));
        }
        for row in REWARDS {
            let d = row.description;
            command = command
                .subcommand(reward::Args::augment(Command::new(dashed(d.name)), d.takes).about(d.about));
        }
        command
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Family::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        FAMILIES.iter().any(|row| row.description.name == name)
            || REWARDS.iter().any(|row| dashed(row.description.name) == name)
    }
}

impl FromArgMatches for Family {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Family, clap::Error> {
        let Some((name, matches)) = matches.subcommand() else {
            return Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand));
        };
        if let Some(row) = FAMILIES.iter().find(|row| row.description.name == name) {
            return Ok(Family::Generator(generator::Args::read(matches, row.description)?));
        }
        match REWARDS.iter().find(|row| dashed(row.description.name) == name) {
            Some(row) => Ok(Family::Reward(reward::Args::read(matches, row.description)?)),
            None => Err(clap::Error::new(clap::error::ErrorKind::InvalidSubcommand)),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Family::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What is said about any model file.
#[derive(clap::Args)]
struct Common {
    /// How matrices and kernels are stored; vectors are f32 where this is narrower
    #[arg(long, value_enum, default_value_t = Dtype::Keep)]
    dtype: Dtype,
    #[arg(long)]
    title: Option<String>,
    #[arg(long)]
    license: Option<String>,
    #[arg(long)]
    author: Option<String>,
    #[arg(long)]
    description: Option<String>,
    /// Where the weights come from, in words
    #[arg(long)]
    origin: Option<String>,
    /// Model file to write, NAME.softdimo.safetensors
    #[arg(short, long)]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dtype {
    Keep,
    F16,
    Int8,
    /// int8 that is computed with in f32 on every processor
    Int8Rows,
    /// int4 in blocks for what makes tokens, int8 for what makes pictures of them: the smallest file
    Int4,
}

impl Common {
    fn storage(&self) -> Storage {
        match self.dtype {
            Dtype::Keep => Storage::Keep,
            Dtype::F16 => Storage::F16,
            Dtype::Int8 => Storage::Int8,
            Dtype::Int8Rows => Storage::Int8Rows,
            Dtype::Int4 => Storage::Int4,
        }
    }

    fn about(&self) -> About {
        About {
            title: self.title.clone(),
            license: self.license.clone(),
            author: self.author.clone(),
            description: self.description.clone(),
            origin: self.origin.clone(),
            background: None,
        }
    }

    /// Run a conversion to the output and print what was written.
    fn run(
        &self,
        inputs: &[(&str, Option<&PathBuf>)],
        convert: impl FnOnce(&Path, &mut dyn FnMut(usize, usize)) -> softdimo::Result<Summary>,
    ) -> softdimo::Result<ExitCode> {
        let inputs: Vec<(&str, &Path)> =
            inputs.iter().filter_map(|&(option, path)| Some((option, path?.as_path()))).collect();
        write(&self.output, &inputs, convert)
    }
}

/// What an input that is a folder or an index reads is found in its folder: of what is there, only model files are written
/// anew.
fn check_outside(output: &Path, option: &str, input: &Path) -> softdimo::Result<()> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let from = match input.is_dir() {
        true => input,
        false if name(input).ends_with(".index.json") => folder(input),
        false => return Ok(()),
    };
    let inside = || Some(output.canonicalize().ok()?.starts_with(from.canonicalize().ok()?));
    if inside() == Some(true) && !name(output).ends_with(".softdimo.safetensors") {
        return Err(softdimo::Error::invalid(
            format!("--output {}", output.display()),
            format!("a new file, or one outside of {option} {}", from.display()),
            "one that may be read",
        ));
    }
    Ok(())
}

/// Have a model file written under a progress bar, and print what it is. The inputs are with their options.
pub fn write(
    output: &Path,
    inputs: &[(&str, &Path)],
    make: impl FnOnce(&Path, &mut dyn FnMut(usize, usize)) -> softdimo::Result<Summary>,
) -> softdimo::Result<ExitCode> {
    check_file("--output", output)?;
    check_apart(&[("--output", output)], inputs)?;
    inputs.iter().try_for_each(|(option, input)| check_outside(output, option, input))?;
    let mut progress = Progress::new("tensors written");
    let summary = make(output, &mut |done, total| progress.set(done as u64, total as u64))?;
    progress.finish();
    for read in &summary.read_from {
        tell!("{read}");
    }
    say!(
        "{}: {} tensors, {} bytes, sha256 {}",
        output.display(),
        summary.tensors,
        summary.bytes,
        summary.sha256
    )?;
    Ok(ExitCode::SUCCESS)
}

pub fn run(args: Args) -> softdimo::Result<ExitCode> {
    match args.family {
        Family::Generator(args) => args.run(),
        Family::Reward(args) => args.run(),
    }
}

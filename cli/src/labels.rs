//! `softdimo labels`: the classes of a model, a line each: id, tab, label.

use std::path::PathBuf;
use std::process::ExitCode;

use softdimo::model::{Limits, Model};
use softdimo::{Error, Result, WeightsMode};

use crate::engine::model_path;
use crate::printed::line;
use crate::say::{say, tell};

#[derive(clap::Args)]
pub struct Args {
    /// Only labels that hold this; where none does, those that resemble it
    filter: Option<String>,
    /// Model file; default: $SOFTDIMO_MODEL, or the bundled model
    #[arg(short, long)]
    model: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let path = model_path(args.model.as_ref())?;
    let model = Model::open(&path, WeightsMode::Map, Limits::default())?;
    if model.labels().is_empty() {
        return Err(Error::Config {
            file: path.display().to_string(),
            key: "softdimo.labels".into(),
            expected: "class labels, which 'softdimo convert --labels' adds".into(),
            found: match model.architecture().layout().classes {
                0 => "a model of prompts".into(),
                classes => format!("{classes} classes without labels (--class takes their ids)"),
            },
        });
    }
    let filter = args.filter.unwrap_or_default();
    let classes = model.classes_like(&filter);
    for &class in &classes {
        say!("{class}\t{}", line(&model.labels()[class].name))?;
    }
    if classes.is_empty() {
        tell!("softdimo: none of {} labels holds or resembles '{filter}'", model.labels().len());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

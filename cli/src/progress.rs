//! How far long work is: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::say::tell;

/// Between two lines where stderr is not a terminal; work that is done sooner says nothing.
const EVERY: Duration = Duration::from_secs(10);

pub struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    began: Instant,
    told: Instant,
}

impl Progress {
    pub fn new(what: &str) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            bar.set_style(style.progress_chars("=> "));
            bar.set_message(what.to_string());
            bar
        });
        Progress { what: what.into(), bar, began: Instant::now(), told: Instant::now() }
    }

    pub fn set(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        } else if self.told.elapsed() >= every() {
            self.told = Instant::now();
            tell!("{}: {done} of {total}, {} s", self.what, self.began.elapsed().as_secs());
        }
    }

    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `SOFTDIMO_PROGRESS_MS` is for whoever wants the lines more often.
fn every() -> Duration {
    let wanted = std::env::var("SOFTDIMO_PROGRESS_MS").ok().and_then(|ms| ms.parse().ok());
    wanted.map_or(EVERY, Duration::from_millis)
}

//! A model file of a published model's size, with random weights: what conversion, opening and running cost can be
//! measured without the weights.
//!
//! ```sh
//! cargo run --release --example full_size -- maskgen-l l.softdimo.safetensors [keep|f16|int8|int4]
//! target/release/softdimo bench generate --model l.softdimo.safetensors --memory lean
//! ```
//!
//! Models: maskbit, maskgit, maskgen-l, maskgen-xl (256×256), meissonic (1024×1024).
//! The official checkpoints are written beside the output and removed again.

mod published;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use published::Published;
use softdimo::convert::{self, Source, Storage};
use softdimo::{Error, Result};

/// Anonymous memory of this process in KiB; 0 where there is no /proc.
fn anonymous() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("RssAnon:"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// What `f` gives, the seconds it took, and by how much anonymous memory exceeded its start, in KiB.
fn measured<T>(f: impl FnOnce() -> T) -> (T, f64, i64) {
    let (done, peak, start) = (AtomicBool::new(false), AtomicI64::new(0), anonymous());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous() - start, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let clock = Instant::now();
        let result = f();
        let seconds = clock.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (result, seconds, peak.load(Ordering::Relaxed))
    })
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let usage = || Error::invalid("arguments", "MODEL OUTPUT [keep|f16|int8|int4]", arguments.join(" "));
    let (model, output, storage) = match arguments[..] {
        [model, output] | [model, output, "keep"] => (model, Path::new(output), Storage::Keep),
        [model, output, "f16"] => (model, Path::new(output), Storage::F16),
        [model, output, "int8"] => (model, Path::new(output), Storage::Int8),
        [model, output, "int4"] => (model, Path::new(output), Storage::Int4),
        _ => return Err(usage()),
    };
    let published = Published::of(model)?;
    for (name, parameters) in published.parameters() {
        println!("{name:<14} {:.1} M parameters", parameters as f64 / 1e6);
    }
    let folder = output.with_extension("checkpoints");
    let source = Source { storage, ..published.write(&folder)? };
    let (summary, seconds, peak) = measured(|| convert::generator(&source, output, |_, _| ()));
    let summary = summary?;
    std::fs::remove_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    println!("conversion     {seconds:.1} s, at most {peak} KiB of anonymous memory more");
    println!("{}: {} tensors, {} bytes", output.display(), summary.tensors, summary.bytes);
    Ok(())
}

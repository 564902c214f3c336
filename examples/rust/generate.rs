//! Four pictures of a label as a sheet, with progress: `cargo run --release --example generate -- "red apple" out.png`

use std::ops::ControlFlow;

use softdimo::image::{RgbaImage, write_png};
use softdimo::{Engine, Options, Request, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let label = arguments.next().unwrap_or_else(|| "red apple".into());
    let output = arguments.next().unwrap_or_else(|| "generate.png".into());

    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/emoji-32.softdimo.safetensors");
    let engine = Engine::open(model, Options::default())?;
    let job = engine.submit(&Request::label(label).with_batch(4))?;
    let done = job.wait(None, |progress| {
        eprintln!("step {} of {}", progress.step, progress.total);
        ControlFlow::Continue(())
    })?;

    let mut pictures = Vec::new();
    for i in 0..4 {
        let (w, h) = (done.report.width as u32, done.report.height as u32);
        pictures.push(RgbaImage::from_f32_chw(done.picture(i)?, w, h)?.enlarge(4)?);
    }
    let sheet = RgbaImage::sheet(&pictures, 4, 4, [255; 4])?;
    write_png(&output, &sheet.view(), &[("softdimo".into(), done.report.json())])?;
    println!("{output}");
    Ok(())
}

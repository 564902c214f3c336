//! Models whose pictures have alpha: four channels out and in, seen against a background where three are wanted.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use softdimo::image::{ImageViewMut, Origin, PictureStyle, PixelFormat, StyledPicture};
use softdimo::{Decode, Edit, Engine, Generated, Keep, Optimize, Options, Request, Reward, RewardTerm};
use support::alpha::{self, BACKGROUND};
use support::compare::assert_close;
use support::safetensors_file::File;

use super::climbing;

fn open(model: &Path) -> Engine {
    Engine::open(model, Options::default()).unwrap()
}

fn request(engine: &Engine) -> Request {
    match engine.layout().classes {
        0 => support::prompt("a red apple").with_seed(3),
        _ => Request::class(2).with_seed(3),
    }
}

const MODELS: [fn(&Path) -> PathBuf; 4] =
    [alpha::maskbit_model, alpha::maskgit_model, alpha::maskgen_model, alpha::meissonic_model];

#[test]
fn pictures_of_every_family_have_alpha_out_and_in() {
    for model in MODELS {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(&model(folder.path()));
        let layout = engine.layout();
        let family = engine.model().architecture().name();
        assert_eq!((layout.channels, engine.background()), (4, BACKGROUND), "{family}");
        assert!(
            engine.info_json().contains(r##""background":"336699","channels":4"##),
            "{}",
            engine.info_json()
        );
        let plane = layout.width * layout.height;
        for steps in [1, 2] {
            let done = engine.generate(&Request { steps, ..request(&engine) }).unwrap();
            assert_eq!(**done.images.shape(), [1, 4, layout.height, layout.width], "{family}");
            assert_eq!(done.report.channels, 4);
            let picture = done.picture(0).unwrap();
            let alpha = &picture[3 * plane..];
            let spread =
                alpha.iter().fold(f32::MIN, |m, &x| m.max(x)) - alpha.iter().fold(f32::MAX, |m, &x| m.min(x));
            println!("{family}, {steps} steps: alpha varies by {spread}");
            assert!(spread > 0.01, "{family}: {spread}");

            // What is encoded has alpha; all of it kept is all of it.
            let image: Vec<f32> = picture.iter().map(|x| x.clamp(0.0, 1.0)).collect();
            let tokens = engine.encode(&image).unwrap();
            assert_eq!(tokens.len(), layout.slots());
            let edit = |image: &[f32]| Request {
                steps,
                edit: Some(Edit { image: image.to_vec(), keep: Keep::Share(1.0) }),
                ..request(&engine)
            };
            assert_eq!(
                engine.generate(&edit(&image)).unwrap().picture_tokens(0).unwrap(),
                tokens,
                "{family}"
            );
            let size =
                format!("{} floats for {}x{}, found {}", 4 * plane, layout.width, layout.height, 3 * plane);
            let opaque = &image[..3 * plane];
            let said = engine.generate(&edit(opaque)).unwrap_err().to_string();
            assert_eq!(said, format!("edit.image: expected {size}"), "{family}");
            assert_eq!(engine.encode(opaque).unwrap_err().to_string(), format!("image: expected {size}"));
        }
    }
}

/// The encoder looks at alpha.
#[test]
fn another_alpha_is_another_picture() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&alpha::maskbit_model(folder.path()));
    let of = |alpha: f32| {
        let mut image = vec![0.5; 4 * 32 * 32];
        image[3 * 32 * 32..].fill(alpha);
        engine.encode(&image).unwrap()
    };
    assert_eq!(of(0.2), of(0.2));
    assert_ne!(of(0.0), of(1.0));
}

/// A picture [4, h, w] over a colour, [3, h, w].
fn over(picture: &[f32], background: [u8; 3]) -> Vec<f32> {
    let plane = picture.len() / 4;
    let background = background.map(|byte| f32::from(byte) / 255.0);
    let pixel = |k: usize| {
        let (c, a) = (k / plane, picture[3 * plane + k % plane]);
        picture[k] * a + background[c] * (1.0 - a)
    };
    (0..3 * plane).map(pixel).collect()
}

fn optimized(engine: &Engine, reward: Reward) -> Arc<Generated> {
    let optimize = Some(Optimize::new(vec![RewardTerm::new(reward, 1.0)], 0));
    engine.generate(&Request { optimize, decode: Decode::Soft, ..request(engine) }).unwrap()
}

#[test]
fn rewards_and_callbacks_see_pictures_over_the_background() {
    for model in [alpha::maskbit_model, alpha::meissonic_model] {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(&model(folder.path()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let done = optimized(
            &engine,
            Reward::callback(move |image, answer| {
                *sink.lock().unwrap() = image.pixels.to_vec();
                answer.scores.fill(1.0);
                answer.gradient.fill(1e-3);
                ControlFlow::Continue(())
            }),
        );
        let expected = over(done.picture(0).unwrap(), BACKGROUND);
        assert_close(&seen.lock().unwrap(), &expected, 1e-4, "what the callback saw");

        let done = optimized(&engine, Reward::Color { rgb: [1.0, -2.0, 0.5], mask: None });
        let seen = over(done.picture(0).unwrap(), BACKGROUND);
        let mean = |c: usize| {
            seen.chunks(seen.len() / 3).nth(c).unwrap().iter().sum::<f32>() * 3.0 / seen.len() as f32
        };
        let expected = mean(0) - 2.0 * mean(1) + 0.5 * mean(2);
        let found = done.report.optimization.as_ref().unwrap().iterations[0].total[0];
        assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
    }
}

/// Through the composite, and so through alpha.
#[test]
fn the_gradient_is_the_slope() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&alpha::meissonic_model(folder.path()));
    climbing::the_gradient_is_the_slope(&engine, &request(&engine), 0.02);
}

#[test]
fn formats_without_alpha_show_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&alpha::maskbit_model(folder.path()));
    let done = engine.generate(&request(&engine)).unwrap();
    let clamped: Vec<f32> = done.picture(0).unwrap().iter().map(|x| x.clamp(0.0, 1.0)).collect();
    let expected = over(&clamped, engine.background());
    let mut style = PictureStyle::default();
    style.background = engine.background();
    let mut data = vec![0; 3 * 32 * 32];
    let (format, origin) = (PixelFormat::Rgb8, Origin::TopLeft);
    let mut view = ImageViewMut { width: 32, height: 32, stride: 0, format, origin, data: &mut data };
    StyledPicture::new(done.picture(0).unwrap(), 32, 32, &style).unwrap().write(&mut view).unwrap();
    for (i, &byte) in data.iter().enumerate() {
        let expected = expected[i % 3 * 1024 + i / 3] * 255.0;
        assert!((f32::from(byte) - expected).abs() <= 0.51, "{i}: {byte} is not {expected}");
    }
}

#[test]
fn channels_and_backgrounds_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let changed = |model: &Path, change: &dyn Fn(&mut File)| {
        let mut file = File::read(model);
        change(&mut file);
        let path = folder.path().join("changed.softdimo.safetensors");
        std::fs::write(&path, file.bytes()).unwrap();
        Engine::open(&path, Options::default()).map(|engine| engine.background()).map_err(|e| e.to_string())
    };
    let model = alpha::maskbit_model(folder.path());
    let background = |text: &str| {
        changed(&model, &|file| {
            file.metadata().insert("softdimo.background".into(), text.into());
        })
    };
    assert_eq!(background("#0aFF10"), Ok([10, 255, 16]));
    for bad in ["", "336699", "#36", "#33669g", "#+33669", "#3366990", "white"] {
        let said = background(bad).unwrap_err();
        let expected = format!("config 'softdimo.background': expected a colour, #rrggbb, found {bad}");
        assert!(said.ends_with(&expected), "{said}");
    }
    let without = changed(&model, &|file| {
        file.metadata().remove("softdimo.background");
    });
    assert_eq!(without, Ok([255; 3]));
    for channels in [0, 1, 2, 5] {
        let said = changed(&model, &|file| file.config(|c| c["tokenizer"]["num_channels"] = channels.into()));
        assert!(said.unwrap_err().contains("num_channels"), "{channels}");
    }
    // Three channels of a file with four: its tensors do not fit.
    let said = changed(&model, &|file| file.config(|c| c["tokenizer"]["num_channels"] = 3.into()));
    assert!(said.unwrap_err().contains("decoder.conv_out"));
    let model = alpha::meissonic_model(&folder.path().join("meissonic"));
    let said =
        changed(&model, &|file| file.config(|c| c["tokenizer"]["in_channels"] = 3.into())).unwrap_err();
    assert!(said.contains("in_channels") && said.contains("expected 4, found 3"), "{said}");
}

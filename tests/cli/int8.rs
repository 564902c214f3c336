//! A model in int8: made, compared, run in either arithmetic.

use std::path::Path;

use softdimo::image::read_png;

use super::{fails, files, works};

const BUNDLED: &str = "models/emoji-32.softdimo.safetensors";

#[test]
fn a_model_is_calibrated_compared_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let model = at("int8.softdimo.safetensors");
    works(&["quantize", BUNDLED, "--dtype", "int8", "--calibrate", "4", "-o", &model]);
    // What was looked at first is gone.
    assert_eq!(files(folder.path()), ["int8.softdimo.safetensors"]);
    let listed = works(&["inspect", "--tensors", &model]);
    assert!(listed.contains("student.input_proj.weight.transposed i8["), "{listed}");
    assert!(listed.contains("decoder.mid.res_blocks.0.conv1.weight.ranges f32["), "{listed}");

    let compared = works(&["compare", BUNDLED, &model, "--pictures", "3", "--json"]);
    let compared: serde_json::Value = serde_json::from_str(&compared).unwrap();
    println!("{compared}");
    assert_eq!(compared["comparison"]["psnr"].as_array().unwrap().len(), 3);
    assert!(compared["psnr_least"].as_f64().unwrap() >= 38.0, "{compared}");
    // With itself, in the last bits: what is observed is not fused.
    let text = works(&["compare", BUNDLED, BUNDLED, "--pictures", "1"]);
    let db: f64 = text.split_whitespace().nth(5).unwrap().parse().unwrap();
    assert!(text.contains("100.00 % are the same") && db > 100.0, "{text}");

    let generate = |name: &str, more: &[&str]| {
        let (path, common) = (at(name), ["generate", "--model", &model, "--label", "rocket", "-o"]);
        works(&[&common[..], &[path.as_str()], more].concat());
        std::fs::read(path).unwrap()
    };
    let (int8, wide) = (generate("int8.png", &[]), generate("f32.png", &["--arithmetic", "f32"]));
    // A picture's recipe says in what it was computed.
    let again = at("again.png");
    works(&["generate", "--like", &at("f32.png"), "-o", &again]);
    let pixels = |path: &str| read_png(Path::new(path)).unwrap().0;
    assert!(pixels(&again) == pixels(&at("f32.png")) && pixels(&again) != pixels(&at("int8.png")));
    assert!(
        String::from_utf8_lossy(&wide).contains("arithmetic")
            && !String::from_utf8_lossy(&int8).contains("arithmetic")
    );

    let stderr = fails(1, &["quantize", &model, "--dtype", "f16", "-o", &at("x.softdimo.safetensors")]);
    assert!(stderr.contains("expected float weights to quantise"), "{stderr}");
    let stderr = fails(2, &["compare", BUNDLED, &model, "--pictures", "0"]);
    assert!(stderr.contains("--pictures"), "{stderr}");
}

//! A model in int8: made, compared, run in either arithmetic.

use std::path::Path;
use std::process::{Command, Output};

use softdimo::image::read_png;

use super::{fails, files, stdout, works};

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
    let slopes = works(&["compare", BUNDLED, &model, "--pictures", "1", "--gradients"]);
    for reward in ["grey", "noise"] {
        let line =
            slopes.lines().find(|line| line.starts_with(&format!("gradient towards {reward} "))).unwrap();
        let least: f64 = line.split_whitespace().last().unwrap().parse().unwrap();
        assert!(least > 0.9 && least <= 1.0, "{slopes}");
    }
    // With itself what is seen is the arithmetic's.
    let slopes = works(&["compare", &model, &model, "--pictures", "1", "--gradients", "--json"]);
    let slopes: serde_json::Value = serde_json::from_str(&slopes).unwrap();
    let noise = slopes["comparison"]["gradients"]["noise"][0].as_f64().unwrap();
    assert!(noise > 0.99 && noise < 1.0 - 1e-9, "{slopes}");
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

/// A run with this cache.
fn with_cache(cache: &str, arguments: &[&str]) -> Output {
    command(cache, arguments).output().unwrap()
}

fn command(cache: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_softdimo"));
    command.args(arguments).current_dir(support::root()).env("SOFTDIMO_CACHE", cache);
    command
}

/// What was measured is remembered where the environment says, and computed with from then on; nothing else is.
#[test]
fn what_is_faster_here_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (model, cache) = (at("int8.softdimo.safetensors"), at("a/new/cache"));
    works(&["quantize", BUNDLED, "--dtype", "int8", "--calibrate", "1", "--psnr", "0", "-o", &model]);

    // Two at once, as of a host and its installer.
    let tune = ["tune", &model, "--threads", "1", "--json"];
    let mut other = command(&cache, &tune).stdout(std::process::Stdio::null()).spawn().unwrap();
    let tuned = with_cache(&cache, &tune);
    assert!(other.wait().unwrap().success());
    assert!(tuned.status.success(), "{}", String::from_utf8_lossy(&tuned.stderr));
    let tuned: serde_json::Value = serde_json::from_str(&stdout(&tuned)).unwrap();
    println!("{tuned}");
    assert_eq!(files(Path::new(&cache)).len(), 1);
    let file = tuned["file"].as_str().unwrap();
    let remembered: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!((remembered["version"].as_u64(), remembered["for"]["threads"].as_u64()), (Some(1), Some(1)));
    let layers = tuned["layers"].as_array().unwrap();
    let listed = works(&["inspect", "--tensors", &model]);
    let kernels: Vec<&str> =
        listed.split_whitespace().filter_map(|word| word.strip_suffix(".ranges")).collect();
    assert_eq!(layers.iter().map(|l| l["count"].as_u64().unwrap()).sum::<u64>(), kernels.len() as u64);
    assert!(
        layers.iter().all(
            |l| l["f32_milliseconds"].as_f64() > Some(0.0) && l["int8_milliseconds"].as_f64() > Some(0.0)
        )
    );

    // Whatever this machine found, somebody's choice is honoured; a choice that is broken or switched off is none.
    let generate = |name: &str, cache: &str, threads: &str| {
        let path = at(name);
        let made = with_cache(
            cache,
            &["generate", "--model", &model, "--label", "rocket", "--threads", threads, "-o", &path],
        );
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        assert!(!String::from_utf8_lossy(&made.stderr).contains("warning"));
        read_png(Path::new(&path)).unwrap().0
    };
    let choose = |in_f32: &[&str]| {
        let mut chosen = remembered.clone();
        chosen["in_f32"] = in_f32.into();
        std::fs::write(file, chosen.to_string()).unwrap();
        generate("chosen.png", &cache, "1")
    };
    let int8 = generate("off.png", "off", "1");
    assert!(choose(&[]) == int8);
    let all = choose(&kernels);
    let one = choose(&["decoder.mid.res_blocks.0.conv1.weight"]);
    assert!(all != int8 && one != int8 && one != all);
    assert!(choose(&["decoder.no.weight"]) == int8);
    assert!(choose(&kernels) == all && generate("two.png", &cache, "2") == int8, "measured for one thread");
    std::fs::write(file, &std::fs::read(file).unwrap()[..100]).unwrap();
    assert!(generate("short.png", &cache, "1") == int8);

    // Nothing is measured that could not be kept, or that is nothing to choose from.
    let refused = |cache: &str, arguments: &[&str], words: &str| {
        let output = with_cache(cache, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains(words), "{stderr}");
    };
    refused("off", &tune, "SOFTDIMO_CACHE: expected a folder");
    refused(&model, &tune, &model);
    refused(&cache, &["tune", BUNDLED], "the model has no convolution for int8 arithmetic");
    refused(&cache, &["tune", &model, "--arithmetic", "f32"], "the arithmetic AUTO");
}

//! Reward files under any name, and the vocabularies that their conversion takes.

use std::io::Write;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use support::{data, rewards as official};

use super::{fails, works};

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn reward_files_may_have_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name));
    let (tower, head) =
        (text(&data("rewards/aesthetic.safetensors")), text(&data("rewards/aesthetic.mlp.safetensors")));
    let optimize = |reward: &str| {
        let report = works(&[
            "optimize",
            "--label",
            "dog",
            "--steps",
            "1",
            "--json",
            "--reward",
            reward,
            "-o",
            &path("out.png"),
        ]);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        report["optimization"].to_string()
    };
    for name in ["plain", "a*b", "2*a=b", "c=d.safetensors", "e.bin"] {
        let file = path(name);
        works(&["convert", "aesthetic", "--checkpoint", &tower, "--head", &head, "-o", &file]);
        for reward in [file.clone(), format!("0.5*{file}")] {
            assert!(optimize(&reward).contains("aesthetic"), "{reward}");
        }
    }
    let none =
        |reward: &str| fails(1, &["optimize", "--label", "dog", "--reward", reward, "-o", &path("out.png")]);
    assert!(none(&path("none")).contains(&format!("file '{}' not found", path("none"))));
    assert!(none("x*prior").contains("expected a number before '*', found x"));
    for color in ["1,x,1,1", "1,1", "1,1,1,1", "1,,1"] {
        let said = none(&format!("color={color}"));
        assert!(said.contains("expected color=R,G,B, three numbers") && said.contains(color), "{said}");
    }
    assert!(none("beauty").contains("a reward file[=CLASS]"));
}

#[test]
fn vocabularies_are_taken_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name));
    let source = official::image_reward(folder.path()).source;
    let vocabulary = folder.path().join("vocab.txt");
    let bytes = std::fs::read(&vocabulary).unwrap();
    std::fs::create_dir(path("folder")).unwrap();
    std::fs::write(path("folder/vocab.txt"), &bytes).unwrap();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&bytes).unwrap();
    std::fs::write(path("vocab.txt.gz"), packed.finish().unwrap()).unwrap();
    let convert = |vocabulary: &str, name: &str| {
        let checkpoint = text(&source.checkpoint);
        let mut arguments =
            vec!["convert", "image-reward", "--checkpoint", &checkpoint, "--vocabulary", vocabulary];
        let (output, config) = (path(name), source.config.as_ref().map(|config| text(config)));
        arguments.extend(config.iter().flat_map(|config| ["--config", config.as_str()]));
        arguments.extend(["-o", &output]);
        works(&arguments);
        std::fs::read(&output).unwrap()
    };
    let plain = convert(&text(&vocabulary), "plain");
    assert!(convert(&path("folder"), "of-folder") == plain);
    assert!(convert(&path("vocab.txt.gz"), "of-packed") == plain);
}

//! Official checkpoint → reward file → the official scores and gradients, by way of the prompt; and what a
//! conversion refuses.

use std::path::Path;
use std::sync::Arc;

use softdimo::checkpoint::Checkpoint;
use softdimo::convert::{self, RewardSource, Storage};
use softdimo::graph::{Graph, grad, simplify};
use softdimo::model_file::REWARD_COMPONENT as COMPONENT;
use softdimo::rewards::RewardModel;
use softdimo::tensor::{Dtype, Tensor};
use softdimo::weights::Weights;
use softdimo::{Engine, MemoryMode};

use support::data;
use support::rewards::{self as official, Official, convert as write, read};

use super::{emoji, open};

/// Ids and masks of all prompts, [B, N].
fn tokens(model: &RewardModel, prompts: &[String]) -> [Tensor; 2] {
    let rows: Vec<_> = prompts.iter().map(|p| model.tokens(p).unwrap()).collect();
    let shape = [rows.len(), rows[0].ids.len()];
    let all = |part: fn(&softdimo::rewards::Tokens) -> &Vec<i64>| {
        Tensor::from_i64(shape, &rows.iter().flat_map(|t| part(t).clone()).collect::<Vec<_>>())
    };
    [all(|t| &t.ids), all(|t| &t.mask)]
}

/// Scores and their gradient for the golden pictures, from the file at `path` alone.
fn score(engine: &Engine, path: &Path, official: &Official) -> (Vec<f64>, Vec<f64>) {
    let (model, file) = (open(path), Arc::new(Checkpoint::open(path).unwrap()));
    let (g, w, a) = (Graph::new(), Weights::new(&file).at(COMPONENT), model.architecture());
    let picture = read(&official.golden, "in/image");
    let mut inputs = vec![("image".to_string(), picture.clone())];
    let image = g.input("image", Dtype::F32, picture.shape().clone()).unwrap();
    let score = if a.reads_prompt() {
        let [ids, mask] = tokens(&model, &official.prompts);
        let input = |name: &str, t: &Tensor| g.input(name, Dtype::I64, t.shape().clone()).unwrap();
        let values = [input("ids", &ids), input("mask", &mask)];
        inputs.extend([("ids".to_string(), ids), ("mask".to_string(), mask)]);
        a.score_tokens(&g, &w, image, values[0], values[1]).unwrap()
    } else {
        a.score(&g, &w, image, None).unwrap()
    };
    g.output("score", score);
    let sum = g.reduce_sum(score, &[0]).unwrap();
    g.output("gradient", grad(&g, sum, &[image]).unwrap()[0]);
    let mut results = engine.run_graph_over(file, simplify(&g).unwrap(), inputs).unwrap();
    let gradient = results.remove(1).1.to_f64();
    (results.remove(0).1.to_f64(), gradient)
}

/// Largest difference of scores, and ‖a − b‖/‖b‖ of gradients, to the golden file.
fn differences(engine: &Engine, path: &Path, official: &Official) -> (f64, f64) {
    let (scores, gradient) = score(engine, path, official);
    let expected = read(&official.golden, "out/score").to_f64();
    let slopes = read(&official.golden, "out/grad_image").to_f64();
    assert_eq!((scores.len(), gradient.len()), (expected.len(), slopes.len()));
    let apart = scores.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let d: Vec<f64> = gradient.iter().zip(&slopes).map(|(a, b)| a - b).collect();
    (apart, norm(&d) / norm(&slopes))
}

#[test]
fn converted_files_score_as_the_official_code() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, make: fn(&Path) -> Official| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        (name.to_string(), make(&folder))
    };
    let all = [
        make("clip_score", official::clip_score),
        make("hpsv2", official::hpsv2),
        make("image_reward", official::image_reward),
        make("aesthetic", |_| official::aesthetic()),
    ];
    let engines = [MemoryMode::Lean, MemoryMode::Fast].map(emoji);
    for (name, official) in &all {
        let path = write(&official.source, folder.path(), name);
        assert_eq!(open(&path).architecture().name(), name);
        for engine in &engines {
            let (apart, gradient) = differences(engine, &path, official);
            println!("{name}: score {apart:.1e}, gradient {gradient:.1e}");
            assert!(apart < 1e-4 && gradient < 1e-4, "{name}: {apart} {gradient}");
        }
        let scale = read(&official.golden, "out/score").to_f64().iter().fold(1.0, |m: f64, s| m.max(s.abs()));
        let bytes = |path: &Path| std::fs::metadata(path).unwrap().len();
        for (storage, bound, share) in [(Storage::F16, 1e-2, 0.6), (Storage::Int8, 1e-2, 0.4)] {
            let narrow = RewardSource { storage, ..official.source.clone() };
            let narrow = write(&narrow, folder.path(), &format!("{name}-{storage:?}"));
            let (apart, gradient) = differences(&engines[0], &narrow, official);
            let size = bytes(&narrow) as f64 / bytes(&path) as f64;
            println!(
                "{name} in {storage:?}: score {apart:.1e} of {scale:.1}, gradient {gradient:.1e}, size {size:.2}"
            );
            assert!(apart > 0.0 && apart < bound * scale, "{name} {storage:?}: {apart}");
            assert!(size < share, "{name} {storage:?}: {size}");
        }
    }
}

#[test]
fn a_file_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut official = official::clip_score(&folder.path().join("official"));
    official.source.about.title = Some("Tiny CLIP".into());
    official.source.about.license = Some("MIT".into());
    let path = write(&official.source, folder.path(), "clip");
    let model = open(&path);
    let m = model.metadata();
    assert_eq!(m["modelspec.architecture"], "clip_score");
    assert_eq!(m["modelspec.title"], "Tiny CLIP");
    assert_eq!(m["modelspec.resolution"], "32x32");
    assert_eq!(model.checkpoint().as_safetensors().unwrap().sha256(), m["softdimo.sha256"]);
    let config = serde_json::to_value(model.config()).unwrap();
    assert_eq!(config["text"]["num_attention_heads"], 4);
    assert_eq!(config["vision"]["num_attention_heads"], 6);
    let tokenizer = serde_json::json!({ "kind": "clip_bpe", "flavor": "hugging_face", "context": 11 });
    assert_eq!(config["tokenizer"], tokenizer);
    assert!(model.checkpoint().names().all(|name| name.starts_with("reward.")));
    // The same vocabulary, without the header that published files have.
    let vocabulary = model.checkpoint().get("reward.vocabulary").unwrap();
    assert_eq!(vocabulary.data, std::fs::read(data("tokenizer/clip-merges.txt")).unwrap());
}

/// One network in two files, or behind an index that joins them: the same file comes of it.
#[test]
fn containers_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let two = write(&official::aesthetic().source, folder.path(), "two");
    let index = RewardSource::new("aesthetic", data("rewards/aesthetic.index.json"));
    let index = write(&index, folder.path(), "index");
    assert!(std::fs::read(two).unwrap() == std::fs::read(index).unwrap());
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.softdimo.safetensors");
    let fails = |source: &RewardSource, words: &str| {
        let message = convert::reward(source, &output, |_, _| ()).unwrap_err().to_string();
        println!("{message}");
        assert!(message.contains(words), "expected '{words}' in: {message}");
        assert!(!output.exists(), "{words}");
    };
    let rewards = |name: &str| data(&format!("rewards/{name}"));

    // Another network, or a part of one.
    fails(
        &RewardSource::new("clip_score", rewards("image_reward.safetensors")),
        "expected CLIP's tensors, such as 'vision_model.embeddings.class_embedding' or 'visual.class_embedding', \
         found 134 tensors, among them 'blip.text_encoder.embeddings.LayerNorm.bias'",
    );
    fails(&RewardSource::new("clip_score", rewards("aesthetic.safetensors")), "'token_embedding.weight'");
    fails(
        &RewardSource::new("image_reward", rewards("clip_score.safetensors")),
        "expected ImageReward's tensors, such as 'blip.visual_encoder.cls_token', found",
    );
    fails(
        &RewardSource::new("classifier", rewards("clip_score.safetensors")),
        "expected EfficientNet-Lite0's tensors, such as '_fc.weight', found",
    );
    fails(&RewardSource::new("aesthetic", rewards("aesthetic.safetensors")), "tensor 'layers.0.weight'");
    fails(&RewardSource::new("hpsv2", "no such file"), "file 'no such file' not found");

    // What shapes do not tell.
    let mut official = official::hpsv2(folder.path());
    std::fs::remove_file(folder.path().join("open_clip_config.json")).unwrap();
    fails(&official.source, "config 'vision.num_attention_heads': expected --config FILE that gives it");
    let config = folder.path().join("given.json");
    official.source.config = Some(config.clone());
    let given = |json: serde_json::Value, words: &str| {
        std::fs::write(&config, json.to_string()).unwrap();
        fails(&official.source, words);
    };
    use serde_json::json;
    given(json!({ "vision_cfg": { "width": 64 } }), "'vision_cfg.width': expected 48, as in HPS_v2.1");
    given(
        json!({ "vision_cfg": { "head_width": 7 } }),
        "'vision_cfg.head_width': expected a divisor of width 48, found 7",
    );
    let text = json!({ "num_attention_heads": 4 });
    given(
        json!({ "text": text, "vision": { "num_attention_heads": 5 } }),
        "expected a divisor of hidden_size 48, found 5",
    );
    given(
        json!({ "text": text, "vision": { "num_attention_heads": 4, "hidden_act": "swish" } }),
        "expected the sizes of the official configuration, found unknown variant `swish`",
    );
    given(json!({ "vision": { "num_attention_heads": "4" } }), "config 'vision'");
    given(json!({ "embed_dim": 32, "vision_cfg": {} }), "'embed_dim': expected 24");
    std::fs::write(&config, "{").unwrap();
    fails(&official.source, "given.json: config 'config': expected a JSON object");

    // Vocabularies.
    let mut official = official::hpsv2(folder.path());
    let beside = official.source.vocabulary.take().unwrap();
    let merges = folder.path().join("elsewhere.txt");
    std::fs::rename(beside, &merges).unwrap();
    fails(
        &official.source,
        "--vocabulary: expected CLIP's merges, since there is no merges.txt beside HPS_v2.1",
    );
    official.source.vocabulary = Some(data("tokenizer/bert-vocab.txt"));
    fails(&official.source, "bert-vocab.txt: line 1: expected a header with '#version'");
    std::fs::write(folder.path().join("packed.gz"), b"\x1f\x8b\x08\0").unwrap();
    official.source.vocabulary = Some(folder.path().join("packed.gz"));
    fails(&official.source, "packed.gz: contents: expected gzip data of at most");
    let mut trimmed = RewardSource::new("hpsv2", rewards("hpsv2.safetensors"));
    trimmed.vocabulary = Some(merges.clone());
    std::fs::write(
        &config,
        json!({ "vision_cfg": { "head_width": 12 }, "text_cfg": { "heads": 4 } }).to_string(),
    )
    .unwrap();
    trimmed.config = Some(config.clone());
    fails(&trimmed, "config 'vocab_size': expected 49408 or more, as ");
    let mut none = official::aesthetic().source;
    none.vocabulary = Some(merges);
    fails(&none, "--vocabulary: expected none: 'aesthetic' reads no prompt");
    official.source.head = Some(rewards("aesthetic.mlp.safetensors"));
    fails(&official.source, "--head: expected none: only 'aesthetic' has one");
}

//! Files that break one rule each, and files of the wrong kind.

use std::sync::Arc;

use serde_json::{Value, json};
use softdimo::checkpoint::Mapping;
use softdimo::rewards::RewardModel;
use softdimo::{Engine, Error, Label, Options, Reward, WeightsMode};

use support::bundled;
use support::rewards::{self as official, convert};
use support::safetensors_file::File;

use super::open;

fn message(bytes: Vec<u8>) -> String {
    RewardModel::from_mapping(Arc::new(Mapping::from_vec(bytes)), "f").unwrap_err().to_string()
}

#[test]
fn broken_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let clip = official::clip_score(&folder.path().join("clip")).source;
    let file = File::read(&convert(&clip, folder.path(), "clip"));
    RewardModel::from_mapping(Arc::new(Mapping::from_vec(file.bytes())), "f").unwrap();
    let changed = |words: &str, change: &dyn Fn(&mut File)| {
        let mut file = file.clone();
        change(&mut file);
        let message = message(file.bytes());
        println!("{message}");
        assert!(message.contains(words), "expected '{words}' in: {message}");
    };
    let configured = |words: &str, change: fn(&mut Value)| changed(words, &|f| f.config(change));
    const TENSOR: &str = "reward.visual_projection.weight";

    changed("'softdimo.format': expected 1, 2 or 3, found 9", &|f| {
        f.header["__metadata__"]["softdimo.format"] = "9".into()
    });
    changed("'softdimo.format': expected a model file made by 'softdimo convert'", &|f| {
        f.header["__metadata__"] = json!({})
    });
    changed(&format!("tensor '{TENSOR}': expected shape [24, 48]"), &|f| {
        let tensor = f.header.as_object_mut().unwrap().remove(TENSOR).unwrap();
        f.header["reward.other"] = tensor;
    });
    changed(
        &format!("tensor '{TENSOR}': expected a float tensor of shape [24, 48], found f32[48, 24]"),
        &|f| f.header[TENSOR]["shape"] = json!([48, 24]),
    );
    changed(&format!("tensor '{TENSOR}': expected a float tensor"), &|f| {
        f.header[TENSOR]["dtype"] = "I32".into()
    });
    changed("tensor 'reward.vocabulary': expected shape [n] of u8, found no such tensor", &|f| {
        let tensor = f.header.as_object_mut().unwrap().remove("reward.vocabulary").unwrap();
        f.header["reward.words"] = tensor;
    });
    changed("tensor 'reward.vocabulary': expected [n] of u8, found i8", &|f| {
        f.header["reward.vocabulary"]["dtype"] = "I8".into()
    });
    changed("f: CLIP vocabulary: line 3: expected", &|f| f.tensor("reward.vocabulary")[9] = b'x');
    changed("'softdimo.labels': expected 0 labels, or none, found 1 labels", &|f| {
        f.header["__metadata__"]["softdimo.labels"] = json!([{ "name": "a" }]).to_string().into()
    });

    configured("'tokenizer': expected the tokenizer of a reward that reads a prompt, found none", |c| {
        c["tokenizer"] = Value::Null
    });
    configured("'tokenizer.kind': expected clip_bpe, found word_piece", |c| {
        c["tokenizer"] = json!({ "kind": "word_piece", "context": 11 })
    });
    configured("'tokenizer.context': expected 2 to 11, found 12", |c| c["tokenizer"]["context"] = 12.into());
    configured("'tokenizer.context': expected 2 to 11, found 1", |c| c["tokenizer"]["context"] = 1.into());
    configured("'softdimo.config': expected a valid configuration", |c| {
        c["tokenizer"]["flavor"] = "vanilla".into()
    });
    configured("'num_attention_heads': expected a divisor of hidden_size 48, found 5", |c| {
        c["vision"]["num_attention_heads"] = 5.into()
    });
    configured("'num_hidden_layers': expected 1 to 1024", |c| {
        c["text"]["num_hidden_layers"] = (1u64 << 40).into()
    });
    configured("tensor 'reward.text_model.encoder.layers.2.layer_norm1.weight': expected shape [32]", |c| {
        c["text"]["num_hidden_layers"] = 3.into()
    });
    configured("'projection_dim': expected one value in text and vision", |c| {
        c["text"]["projection_dim"] = 23.into()
    });
    // A context of a million positions would take a mask of terabytes; the limit comes first.
    configured("'tokenizer.context': expected 2 to 1024, found 1000000", |c| {
        c["text"]["max_position_embeddings"] = 1_000_000.into();
        c["tokenizer"]["context"] = 1_000_000.into();
    });
    configured("'vocab_size': expected 49408 or more, as the vocabulary has, found 49407", |c| {
        c["text"]["vocab_size"] = 49407.into()
    });
    // A reward without a prompt has no use for a tokenizer.
    configured("'tokenizer.kind': expected none: the reward reads no prompt", |c| {
        c["family"] = "aesthetic".into();
    });

    // Cut anywhere, the file is refused.
    let whole = file.bytes();
    for cut in [0, 5, 100, whole.len() / 2, whole.len() - 1] {
        assert!(message(whole[..cut].to_vec()).starts_with("f: "), "{cut}");
    }
}

#[test]
fn files_of_the_wrong_kind_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let reward = convert(&official::aesthetic().source, folder.path(), "aesthetic");
    let error = Engine::open(&reward, Options::default()).unwrap_err();
    let expected =
        "config 'family': expected a generator, found the reward 'aesthetic', which is opened as a reward";
    assert!(error.to_string().ends_with(expected), "{error}");
    let generator = bundled();
    let error = RewardModel::open(&generator, WeightsMode::Map).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error}");
    let expected = "expected a reward (clip_score, pickscore, hpsv2, aesthetic, image_reward, classifier), found \
                    'maskbit'; a generator is opened as an engine";
    assert!(error.to_string().ends_with(expected), "{error}");
    let error = RewardModel::open(folder.path().join("none"), WeightsMode::Map).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    for class in [Label::Class(3), Label::Name("dog".into())] {
        let error = Reward::network(open(&reward), Some(&class)).unwrap_err();
        let expected = "a class for the reward 'aesthetic' is not supported: only classifiers read one";
        assert_eq!(error.to_string(), expected);
    }
}

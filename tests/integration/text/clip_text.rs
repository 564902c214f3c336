//! Text encoders of text-to-image models against the official code: token ids, hidden states and pooled
//! features, in ONNX Runtime and in the f64 evaluator; and how an encoder lies in a model file.

use std::path::Path;
use std::sync::Arc;

use softdimo::MemoryMode;
use softdimo::checkpoint::Checkpoint;
use softdimo::graph::{Graph, simplify};
use softdimo::nn::clip::{Activation, KeyLayout, TextConfig};
use softdimo::nn::text_encoder::{self, HiddenState, TextEncoder};
use softdimo::tensor::{Dtype, Tensor};
use softdimo::text::{ClipBpe, Flavor, PromptTokenizer};
use softdimo::weights::Weights;
use support::compare::difference;
use support::compute::{Backend, compute};
use support::{checkpoints, data};

const MERGES: &[u8] = checkpoints::MERGES.as_bytes();

fn open(name: &str) -> Arc<Checkpoint> {
    Arc::new(Checkpoint::open(data("clip_text").join(name)).unwrap())
}

fn golden(name: &str) -> Tensor {
    open("golden.safetensors").get(name).unwrap().to_tensor()
}

/// The tiny tower of `tower.safetensors`, whose vocabulary is the rows that the golden prompts use.
fn encoder(keys: KeyLayout, hidden_act: Activation, hidden: HiddenState) -> TextEncoder {
    let tower = TextConfig {
        keys,
        vocab_size: golden("rows").shape()[0],
        hidden_size: 24,
        intermediate_size: 96,
        num_hidden_layers: 3,
        num_attention_heads: 3,
        max_position_embeddings: 77,
        projection_dim: 28,
        hidden_act,
    };
    TextEncoder { tower, flavor: Flavor::OpenClip, context_length: 77, pad_id: 0, hidden }
}

/// The prompts' ids, as rows of the trimmed embedding: [8, 77].
fn ids() -> Tensor {
    let (ids, rows) = (golden("model_input_ids"), golden("rows").to_i64());
    let renumbered: Vec<i64> = ids.to_i64().iter().map(|id| rows.binary_search(id).unwrap() as i64).collect();
    Tensor::from_i64(ids.shape().clone(), &renumbered)
}

fn write(path: &Path, tensors: Vec<(String, Tensor)>) -> Arc<Checkpoint> {
    let views = tensors.iter().map(|(name, t)| {
        let dtype = match t.dtype() {
            Dtype::U8 => safetensors::Dtype::U8,
            Dtype::I64 => safetensors::Dtype::I64,
            Dtype::F32 => safetensors::Dtype::F32,
            other => panic!("{other}"),
        };
        (name, safetensors::tensor::TensorView::new(dtype, t.shape().to_vec(), t.bytes()).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
    Arc::new(Checkpoint::open(path).unwrap())
}

/// The tower under Hugging Face's names.
fn hugging_face(folder: &Path) -> Arc<Checkpoint> {
    let tower = open("tower.safetensors");
    let tower: checkpoints::Tensors =
        tower.names().map(|name| (name.to_string(), tower.get(name).unwrap().to_tensor())).collect();
    write(&folder.join("hugging_face.safetensors"), checkpoints::hugging_face(&tower))
}

#[test]
fn states_and_pooled_row_equal_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let ids = ids();
    for (keys, checkpoint) in [
        (KeyLayout::OpenClip, open("tower.safetensors")),
        (KeyLayout::HuggingFace, hugging_face(folder.path())),
    ] {
        for (name, act) in [("gelu", Activation::Gelu), ("quickgelu", Activation::QuickGelu)] {
            let cfg = encoder(keys, act, HiddenState::Penultimate);
            let g = Graph::new();
            let input = g.input("ids", Dtype::I64, ids.shape().clone()).unwrap();
            let text = text_encoder::encode(&g, &Weights::new(&checkpoint), &cfg, input).unwrap();
            g.output("penultimate", text.hidden);
            g.output("text_guidance_ln_final", text.last);
            g.output("pooled_projected", text.pooled);
            let g = simplify(&g).unwrap();
            let inputs = vec![("ids".to_string(), ids.clone())];
            for backend in [Backend::Runtime(MemoryMode::Lean), Backend::Evaluator] {
                // The names are nothing to the evaluator.
                if backend == Backend::Evaluator && keys != KeyLayout::OpenClip {
                    continue;
                }
                let found = compute(backend, &checkpoint, &g, &inputs);
                assert_eq!(found.len(), 3);
                for (output, found) in found {
                    let expected = golden(&format!("{name}/{output}")).to_f64();
                    let (worst, _) = difference(&found.data, &expected);
                    println!("{keys:?} {name:<9} {backend:?} {output:<22} {worst:.1e}");
                    assert!(worst < 1e-4, "{keys:?} {name} {backend:?} {output}: {worst}");
                }
            }
        }
    }
}

/// The choice of states is the configuration's; the ids must be whole prompts.
#[test]
fn the_configuration_chooses_the_states() {
    let checkpoint = open("tower.safetensors");
    let (g, w) = (Graph::new(), Weights::new(&checkpoint));
    let ids = g.input("ids", Dtype::I64, [2, 77]).unwrap();
    let cut = g.input("cut", Dtype::I64, [2, 76]).unwrap();
    let last = encoder(KeyLayout::OpenClip, Activation::Gelu, HiddenState::Last);
    let text = text_encoder::encode(&g, &w, &last, ids).unwrap();
    assert_eq!(text.hidden, text.last);
    assert_eq!((*g.shape(text.hidden)).to_vec(), [2, 77, 24]);
    assert_eq!((*g.shape(text.pooled)).to_vec(), [2, 28]);
    let penultimate = TextEncoder { hidden: HiddenState::Penultimate, ..last };
    let text = text_encoder::encode(&g, &w, &penultimate, ids).unwrap();
    assert_ne!(text.hidden, text.last);
    let message = text_encoder::encode(&g, &w, &penultimate, cut).unwrap_err().to_string();
    assert_eq!(message, "token ids: expected [B, 77], found [2, 76]");
}

/// `strings.json` starts with the prompts whose padded and cut ids are in the golden file.
#[test]
fn padded_ids_equal_the_reference() {
    #[derive(serde::Deserialize)]
    struct Strings {
        clip: Vec<(String, Option<Vec<u32>>, Vec<u32>)>,
    }
    let strings: Strings = serde_json::from_str(include_str!("../../data/tokenizer/strings.json")).unwrap();
    let tokenizer = PromptTokenizer::new(MERGES, Flavor::OpenClip, 77, 0).unwrap();
    let (prompts, models) = (golden("token_ids"), golden("model_input_ids"));
    let mut compared = 0;
    for ((text, open_clip, _), expected) in strings.clip.iter().zip(prompts.to_i64().chunks(77)) {
        // Where ftfy repairs mojibake, there are no ids to compare with.
        if open_clip.is_some() {
            assert_eq!(tokenizer.encode(text), expected, "{text:?}");
            compared += 1;
        }
    }
    assert_eq!(compared, 23);
    let texts: Vec<&str> = strings.clip[..8].iter().map(|(text, ..)| text.as_str()).collect();
    let batch = tokenizer.encode_batch(&texts);
    assert_eq!((batch.shape().to_vec(), batch.to_i64()), (vec![8, 77], models.to_i64()));

    let hugging_face = PromptTokenizer::new(MERGES, Flavor::HuggingFace, 77, ClipBpe::END).unwrap();
    for (text, _, ids) in &strings.clip {
        let mut expected = vec![i64::from(ClipBpe::START)];
        expected.extend(ids.iter().take(75).map(|&id| i64::from(id)));
        expected.resize(77, i64::from(ClipBpe::END));
        assert_eq!(hugging_face.encode(text), expected, "{text:?}");
    }
}

#[test]
fn a_model_file_holds_the_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let full = |hidden| {
        let mut cfg = encoder(KeyLayout::OpenClip, Activation::QuickGelu, hidden);
        cfg.tower.vocab_size = ClipBpe::VOCABULARY;
        cfg
    };
    let cfg = full(HiddenState::Penultimate);
    cfg.validate("the test").unwrap();
    let bpe = ClipBpe::from_vocabulary_bytes(MERGES).unwrap();
    let stored = text_encoder::vocabulary(&bpe).unwrap();
    let file = |name: &str, tensor: Tensor| {
        write(&folder.path().join(name), vec![("text.vocabulary".to_string(), tensor)])
    };
    let tokenizer = |checkpoint: &Checkpoint| cfg.tokenizer(&Weights::new(checkpoint).at("text"));
    let found = tokenizer(&file("good", stored.clone())).unwrap();
    assert_eq!(found.context_length(), 77);
    assert_eq!(
        found.encode("A photo of a jay."),
        PromptTokenizer::new(MERGES, Flavor::OpenClip, 77, 0).unwrap().encode("A photo of a jay.")
    );

    let bytes = |data: &[u8]| Tensor::new(Dtype::U8, [data.len()], data).unwrap();
    let long = [MERGES, &b"a b\n".repeat(1 << 20)].concat();
    for (name, tensor, message) in [
        ("matrix", stored.reshaped([5, stored.shape()[0] / 5]).unwrap(), "u8[5, 104921]"),
        ("floats", Tensor::from_f32([3], &[0.0; 3]), "expected u8[bytes], found f32[3]"),
        ("empty", bytes(b""), "line 1"),
        ("not text", bytes(&[0xFF; 64]), "UTF-8"),
        ("cut", bytes(&MERGES[..300_000]), "line"),
        ("long", bytes(&long), "size: expected at most 4194304 bytes"),
    ] {
        let error = tokenizer(&file(name, tensor)).unwrap_err().to_string();
        assert!(error.contains(message), "{name}: {error}");
    }
    let other = write(&folder.path().join("other"), vec![("other".to_string(), stored)]);
    let error = tokenizer(&other).unwrap_err().to_string();
    assert!(error.starts_with("tensor 'text.vocabulary': expected shape [bytes], found no such"), "{error}");
}

#[test]
fn configurations_read_back_and_are_checked() {
    let mut cfg = encoder(KeyLayout::HuggingFace, Activation::Gelu, HiddenState::Penultimate);
    cfg.tower.vocab_size = ClipBpe::VOCABULARY;
    (cfg.flavor, cfg.pad_id) = (Flavor::HuggingFace, ClipBpe::END);
    cfg.validate("f").unwrap();
    let json = serde_json::to_value(&cfg).unwrap();
    assert_eq!(
        (json["flavor"].as_str(), json["hidden"].as_str()),
        (Some("hugging_face"), Some("penultimate"))
    );
    assert_eq!(serde_json::from_value::<TextEncoder>(json).unwrap(), cfg);

    let message = |change: &dyn Fn(&mut TextEncoder)| {
        let mut bad = cfg.clone();
        change(&mut bad);
        bad.validate("f").unwrap_err().to_string()
    };
    assert_eq!(
        message(&|c| c.tower.vocab_size = 110),
        "f: config 'vocab_size': expected CLIP's 49408, found 110"
    );
    assert_eq!(
        message(&|c| c.context_length = 78),
        "f: config 'context_length': expected 2 to max_position_embeddings 77, found 78"
    );
    assert!(message(&|c| c.context_length = 1).contains("context_length"));
    assert_eq!(message(&|c| c.pad_id = 49408), "f: config 'pad_id': expected 0 to 49407, found 49408");
    assert!(message(&|c| c.tower.hidden_size = 0).contains("hidden_size"));
    for (context, pad, expected) in [(1, 0, "context_length"), (77, 49408, "pad_id")] {
        let error = PromptTokenizer::new(MERGES, Flavor::OpenClip, context, pad).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

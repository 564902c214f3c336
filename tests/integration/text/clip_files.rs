//! Every public container of CLIP's vocabulary gives the same tokenizer, and a broken one is named.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use softdimo::Error;
use softdimo::text::{ClipBpe, ClipFiles};
use support::checkpoints::{MERGES, vocabulary_ids};

/// A merges file as published: a header, and in OpenAI's more merges than are used.
fn merges_file(more: &str) -> Vec<u8> {
    format!("\"bpe_simple_vocab_16e6.txt#version: 0.2\n{MERGES}{more}").into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `tokenizer.json` with merges as text, or as pairs.
fn tokenizer_json(pairs: bool) -> Value {
    let merge = |line: &str| match pairs {
        true => json!(line.split(' ').collect::<Vec<_>>()),
        false => json!(line),
    };
    json!({
        "version": "1.0",
        "padding": null,
        "added_tokens": [
            {"id": 49406, "content": "<|startoftext|>", "special": true},
            {"id": 49407, "content": "<|endoftext|>", "special": true},
        ],
        "normalizer": {"type": "Sequence", "normalizers": []},
        "model": {
            "type": "BPE",
            "unk_token": "<|endoftext|>",
            "end_of_word_suffix": "</w>",
            "vocab": vocabulary_ids(),
            "merges": MERGES.lines().map(merge).collect::<Vec<_>>(),
        },
    })
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(folder.join(name), bytes).unwrap();
}

fn json_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

#[test]
fn all_containers_are_one_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let sub = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let more = "not used\n\u{FFFD} é\n";
    write(folder.path(), "bpe.txt.gz", gzip(&merges_file(more)));
    write(folder.path(), "bpe.txt", merges_file(more));
    let both = sub("both");
    write(&both, "merges.txt", merges_file(""));
    write(&both, "vocab.json", json_bytes(&vocabulary_ids()));
    let old = sub("old");
    write(&old, "tokenizer.json", json_bytes(&tokenizer_json(false)));
    let new = sub("new");
    write(&new, "tokenizer.json", json_bytes(&tokenizer_json(true)));
    // Two gzip members in a row are one text.
    let whole = merges_file("");
    let (head, tail) = whole.split_at(1000);
    write(folder.path(), "members.gz", [gzip(head), gzip(tail)].concat());

    for (container, pad_id) in [
        ("bpe.txt.gz", 0),
        ("members.gz", 0),
        ("bpe.txt", 0),
        ("both", ClipBpe::END),
        ("old", ClipBpe::END),
        ("new", ClipBpe::END),
        ("new/tokenizer.json", ClipBpe::END),
    ] {
        let found = ClipFiles::open(folder.path().join(container)).unwrap();
        assert!(found.bpe.vocabulary_bytes() == MERGES.as_bytes(), "{container}");
        assert_eq!(found.pad_id, pad_id, "{container}");
    }
}

#[test]
fn the_pad_token_is_the_folders() {
    let folder = tempfile::tempdir().unwrap();
    let mut tokenizer = tokenizer_json(false);
    tokenizer["padding"] = json!({"strategy": "BatchLongest", "pad_id": 3, "pad_token": "$"});
    write(folder.path(), "tokenizer.json", json_bytes(&tokenizer));
    let pad_id = || ClipFiles::open(folder.path()).unwrap().pad_id;
    assert_eq!(pad_id(), 3);
    write(folder.path(), "special_tokens_map.json", r#"{"pad_token": "!", "bos_token": {"content": "x"}}"#);
    assert_eq!(pad_id(), 0);
    write(folder.path(), "tokenizer_config.json", r#"{"pad_token": null, "model_max_length": 77}"#);
    assert_eq!(pad_id(), 0);
    write(folder.path(), "tokenizer_config.json", r#"{"pad_token": {"content": "<|endoftext|>"}}"#);
    assert_eq!(pad_id(), ClipBpe::END);
    write(folder.path(), "tokenizer_config.json", r#"{"pad_token": "<pad>"}"#);
    let error = ClipFiles::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("pad_token: expected a symbol of the vocabulary, found \"<pad>\"")
            && error.contains("tokenizer_config.json"),
        "{error}"
    );
}

#[test]
fn a_broken_container_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let error = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        match ClipFiles::open(&path).unwrap_err() {
            Error::Format { file, what, expected, found } => {
                assert!(file.starts_with(path.to_str().unwrap()), "{file}");
                format!("{what}: {expected}, {found}")
            }
            other => panic!("{other}"),
        }
    };
    let packed = gzip(&merges_file(""));
    assert!(error(&packed[..packed.len() / 2]).starts_with("contents: gzip data"));
    let mut flipped = packed.clone();
    let crc = flipped.len() - 8;
    flipped[crc] ^= 1;
    assert!(error(&flipped).starts_with("contents: gzip data"));
    let bomb = gzip(&vec![b'a'; (32 << 20) + 1]);
    assert!(bomb.len() < 1 << 20 && error(&bomb).ends_with("33554432 bytes unpacked, more"));
    assert!(error(&gzip(b"no header\n")).starts_with("line 1: a header"));
    assert!(error(b"").starts_with("line 1: a header"));
    assert!(error(&merges_file("").as_slice()[..5000]).starts_with("line "));
    assert!(error(b"{").starts_with("contents: the JSON of a CLIP tokenizer"));
    assert!(error(b"{\"model\": 3}").starts_with("contents: the JSON of a CLIP tokenizer"));
    assert!(error(&b"[".repeat(100_000)).starts_with("line 1"));

    let good = tokenizer_json(false);
    let changed = |key: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(key).unwrap() = value;
        error(&json_bytes(&changed))
    };
    assert_eq!(changed("/model/type", json!("WordPiece")), "model.type: BPE, \"WordPiece\"");
    assert_eq!(changed("/model/end_of_word_suffix", json!("")), "model.end_of_word_suffix: \"</w>\", \"\"");
    assert_eq!(changed("/model/vocab/!", json!(7)), "symbol \"!\": id 0, as the merges give, 7");
    assert!(changed("/model/vocab/!", json!(-7)).starts_with("contents"));
    assert!(changed("/model/merges/20", json!("zz zz")).starts_with("line 21: two symbols that earlier"));
    assert!(changed("/model/merges/20", json!(["a b", "c"])).starts_with("line 21"));
    assert!(changed("/model/merges/20", json!(["a\nb", "c"])).starts_with("line 48895"));
    assert!(changed("/model/merges", json!([])).starts_with("line 1: 48894 merges"));
    assert_eq!(
        changed("/padding", json!({"pad_id": 49408})),
        "padding.pad_id: an id of the vocabulary, 49408"
    );
    let mut more = good.clone();
    more["added_tokens"][0] = json!({"id": 49408, "content": "<new>"});
    assert_eq!(error(&json_bytes(&more)), "symbols: 49408, 49409");
    more["model"]["vocab"].as_object_mut().unwrap().remove("<|startoftext|>");
    assert!(error(&json_bytes(&more)).ends_with("no such symbol"));

    let missing = folder.path().join("missing");
    assert!(matches!(ClipFiles::open(&missing), Err(Error::NotFound { .. })));
    fs::create_dir(&missing).unwrap();
    assert!(
        matches!(ClipFiles::open(&missing), Err(Error::NotFound { path }) if path.ends_with("tokenizer.json"))
    );
    write(&missing, "merges.txt", merges_file(""));
    assert!(
        matches!(ClipFiles::open(&missing), Err(Error::NotFound { path }) if path.ends_with("vocab.json"))
    );
    write(&missing, "vocab.json", r#"{"!": 0}"#);
    assert!(ClipFiles::open(&missing).unwrap_err().to_string().contains("no such symbol"));
}

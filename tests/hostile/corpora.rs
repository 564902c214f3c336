//! The bodies of the fuzz targets over their corpora, on any compiler: the seeds in `fuzz/corpus`, whole files of every kind, and
//! mutations of both. Nothing panics.

use std::path::Path;

use support::rewards::{clip_score, convert};
use support::safetensors_file::File;
use support::{data, maskbit, root};

use super::{Random, mutate};

#[path = "../../fuzz/bodies.rs"]
mod bodies;

/// Files that are too large for the repository, made here.
fn made(target: &str, folder: &Path) -> Vec<Vec<u8>> {
    let read = |path: &Path| std::fs::read(path).unwrap();
    match target {
        "safetensors" => vec![read(&data("torch/small.safetensors"))],
        "torch" => ["linear.pth", "small.proto2.pth", "small.proto4.legacy.pth"]
            .map(|name| read(&data("torch").join(name)))
            .into(),
        "model" => {
            let int4 = maskbit::stored(folder, softdimo::convert::Storage::Int4);
            [maskbit::labelled(folder), int4].map(|path| File::read(&path).bytes()).into()
        }
        "golden" => vec![read(&data("emoji-32.golden.safetensors"))],
        "reward" => {
            let clip = clip_score(&folder.join("clip")).source;
            vec![File::read(&convert(&clip, folder, "clip")).bytes()]
        }
        "tokenizer" => ["clip-merges.txt", "bert-vocab.txt"]
            .map(|name| {
                [
                    b"a red apple <|endoftext|> na\xc3\xafve".as_slice(),
                    b"\n",
                    &read(&data("tokenizer").join(name)),
                ]
                .concat()
            })
            .into(),
        "png" => Vec::new(),
        other => panic!("no seeds for {other}"),
    }
}

/// A digit for a digit, somewhere in the first 64 KiB: sizes, offsets and shapes in JSON.
fn change_digit(file: &mut [u8], random: &mut Random) {
    let reach = file.len().min(1 << 16);
    let at = random.below(reach);
    if let Some(digit) = file[at..reach].iter().position(u8::is_ascii_digit) {
        file[at + digit] = b'0' + random.below(10) as u8;
    }
}

/// A safetensors header keeps its length when its JSON changes, so that the mutation is read at all.
fn set_header_length(file: &mut [u8], data: usize) {
    if let Some(length) = file.len().checked_sub(8 + data) {
        file[..8].copy_from_slice(&(length as u64).to_le_bytes());
    }
}

fn replay(name: &str, rounds: usize) {
    let &(_, body) = bodies::TARGETS.iter().find(|(target, _)| *target == name).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut seeds = made(name, folder.path());
    let corpus = root().join("fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&corpus).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    seeds.extend(files.iter().map(|file| std::fs::read(file).unwrap()));
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| body(seed));
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..rounds {
        let seed = &seeds[round % seeds.len()];
        let mut file = seed.clone();
        for _ in 0..=random.below(4) {
            match random.below(2) {
                0 => mutate(&mut file, &mut random),
                _ => change_digit(&mut file, &mut random),
            }
        }
        let header = seed.get(..8).map(|b| u64::from_le_bytes(b.try_into().unwrap()) as usize);
        if let Some(data) = header.and_then(|n| seed.len().checked_sub(8 + n))
            && random.below(4) > 0
        {
            set_header_length(&mut file, data);
        }
        body(&file);
    }
}

#[test]
fn corpus_safetensors() {
    replay("safetensors", 4000);
}

#[test]
fn corpus_torch() {
    replay("torch", 4000);
}

#[test]
fn corpus_png() {
    replay("png", 4000);
}

#[test]
fn corpus_model() {
    replay("model", 300);
}

#[test]
fn corpus_golden() {
    replay("golden", 300);
}

#[test]
fn corpus_reward() {
    replay("reward", 100);
}

#[test]
fn corpus_tokenizer() {
    replay("tokenizer", 60);
}

/// Every target has a program, a corpus and a test.
#[test]
fn every_target_is_replayed() {
    let (cargo, tests) = ("fuzz/Cargo.toml", "tests/hostile/corpora.rs");
    let [cargo, tests] = [cargo, tests].map(|file| std::fs::read_to_string(root().join(file)).unwrap());
    let mut total = 0;
    for (name, _) in bodies::TARGETS {
        assert!(cargo.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(tests.contains(&format!("replay(\"{name}\", ")), "{name}");
        assert!(root().join("fuzz/fuzz_targets").join(name).with_extension("rs").exists(), "{name}");
        let corpus = std::fs::read_dir(root().join("fuzz/corpus").join(name)).unwrap();
        total += corpus.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>();
    }
    assert!(total < 200_000, "{total} bytes of corpora");
}

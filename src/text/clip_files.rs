//! The public containers of CLIP's vocabulary. All hold the same merges and give the same tokenizer.
//!
//! | container | of | pads with |
//! |---|---|---|
//! | `bpe_simple_vocab_16e6.txt.gz`, also unpacked | openai/CLIP, open_clip | 0 |
//! | `merges.txt` and `vocab.json` | a Hugging Face tokenizer folder | `pad_token` |
//! | `tokenizer.json` | the same | `pad_token`, or the file's `padding` |
//!
//! `pad_token` is in `tokenizer_config.json` or `special_tokens_map.json` beside them; where none is,
//! `CLIPTokenizer` takes `<|endoftext|>`. The ids of `vocab.json` and `tokenizer.json` are checked against
//! those that the merges give.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::clip_bpe::ClipBpe;
use crate::error::{Error, Result};

/// Longest file that is read, packed or unpacked, in bytes; the real ones have at most 3.5 MB.
const FILE_LIMIT: u64 = 32 << 20;

/// A CLIP tokenizer and what its container says about padding.
#[derive(Debug)]
pub struct ClipFiles {
    pub bpe: ClipBpe,
    /// The id after the end of a prompt.
    pub pad_id: u32,
}

impl ClipFiles {
    /// Names under which a vocabulary lies beside its checkpoint, in the order of preference.
    pub(crate) const NAMES: [&str; 4] =
        ["merges.txt", "tokenizer.json", "bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt"];

    /// Reads a container: a folder with `merges.txt` and `vocab.json`, or with `tokenizer.json`; or one file,
    /// a `tokenizer.json`, a merges file or a packed one, told apart by content.
    ///
    /// # Errors
    /// `NotFound`, `Io`; `Format` naming the file and the line, symbol or key that is wrong.
    pub fn open(path: impl AsRef<Path>) -> Result<ClipFiles> {
        let path = path.as_ref();
        if path.is_dir() {
            let merges = path.join("merges.txt");
            return match merges.exists() {
                true => ClipFiles::open_folder(path, &merges),
                false => ClipFiles::open_json(path, &path.join("tokenizer.json")),
            };
        }
        let bytes = read(path)?;
        let file = path.display().to_string();
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => ClipFiles::open_json(path.parent().unwrap_or(Path::new("")), path),
            Some(0x1F) => {
                Ok(ClipFiles { bpe: ClipBpe::parse_merges(&file, &unpack(&file, &bytes)?)?, pad_id: 0 })
            }
            _ => Ok(ClipFiles { bpe: ClipBpe::parse_merges(&file, &bytes)?, pad_id: 0 }),
        }
    }

    fn open_folder(folder: &Path, merges: &Path) -> Result<ClipFiles> {
        let bpe = ClipBpe::parse_merges(&merges.display().to_string(), &read(merges)?)?;
        let vocabulary = folder.join("vocab.json");
        check_ids(&bpe, &vocabulary.display().to_string(), &read_json(&vocabulary)?)?;
        let pad_id = pad_token(folder, &bpe)?.unwrap_or(ClipBpe::END);
        Ok(ClipFiles { bpe, pad_id })
    }

    fn open_json(folder: &Path, path: &Path) -> Result<ClipFiles> {
        let TokenizerJson { model, added_tokens, padding } = read_json(path)?;
        let file = path.display().to_string();
        let bad = |what: &str, expected: &str, found: String| Error::Format {
            file: file.clone(),
            what: what.into(),
            expected: expected.into(),
            found,
        };
        if model.kind != "BPE" {
            return Err(bad("model.type", "BPE", format!("{:?}", model.kind)));
        }
        if model.end_of_word_suffix != "</w>" {
            return Err(bad(
                "model.end_of_word_suffix",
                "\"</w>\"",
                format!("{:?}", model.end_of_word_suffix),
            ));
        }
        let mut text = String::new();
        for merge in &model.merges {
            text += &match merge {
                Merge::Text(merge) => format!("{merge}\n"),
                Merge::Pair([left, right]) => format!("{left} {right}\n"),
            };
        }
        let bpe = ClipBpe::parse_vocabulary(&format!("{file}: model.merges"), text.as_bytes())?;
        let mut vocabulary = model.vocab;
        for token in added_tokens {
            vocabulary.entry(token.content).or_insert(token.id);
        }
        check_ids(&bpe, &file, &vocabulary)?;
        let pad_id = match (pad_token(folder, &bpe)?, padding.map(|padding| padding.pad_id)) {
            (Some(id), _) => id,
            (None, Some(id)) if id as usize >= ClipBpe::VOCABULARY => {
                return Err(bad("padding.pad_id", "an id of the vocabulary", id.to_string()));
            }
            (None, Some(id)) => id,
            (None, None) => ClipBpe::END,
        };
        Ok(ClipFiles { bpe, pad_id })
    }
}

/// The part of `tokenizer.json` that is read.
#[derive(Deserialize)]
struct TokenizerJson {
    model: BpeModel,
    #[serde(default)]
    added_tokens: Vec<Added>,
    padding: Option<Padding>,
}

#[derive(Deserialize)]
struct BpeModel {
    #[serde(rename = "type")]
    kind: String,
    end_of_word_suffix: String,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

/// A merge as written by tokenizers before and since 0.20.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair([String; 2]),
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Padding {
    pad_id: u32,
}

/// A token as text, or as an object around it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

#[derive(Deserialize)]
struct Specials {
    pad_token: Option<Token>,
}

/// A vocabulary's bytes, unpacked where it is a gzip file.
///
/// # Errors
/// `NotFound`, `Io`; `Format` for one that is too long or no gzip file in spite of how it begins.
pub(crate) fn read_vocabulary(path: &Path) -> Result<Vec<u8>> {
    let bytes = read(path)?;
    match bytes.starts_with(&[0x1F, 0x8B]) {
        true => unpack(&path.display().to_string(), &bytes),
        false => Ok(bytes),
    }
}

/// The contents of a gzip file; `file` is named in the errors.
fn unpack(file: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let broken = |found: String| Error::Format {
        file: file.into(),
        what: "contents".into(),
        expected: format!("gzip data of at most {FILE_LIMIT} bytes unpacked"),
        found,
    };
    MultiGzDecoder::new(bytes)
        .take(FILE_LIMIT + 1)
        .read_to_end(&mut text)
        .map_err(|error| broken(error.to_string()))?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(broken("more".into()));
    }
    Ok(text)
}

/// An error unless `vocabulary` has every symbol of `bpe` under its id, and no other.
fn check_ids(bpe: &ClipBpe, file: &str, vocabulary: &HashMap<String, u32>) -> Result<()> {
    let bad = |what: String, expected: String, found: String| Error::Format {
        file: file.into(),
        what,
        expected,
        found,
    };
    for (symbol, id) in bpe.symbols() {
        let found = match vocabulary.get(&symbol) {
            Some(found) if *found == id => continue,
            Some(found) => found.to_string(),
            None => "no such symbol".into(),
        };
        return Err(bad(format!("symbol {symbol:?}"), format!("id {id}, as the merges give"), found));
    }
    match vocabulary.len() {
        ClipBpe::VOCABULARY => Ok(()),
        more => Err(bad("symbols".into(), ClipBpe::VOCABULARY.to_string(), more.to_string())),
    }
}

/// The id of the folder's `pad_token`; `None` where no file names one.
fn pad_token(folder: &Path, bpe: &ClipBpe) -> Result<Option<u32>> {
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        let path = folder.join(name);
        if !path.exists() {
            continue;
        }
        let Specials { pad_token } = read_json(&path)?;
        let (Some(Token::Text(token)) | Some(Token::Object { content: token })) = pad_token else { continue };
        let id = bpe.symbols().find_map(|(symbol, id)| (symbol == token).then_some(id));
        return id.map(Some).ok_or_else(|| Error::Format {
            file: path.display().to_string(),
            what: "pad_token".into(),
            expected: "a symbol of the vocabulary".into(),
            found: format!("{token:?}"),
        });
    }
    Ok(None)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&read(path)?).map_err(|error| Error::Format {
        file: path.display().to_string(),
        what: "contents".into(),
        expected: "the JSON of a CLIP tokenizer".into(),
        found: error.to_string(),
    })
}

/// The whole file, if it is of a sensible size.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| Error::io(path, error))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(Error::Format {
            file: path.display().to_string(),
            what: "size".into(),
            expected: format!("at most {FILE_LIMIT} bytes"),
            found: "more".into(),
        });
    }
    Ok(bytes)
}

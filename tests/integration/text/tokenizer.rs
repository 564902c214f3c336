//! The tokenizers against ids the reference implementations gave, and against hostile input.

use softdimo::Error;
use softdimo::rng::{Philox, Stream};
use softdimo::text::{ClipBpe, Flavor, WordPiece};
#[cfg(unix)]
use support::thread_cpu_time;

const MERGES: &[u8] = support::checkpoints::MERGES.as_bytes();
const PIECES: &[u8] = include_bytes!("../../data/tokenizer/bert-vocab.txt");
const STRINGS: &str = include_str!("../../data/tokenizer/strings.json");
const FLAVORS: [Flavor; 2] = [Flavor::OpenClip, Flavor::HuggingFace];

#[derive(serde::Deserialize)]
struct Strings {
    /// Text, ids of open_clip (none where ftfy repairs mojibake), ids of `CLIPTokenizerFast`.
    clip: Vec<(String, Option<Vec<u32>>, Vec<u32>)>,
    /// Text, ids cut to 35 but not padded.
    bert: Vec<(String, Vec<u32>)>,
}

fn strings() -> Strings {
    serde_json::from_str(STRINGS).unwrap()
}

fn clip() -> ClipBpe {
    ClipBpe::from_vocabulary_bytes(MERGES).unwrap()
}

fn bert() -> WordPiece {
    WordPiece::from_vocabulary(PIECES).unwrap()
}

#[test]
fn clip_ids_equal_the_references() {
    let clip = clip();
    for (text, open_clip, hugging_face) in strings().clip {
        if let Some(ids) = open_clip {
            assert_eq!(clip.encode(&text, Flavor::OpenClip), ids, "{text:?}");
        }
        assert_eq!(clip.encode(&text, Flavor::HuggingFace), hugging_face, "{text:?}");
    }
}

#[test]
fn clip_pads_and_cuts() {
    let clip = clip();
    let padded = |text: &str, context| clip.encode_padded(text, Flavor::OpenClip, context, 7);
    assert_eq!(padded("", 4), [ClipBpe::START, ClipBpe::END, 7, 7]);
    assert_eq!(padded("a cat", 4), [ClipBpe::START, 320, 2368, ClipBpe::END]);
    assert_eq!(padded("a cat cat", 4), [ClipBpe::START, 320, 2368, ClipBpe::END]);
    assert_eq!(padded("a cat", 1), [ClipBpe::END]);
    assert!(padded("a cat", 0).is_empty());
    for (text, _, ids) in strings().clip {
        let mut expected = [vec![ClipBpe::START], ids, vec![ClipBpe::END]].concat();
        if expected.len() > ClipBpe::CONTEXT {
            expected.truncate(ClipBpe::CONTEXT);
            expected[ClipBpe::CONTEXT - 1] = ClipBpe::END;
        }
        expected.resize(ClipBpe::CONTEXT, ClipBpe::END);
        let ids = clip.encode_padded(&text, Flavor::HuggingFace, ClipBpe::CONTEXT, ClipBpe::END);
        assert_eq!(ids, expected, "{text:?}");
    }
}

#[test]
fn bert_ids_equal_the_reference() {
    let bert = bert();
    for (text, mut expected) in strings().bert {
        let mut mask = vec![1; expected.len()];
        expected.resize(WordPiece::CONTEXT, 0);
        mask.resize(WordPiece::CONTEXT, 0);
        assert_eq!(bert.encode_padded(&text, WordPiece::CONTEXT), (expected, mask), "{text:?}");
    }
    assert_eq!(bert.encode_padded("a cat", 1), (vec![101], vec![1]));
    assert_eq!(bert.encode_padded("a cat", 0), (vec![], vec![]));
}

#[test]
fn a_merges_file_reads_like_the_stored_vocabulary() {
    let mut file = b"\"bpe_simple_vocab_16e6.txt#version: 0.2\n".to_vec();
    file.extend_from_slice(MERGES);
    let exact = ClipBpe::from_merges(&file).unwrap();
    assert!(exact.vocabulary_bytes() == MERGES);
    file.extend_from_slice(b"merges that are not used\n\xFF");
    assert!(ClipBpe::from_merges(&file).unwrap().vocabulary_bytes() == MERGES);
    let unterminated = ClipBpe::from_vocabulary_bytes(&MERGES[..MERGES.len() - 1]).unwrap();
    assert!(unterminated.vocabulary_bytes() == MERGES);
}

/// The line a format error names and what it found there.
fn format_error<T: std::fmt::Debug>(result: softdimo::Result<T>) -> (String, String) {
    match result {
        Err(Error::Format { what, found, .. }) => (what, found),
        other => panic!("expected a format error, found {other:?}"),
    }
}

#[test]
fn a_bad_vocabulary_is_named_by_its_line() {
    let line = |bytes: &[u8]| format_error(ClipBpe::from_vocabulary_bytes(bytes)).0;
    let head = |count: usize| -> Vec<u8> {
        MERGES.split_inclusive(|&byte| byte == b'\n').take(count).flatten().copied().collect()
    };
    assert_eq!(line(b""), "line 1");
    assert_eq!(line(&head(1000)), "line 1001");
    assert_eq!(line(&[MERGES, b"a b\n"].concat()), "line 48895");
    for garbage in [&b"x\n"[..], b"a  b\n", b"zz zz\n", b"\xFF \xFE\n", b"\n", b"i n\n", b"a b\r\n"] {
        assert_eq!(line(&[&head(20), garbage, b"e r\n"].concat()), "line 21", "{garbage:?}");
    }
    let (line, found) = format_error(ClipBpe::from_vocabulary_bytes(&vec![b'x'; 1 << 20]));
    assert!(line == "line 1" && found.len() < 60, "{found}");
    assert_eq!(format_error(ClipBpe::from_merges(MERGES)).0, "line 1");
    assert_eq!(format_error(ClipBpe::from_merges(b"#version\ni n\n")).0, "line 3");

    let line = |bytes: &[u8]| format_error(WordPiece::from_vocabulary(bytes)).0;
    assert_eq!(line(b""), "lines 1 to 0");
    assert_eq!(line(&PIECES[..1000]), "lines 1 to 93");
    for garbage in [&b"\n"[..], b"the\n", b"##s\n", b"\xFF\n"] {
        assert_eq!(line(&[PIECES, garbage].concat()), "line 30523", "{garbage:?}");
    }
}

#[test]
fn random_vocabularies_and_texts_do_no_harm() {
    let (clip, bert) = (clip(), bert());
    let random = Philox::new(20);
    let fragments = ["&amp;", "&#", "<|endoftext|>", "[CLS]", "'s", "e\u{301}", "\u{1B}[", " ", "ａ", "🦀"];
    for round in 0..2000u32 {
        let bits = |i: usize| random.u32_at(Stream::Gumbel, round, i as u64);
        let len = bits(0) as usize % 60;
        let text: String = (1..=len)
            .map(|i| match bits(i) {
                b if b % 3 == 0 => fragments[(b >> 8) as usize % fragments.len()].to_string(),
                b if b % 3 == 1 => char::from_u32(b >> 24).unwrap().to_string(),
                b => char::from_u32((b >> 8) % 0x110000).unwrap_or('\0').to_string(),
            })
            .collect();
        for flavor in FLAVORS {
            assert!(clip.encode(&text, flavor).iter().all(|&id| (id as usize) < ClipBpe::VOCABULARY));
            assert_eq!(clip.encode_padded(&text, flavor, 77, 0).len(), 77);
        }
        let (ids, mask) = bert.encode_padded(&text, 35);
        assert!(ids.len() == 35 && mask.len() == 35 && ids.iter().all(|&id| id < 30524));

        let bytes: Vec<u8> = (1..=len).map(|i| (bits(i) >> 8) as u8).collect();
        format_error(ClipBpe::from_vocabulary_bytes(&bytes));
        format_error(ClipBpe::from_merges(&bytes));
        format_error(WordPiece::from_vocabulary(&bytes));
    }
    for round in 0..20 {
        // One changed byte: mostly an undefined symbol, now and then another valid vocabulary.
        let bits = |i| random.u32_at(Stream::Confidence, round, i);
        let mut bytes = MERGES.to_vec();
        let at = bits(0) as usize % bytes.len();
        bytes[at] = bits(1) as u8;
        let _ = ClipBpe::from_vocabulary_bytes(&bytes);
        let _ = ClipBpe::from_vocabulary_bytes(&bytes[..at]);
    }
}

/// Eight times the text costs about eight times the work, not 64 times. The clock of a thread is too coarse on Windows, and
/// the other one tells what else the machine does.
#[cfg(unix)]
#[test]
fn long_texts_take_no_quadratic_time() {
    let (clip, bert) = (clip(), bert());
    let cost = |encode: &dyn Fn(&str), unit: &str, length: usize| {
        let text = unit.repeat(length / unit.len());
        let began = thread_cpu_time();
        encode(&text);
        (thread_cpu_time() - began).as_secs_f64()
    };
    let open_clip = |text: &str| drop(clip.encode(text, Flavor::OpenClip));
    let hugging_face = |text: &str| drop(clip.encode(text, Flavor::HuggingFace));
    let word_piece = |text: &str| drop(bert.encode(text));
    type Encode<'a> = &'a dyn Fn(&str);
    let all: [(&str, Encode); 3] =
        [("open_clip", &open_clip), ("hugging_face", &hugging_face), ("word_piece", &word_piece)];
    for unit in
        ["a", "ab", "!", "&amp;", "amp;", "&", "<", "[", "\u{301}", "'", "é", "word ", "\u{1B}[1;", "&#1"]
    {
        for (name, encode) in all {
            let short = (0..3).map(|_| cost(encode, unit, 1 << 15)).fold(f64::MAX, f64::min);
            let long = cost(encode, unit, 1 << 18);
            println!("{name} {unit:?}: {short:.1e} s, {long:.1e} s, {:.1}", long / short);
            assert!(long < 24.0 * short, "{name} {unit:?}: {short} s, eight times the text {long} s");
        }
    }
}
